"""Kernels -> a library with an entry for each, whose arrays lie where the caller likes.

In a bundle a kernel is a private function: of its arguments' alignment nothing is said to it. Here each has an entry of
its own that says as little, so that a buffer can end at the very byte before a forbidden page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
import tvm
import tvm_ffi
from guards.child import LIBRARY, Parameter
from numpy.typing import NDArray
from tvm import tirx
from tvm.ir import Call, GlobalVar, PrimType
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import PrimFunc, compilation_pipeline
from tvm.tirx.script.builder import ir as tir

from effgen.compiler.entry import by_pointers
from effgen.compiler.link import link_library
from effgen.kernels import lowering
from effgen.machines.machine import Cpu

#: TVM's lowering with the arrays of kernels on the heap, those too that belong on the stack: there each is guarded.
ON_HEAP = "effgen_guards"


@dataclass(frozen=True)
class Kernel:
    """A scheduled kernel. `values`: what of its arguments, by their places, cannot be random: indices."""

    name: str
    function: PrimFunc
    values: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def parameters(self) -> list[Parameter]:
        """Its arguments, flat; an output is what it stores to."""
        stored = _stored(self.function)
        return [
            Parameter(
                buffer.name,
                prod(map(int, buffer.shape)) * np.dtype(str(buffer.dtype)).itemsize,
                str(buffer.dtype),
                alignment=np.dtype(str(buffer.dtype)).itemsize,
                role="output" if any(buffer.same_as(other) for other in stored) else "input",
                values=f"{self.name}-{index}" if index in self.values else None,
            )
            for index, buffer in enumerate(self.function.params)
        ]


def _stored(function: PrimFunc) -> list[tirx.Buffer]:
    """The buffers that it stores to."""
    stored: list[tirx.Buffer] = []
    tvm_ffi.structural_walk(function.body, (tirx.BufferStore, lambda store: stored.append(store.buffer)))
    return stored


def build_library(kernels: Sequence[Kernel], machine: Cpu, folder: Path, pipeline: str = lowering.PIPELINE) -> None:
    """Write a library into `folder` whose functions are called as the kernels are, and what their arguments must hold
    beside it; the caller has entered the TVM target."""
    functions = {}
    for number, kernel in enumerate(kernels):
        variable = GlobalVar(f"kernel{number}")
        functions[variable] = by_pointers(kernel.function)
        functions[GlobalVar(kernel.name)] = _entry(kernel, variable)
        for index, array in kernel.values.items():
            array.tofile(folder / f"{kernel.name}-{index}")
    executable = tvm.compile(tvm.IRModule(functions), lowering.tvm_target(machine), tir_pipeline=pipeline)
    link_library(executable, machine, folder / LIBRARY)


def _entry(kernel: Kernel, variable: GlobalVar) -> PrimFunc:
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name(kernel.name)
        tir.func_attr({"global_symbol": kernel.name, "tirx.is_scheduled": True})
        tir.func_ret(PrimType("int32"))
        arrays = [
            tir.arg(
                f"argument{number}",
                tir.buffer(
                    (parameter.bytes // np.dtype(parameter.dtype).itemsize,),
                    parameter.dtype,
                    align=parameter.alignment,
                    layout=None,
                ),
            )
            for number, parameter in enumerate(kernel.parameters)
        ]
        tir.Return(Call(variable, [tirx.address_of(array[0]) for array in arrays], ret_ty="int32"))
    return builder.get()


def _arrays_on_heap() -> tuple[tvm.transform.Pass, tvm.transform.Pass, tvm.transform.Pass]:
    lower, finish_host, finish_device = compilation_pipeline.get_tir_pipeline("s_tir")
    finish = tirx.transform.prim_func_pass(_finished, opt_level=0, name="effgen.guards.Finish")
    return tvm.transform.Sequential([lower, finish]), finish_host, finish_device


def _finished(function: PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> PrimFunc:
    private = "global_symbol" not in function.attrs
    return function.with_body(lowering.finish_private(function.body)) if private else function


compilation_pipeline.register_tir_pipeline(ON_HEAP, _arrays_on_heap)
