#!/usr/bin/env bash
# A TVM schedule changes the function that it was made of, which the caller still holds.
#
# A PrimFunc is immutable, and `Schedule(IRModule({"main": func}))` schedules a copy: the documentation's examples print
# the module before and after. One would guess that a function that Python holds can be scheduled twice.
#
# What happens (2026-11-30): after func.with_attr(...), which is how a function gets the name that a schedule looks it up
# by, both share one body, and the schedule takes it for its own. split, parallel, rfactor and annotate change it in
# place, compute_inline and cache_write do not. The second schedule of the same function starts from what the first one
# left; no message. A trace of MetaSchedule's that is replayed on it then fails ("Check failed: old_outputs.size() ==
# new_outputs.size()"), or is another schedule. Writing the function to JSON and reading it back gives one of its own.
#
# Why it matters to who tunes ConvNets: candidates of one kernel are schedules of one definition, and a tuner that keeps
# the definition measures the second candidate on top of the first. effgen makes the definition anew for each
# (effgen/kernels/operator.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/python -m pip install --quiet apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1 numpy==2.4.6 psutil
cat > kept.py <<'PY'
"""One step of a schedule at a time, each on a function of its own that is kept."""

import sys
from importlib.metadata import version

import tvm
import tvm_ffi
from tvm import s_tir, te, topi

x = te.placeholder((6, 20), name="x")
text = tvm.ir.save_json(te.create_prim_func([x, topi.sum(x, axis=1)]))


def loops(sch):
    return sch.get_loops(sch.get_sblock("x_red"))


STEPS = {
    "none": lambda sch: None,
    "split": lambda sch: sch.split(loops(sch)[1], [2, None]),
    "parallel": lambda sch: sch.parallel(loops(sch)[0]),
    "annotate": lambda sch: sch.annotate(sch.get_sblock("x_red"), "key", 1),
    "cache_write": lambda sch: sch.cache_write(sch.get_sblock("x_red"), 0, "global"),
}
print("apache-tvm", version("apache-tvm"))
changed = []
for name, step in STEPS.items():
    kept = tvm.ir.load_json(text)
    step(s_tir.Schedule(tvm.IRModule({"main": kept.with_attr("global_symbol", "main")})))
    same = tvm_ffi.structural_equal(tvm.ir.load_json(text), kept)
    changed += [] if same else [name]
    print(f"{name}: the function that was kept is {'as it was' if same else 'CHANGED'}")
sys.exit(changed != ["split", "parallel", "annotate"])
PY
env/bin/python kept.py
