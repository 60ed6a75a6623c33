#!/usr/bin/env bash
# TVM sizes a buffer by the variable of a loop that lies inside the buffer's scope.
#
# A kernel that goes down an image keeps the rows that its windows need in a small ring: in each step it copies as many
# new rows as the stride, "if there are so many left", to slot (row % slots). One would guess that the condition costs a
# comparison, and that a buffer declared with four slots has at most four.
#
# What happens (2026-11-30): TVM shrinks buffers to what is accessed (its pass CompactBufferAllocation). Where the condition bounds the row, and there is one
# step, it takes "row + 1" for the number of slots needed: an extent that holds the variable of a loop, for an allocation
# that lies outside of that loop. Lowering then ends with "variable v has been used before definition", which names
# neither the buffer nor the pass. With two steps, or without the condition, the same kernel compiles and is right.
#
# Why it matters to who compiles ConvNets: it takes a depthwise convolution whose stride is larger than what is left of
# the image, which the last layers of a network at a small resolution have and the usual sizes do not. effgen writes
# the loop so that it ends where the rows do (effgen/kernels/depthwise.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/python -m pip install --quiet apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1 numpy==2.4.6 psutil
cat > ring.py <<'PY'
"""Every `stride`th row, doubled, by way of a ring of `stride` slots."""

import sys

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as tir

COLUMNS = 8


def kernel(rows: int, stride: int, steps: int, condition: bool) -> tirx.PrimFunc:
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name("double")
        tir.func_attr({"global_symbol": "double", "tirx.is_scheduled": True})
        image = tir.arg("image", tir.buffer((rows, COLUMNS), "float32", layout=None))
        out = tir.arg("out", tir.buffer((steps, COLUMNS), "float32", layout=None))
        ring = tir.alloc_buffer((stride, COLUMNS), "float32", scope="global", layout=None)

        def copy(row: tvm.ir.Expr) -> None:
            with tir.serial(0, COLUMNS) as column:
                tir.buffer_store(ring, image[row, column], [row % stride, column])

        with tir.serial(0, steps) as step:
            with tir.serial(0, stride) as new:
                if condition:
                    with tir.If(step * stride + new < rows), tir.Then():
                        copy(step * stride + new)
                else:
                    copy(step * stride + new)
            with tir.serial(0, COLUMNS) as column:
                tir.buffer_store(out, ring[step * stride % stride, column] * 2.0, [step, column])
    return builder.get()


def outcome(rows: int, stride: int, steps: int, condition: bool) -> str:
    image = np.arange(rows * COLUMNS, dtype="float32").reshape(rows, COLUMNS)
    try:
        built = tvm.compile(tvm.IRModule({"double": kernel(rows, stride, steps, condition)}), "llvm")
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
    out = tvm.runtime.tensor(np.zeros((steps, COLUMNS), "float32"))
    built["double"](tvm.runtime.tensor(image), out)
    return "right" if (out.numpy() == 2 * image[::stride][:steps]).all() else "wrong"


print("TVM", tvm.__version__)
found = {}
for name, case in {
    "one row of a stride of 3, under the condition": (1, 3, 1, True),
    "three rows of a stride of 3, without it": (3, 3, 1, False),
    "four rows, two steps, under the condition": (4, 3, 2, True),
}.items():
    found[name] = outcome(*case)
    print(f"{name}: {found[name]}")
first, *others = found.values()
sys.exit(0 if "used before definition" in first and others == ["right", "right"] else 1)
PY
env/bin/python ring.py
