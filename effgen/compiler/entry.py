"""A program as functions of the library: two that call its kernels one after the other, one that says what they take.

    run(image, logits, weights, workspace) -> int32
    trace(image, logits, weights, workspace, clock) -> int32
    array_size(number) -> int64

All arrays are flat and float32, `logits` holds all outputs; all but `image`, which is the user's, are aligned (see
`effgen.runtime.arrays`).
`clock` is int64 [steps + 1, 2]: the seconds and nanoseconds of the monotonic clock before each step and after the last.
Both return 0, or the number (from 1) of the step that failed, for want of memory. `array_size` is how many numbers the
array of that place (from 0) among `trace`'s has: whoever loads the library asks before there is memory for them.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.ir import Call, GlobalVar, PointerType, PrimType
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.compiler.program import IMAGE, Place, Program
from effgen.runtime.arrays import ALIGNMENT
from effgen.runtime.manifest import ARRAY_SIZE, RUN, TRACE

# clock_gettime's CLOCK_MONOTONIC, as Linux numbers it on every machine.
_MONOTONIC = 1
_STATUS = "int32"
_FLOAT_BYTES = 4


def module_from_program(program: Program, kernels: tvm.IRModule) -> tvm.IRModule:
    """The program's kernels, no longer seen from outside, with `run` and `trace`."""
    names = dict.fromkeys(step.kernel for step in program.steps)
    variables = {name: GlobalVar(name) for name in names}
    functions = {variables[name]: by_pointers(kernels[name]) for name in names}
    for name in (RUN, TRACE):
        functions[GlobalVar(name)] = _entry(name, program, variables)
    functions[GlobalVar(ARRAY_SIZE)] = _array_size(program)
    return tvm.IRModule(functions)


def by_pointers(kernel: PrimFunc) -> PrimFunc:
    """The kernel as a private function: pointers instead of tensor handles, a status (0: success) instead of nothing.

    Called directly, it checks nothing: the program is what makes its arguments right. About their alignment
    nothing is said here: `run` and `trace` do.
    """
    pointers = [tirx.Var(buffer.name, PointerType(PrimType(buffer.dtype))) for buffer in kernel.params]
    views = [tirx.DeclBuffer(buffer, data=pointer) for buffer, pointer in zip(kernel.params, pointers, strict=True)]
    body = tirx.SeqStmt([*views, kernel.body])  # the status is returned by effgen.kernels.lowering
    attrs = {key: value for key, value in kernel.attrs.items() if key != "global_symbol"}
    return PrimFunc(pointers, body, PrimType(_STATUS), tvm.ir.make_node("ir.DictAttrs", **attrs))


def _entry(name: str, program: Program, kernels: dict[str, GlobalVar]) -> PrimFunc:
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name(name)
        tir.func_attr({"global_symbol": name, "tirx.is_scheduled": True})
        tir.func_ret(PrimType(_STATUS))
        arrays = {
            array: _argument(array, (size // _FLOAT_BYTES,), "float32", 4 if array == IMAGE else ALIGNMENT)
            for array, size in program.sizes.items()
        }
        clock = _argument("clock", (len(program.steps) + 1, 2), "int64", 8) if name == TRACE else None
        for number, step in enumerate(program.steps):
            _read_clock(clock, number)
            status = Call(kernels[step.kernel], [_address(arrays, place) for place in step.places], ret_ty=_STATUS)
            with tir.If(tirx.NE(status, tirx.const(0, _STATUS))), tir.Then():
                tir.Return(tirx.const(number + 1, _STATUS))
        _read_clock(clock, len(program.steps))
        tir.Return(tirx.const(0, _STATUS))
    return builder.get()


def _array_size(program: Program) -> PrimFunc:
    sizes = [size // _FLOAT_BYTES for size in program.sizes.values()] + [2 * (len(program.steps) + 1)]
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name(ARRAY_SIZE)
        tir.func_attr({"global_symbol": ARRAY_SIZE, "tirx.is_scheduled": True})
        tir.func_ret(PrimType("int64"))
        asked = tir.arg("number", tirx.Var("number", "int32"))
        for number, size in enumerate(sizes):
            with tir.If(tirx.EQ(asked, tirx.const(number, "int32"))), tir.Then():
                tir.Return(tirx.const(size, "int64"))
        tir.Return(tirx.const(-1, "int64"))
    return builder.get()


def _argument(name: str, shape: tuple[int, ...], dtype: str, align: int) -> Buffer:
    """An argument whose data begins at a multiple of `align` bytes, which TVM takes for granted."""
    return tir.arg(name, tir.buffer(shape, dtype, align=align, layout=None))


def _read_clock(clock: Buffer | None, number: int) -> None:
    if clock is not None:
        tir.evaluate(tirx.call_extern("int32", "clock_gettime", _MONOTONIC, tirx.address_of(clock[number, 0])))


def _address(arrays: dict[str, Buffer], place: Place) -> tvm.ir.Expr:
    return tirx.address_of(arrays[place.array][place.offset // _FLOAT_BYTES])
