#!/usr/bin/env bash
# TVM's private functions that take turns on one memory plan lose what they store for each other.
#
# A module of an entry function and private kernels that it calls with pointers into one workspace is the plainest way
# to a library without a runtime. One would guess that such a call is like one in C: what a function stores through its
# pointer is there for the next one, which gets the same pointer. Each kernel's own arguments never overlap.
#
# What happens (2026-11-30): TVM gives the accesses of each buffer variable a type of its own in LLVM's alias metadata
# (TBAA), by the variable. Within a kernel that is true. But LLVM inlines small kernels into the entry function, where
# "most" of the one and "b" of the other are one piece of memory, and the metadata still says that they never meet:
# loads pass stores. Compiled for a processor with AVX2, two rounds of "subtract the largest of each row" subtract it
# once; no message. Told to leave the metadata out (cl-opt -enable-tbaa=false) the same module is right; forbidding LLVM
# to inline by its threshold was not enough in a larger module.
#
# Why it matters to who compiles ConvNets: whether kernels are inlined depends on their size, so that only small
# networks, small layers and tails (softmax, normalisation of a vector) go wrong. effgen compiles without the metadata
# (effgen/kernels/lowering.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/python -m pip install --quiet apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1 numpy==2.4.6 psutil
cat > rows.py <<'PY'
"""x - largest(x) by row, twice, as two kernels called in turn on one workspace."""

import sys

import numpy as np
import tvm
from tvm import tirx
from tvm.ir import Call, GlobalVar, PointerType, PrimType
from tvm.tirx import BufferStore, ForKind

ROWS, WIDTH = 16, 4


def private(buffers, body):
    pointers = [tirx.Var(buffer.name, PointerType(PrimType("float32"))) for buffer in buffers]
    views = [tirx.DeclBuffer(buffer, data=pointer) for buffer, pointer in zip(buffers, pointers)]
    done = tirx.Return(tirx.const(0, "int32"))
    return tirx.PrimFunc(pointers, tirx.SeqStmt([*views, body, done]), PrimType("int32"))


def array(name, *shape):
    return tirx.decl_buffer(shape, "float32", name=name)


def loop(variable, extent, body, kind=ForKind.SERIAL):
    return tirx.For(variable, 0, extent, kind, body)


i, j = tirx.Var("i", "int32"), tirx.Var("j", "int32")
x, most = array("x", ROWS, WIDTH), array("most", ROWS)
start = BufferStore(most, tirx.const(-3e38, "float32"), [i])
more = loop(j, WIDTH, BufferStore(most, tirx.max(most[i], x[i, j]), [i]))
largest = private([x, most], loop(i, ROWS, tirx.SeqStmt([start, more])))

a, b, c = array("a", ROWS, WIDTH), array("b", ROWS), array("c", ROWS, WIDTH)
subtract = private(
    [a, b, c], loop(i, ROWS, loop(j, WIDTH, BufferStore(c, a[i, j] - b[i], [i, j]), ForKind.VECTORIZED))
)

image, out, work = array("image", ROWS * WIDTH), array("out", ROWS * WIDTH), array("work", ROWS + ROWS * WIDTH)
names = GlobalVar("largest"), GlobalVar("subtract")
between = work[ROWS]
calls = [
    Call(names[0], [tirx.address_of(image[0]), tirx.address_of(work[0])], ret_ty="int32"),
    Call(names[1], [tirx.address_of(image[0]), tirx.address_of(work[0]), tirx.address_of(between)], ret_ty="int32"),
    Call(names[0], [tirx.address_of(between), tirx.address_of(work[0])], ret_ty="int32"),
    Call(names[1], [tirx.address_of(between), tirx.address_of(work[0]), tirx.address_of(out[0])], ret_ty="int32"),
]
run = tirx.PrimFunc([image, out, work], tirx.SeqStmt([tirx.Evaluate(call) for call in calls]))
module = tvm.IRModule(
    {names[0]: largest, names[1]: subtract, GlobalVar("run"): run.with_attr("global_symbol", "run")}
)

target = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "haswell"}
if len(sys.argv) > 1:
    target["cl-opt"] = sys.argv[1:]
library = tvm.compile(module, tvm.target.Target(target))
data = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype("float32")
arrays = [tvm.runtime.tensor(each) for each in (data.reshape(-1), *(np.full(n, np.nan, "float32") for n in (64, 80)))]
library["run"](*arrays)
once = data - data.max(axis=1, keepdims=True)
expected = once - once.max(axis=1, keepdims=True)
wrong = np.flatnonzero((arrays[1].numpy().reshape(ROWS, WIDTH) != expected).any(axis=1))
print(f"{len(wrong)} of {ROWS} rows wrong")
PY
env/bin/python -c 'import tvm; print("tvm", tvm.__version__)'
plain=$(env/bin/python rows.py)
without=$(env/bin/python rows.py -enable-tbaa:bool=false)
echo "as it is: $plain; without types of buffers: $without"
[ "$without" = "0 of 16 rows wrong" ] || { echo "that has changed: was right"; exit 1; }
[ "$plain" != "0 of 16 rows wrong" ] || { echo "that has changed: was wrong"; exit 1; }
