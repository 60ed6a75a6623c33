#!/usr/bin/env bash
# TVM's compute_at computes 5 of 8 lanes of a block that leaves the last three of all out, in every vector.
#
# Channels in vectors of 8, of which the last one is not full (13 of 16), are written under a condition: lanes beyond the
# channels are left out. A schedule moves such a block to where its values are read, which must not change what is
# computed: compute_at refuses what it cannot do, with an error that names the reason.
#
# What happens (2026-11-30): it finds which part of the block is needed by turning [0, 13) back into vector and lane by
# digits, 13 - 1 = 1 * 8 + 4: vectors 0 to 1, lanes 0 to 4. Lanes 5 to 7 of the first vector are never written, whatever
# reads them gets what the memory held; there is no message. With all 16 channels the same schedule is right.
#
# Why it matters to who tunes ConvNets: MetaSchedule's sketches move blocks so, and channel counts that fill no whole
# number of vectors are common. A tuner that does not check its candidates keeps wrong ones: they do less. effgen writes
# such definitions over channels, not over vectors and lanes (effgen/kernels/plain.py), and checks every candidate.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/python -m pip install --quiet apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1 numpy==2.4.6 psutil
cat > lanes.py <<'PY'
"""Twice the input in vectors of 8 lanes, then plus one; the first block where it is, and moved to the second."""

import sys
from importlib.metadata import version

import numpy as np
import tvm
from tvm import s_tir
from tvm.script import tirx as T


@T.prim_func(s_tir=True)
def thirteen(a: T.Buffer((2, 8), "float32"), out: T.Buffer((13,), "float32")):
    T.func_attr({"global_symbol": "main", "tirx.noalias": True})
    doubled = T.sblock_alloc_buffer((13,), "float32")
    for c, l in T.grid(2, 8):
        with T.sblock("double"):
            vc, vl = T.axis.remap("SS", [c, l])
            if vc * 8 + vl < 13:
                doubled[vc * 8 + vl] = a[vc, vl] * T.float32(2)
    for i in T.serial(13):
        with T.sblock("add"):
            vi = T.axis.spatial(13, i)
            out[vi] = doubled[vi] + T.float32(1)


@T.prim_func(s_tir=True)
def sixteen(a: T.Buffer((2, 8), "float32"), out: T.Buffer((16,), "float32")):
    T.func_attr({"global_symbol": "main", "tirx.noalias": True})
    doubled = T.sblock_alloc_buffer((16,), "float32")
    for c, l in T.grid(2, 8):
        with T.sblock("double"):
            vc, vl = T.axis.remap("SS", [c, l])
            doubled[vc * 8 + vl] = a[vc, vl] * T.float32(2)
    for i in T.serial(16):
        with T.sblock("add"):
            vi = T.axis.spatial(16, i)
            out[vi] = doubled[vi] + T.float32(1)


def lanes_written(channels, moved):
    """Extents of the loops over the first block."""
    schedule = s_tir.Schedule(tvm.IRModule({"main": thirteen if channels == 13 else sixteen}))
    double, add = schedule.get_sblock("double"), schedule.get_sblock("add")
    if moved:
        (loop,) = schedule.get_loops(add)
        outer, _ = schedule.split(loop, [None, channels])
        schedule.compute_at(double, outer)
    extents = [int(schedule.get(loop).extent) for loop in schedule.get_loops(double)]
    return extents[-2:]


print("apache-tvm", version("apache-tvm"), "numpy", np.__version__)
found = []
for channels, moved in ((16, False), (16, True), (13, False), (13, True)):
    found.append(lanes_written(channels, moved))
    print(f"{channels} channels, {'moved' if moved else 'as defined'}: vectors and lanes computed {found[-1]}")
sys.exit(found != [[2, 8], [2, 8], [2, 8], [2, 5]])
PY
env/bin/python lanes.py
