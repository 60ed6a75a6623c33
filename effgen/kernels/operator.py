"""A function that TVM made of operators which no kernel of ours computes, as a workload: what schedules are found for.

Its name says what it does, by a hash of its definition: networks share what is found for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, Self

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.relax.analysis import has_reshape_pattern
from tvm.tirx import Buffer, PrimFunc

from effgen.kernels.evaluation import UnknownTirError, evaluated, statements
from effgen.kernels.workload import Argument, Arrays, Float64, Shape, Workload

# Functions of these are not defined everywhere: their random inputs are positive.
_PARTIAL = ("tirx.log", "tirx.sqrt", "tirx.rsqrt", "tirx.pow", "tirx.Div")


@dataclass(frozen=True)
class Operator(Workload):
    """`text` is the function, as TVM writes it down; of float32 arrays alone, its outputs behind its inputs."""

    label: str
    text: str
    dtype: str = "float32"

    @property
    def function(self) -> PrimFunc:
        """The definition, not scheduled; another object every time, since TVM's schedules change theirs in place."""
        return tvm.ir.load_json(self.text)

    @property
    def inputs(self) -> tuple[Argument, ...]:
        deviation = None if any(f'"{word}' in self.text for word in _PARTIAL) else 1.0
        read, _ = _arguments(self.text)
        return tuple(Argument(f"in{index}", shape, deviation=deviation) for index, shape in enumerate(read))

    @property
    def outputs(self) -> tuple[Argument, ...]:
        _, written = _arguments(self.text)
        return tuple(Argument(f"out{index}", shape) for index, shape in enumerate(written))

    @property
    def data_shape(self) -> Shape:
        return self.inputs[0].shape

    @property
    def out_shape(self) -> Any:
        """Of any rank."""
        return self.outputs[0].shape

    @property
    def family(self) -> str:
        return "operator"

    @property
    def name(self) -> str:
        return f"{self.label}_{_hash(self.text):016x}"

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        """None: a name does not hold the definition."""
        return None

    @property
    def macs(self) -> int:
        """About: a multiply-add for each number that a statement writes."""
        return sum(prod(nest.extents) for nest in statements(self.function))

    def reference(self, inputs: Arrays) -> list[Float64]:
        arrays = [array.astype(np.float64) for array in inputs.values()]
        return evaluated(self.function, arrays)


def operator_of(function: PrimFunc, name: str) -> Operator | None:
    """The function called `name` in a module, as a workload; None where it is not of float32 arrays of known shapes
    alone, or of nests of loops that `effgen.kernels.evaluation` knows; or where it is nothing but another shape of the
    same numbers, which costs nothing as long as TVM sees that."""
    plain = PrimFunc(list(function.params), function.body, function.ret_type)
    plain = plain.with_attr("global_symbol", "main").with_attr("tirx.noalias", True)
    if has_reshape_pattern(function) or not all(
        isinstance(parameter, Buffer) and _is_known(parameter) for parameter in plain.params
    ):
        return None
    operator = Operator(re.sub(r"\W|\d+$", "", name), tvm.ir.save_json(plain))
    try:
        read, written = _arguments(operator.text)
    except UnknownTirError:
        return None
    return operator if read and written else None


@lru_cache(maxsize=256)
def _hash(text: str) -> int:
    """Of what the function does, whatever its arguments and variables are called."""
    return int(tvm_ffi.structural_hash(tvm.ir.load_json(text))) % 2**64


@lru_cache(maxsize=256)
def _arguments(text: str) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    """Shapes of what is read, and of what is written, which stands behind it. Raises UnknownTirError."""
    function = tvm.ir.load_json(text)
    buffers = list(function.params)
    written = [buffer for nest in statements(function) for buffer in nest.written]
    outputs = [any(buffer.same_as(other) for other in written) for buffer in buffers]
    count = outputs.count(True)
    if outputs != [False] * (len(buffers) - count) + [True] * count:
        raise UnknownTirError("outputs do not stand behind inputs")
    return tuple(map(_shape, buffers[:-count])), tuple(map(_shape, buffers[-count:]))


def _is_known(buffer: Buffer) -> bool:
    return str(buffer.dtype) == "float32" and all(isinstance(extent, tirx.IntImm) for extent in buffer.shape)


def _shape(buffer: Buffer) -> Shape:
    return tuple(int(extent) for extent in buffer.shape)
