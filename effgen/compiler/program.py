"""A network as a list of kernel calls over four flat arrays: the image, all outputs, all weights, all activations.

It is read off Relax's planned `main`, so that nothing has to interpret that at run time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import GenericConst, GlobalVar

from effgen.errors import GraphError
from effgen.runtime.arrays import ALIGNMENT, FlatLayout

#: The arrays that a place may be in; the outputs' is called as it is where a classifier's is all of it.
IMAGE, LOGITS, WEIGHTS, WORKSPACE = "image", "logits", "weights", "workspace"

_DTYPES = ("float32", "float16")
#: Inside a program, too: codes; and of constants alone: sums of them, and places that elements are taken from.
_INNER = (*_DTYPES, "uint8", "int8")
_CONSTANTS = (*_INNER, "int32")


@dataclass(frozen=True)
class Place:
    """Where a tensor begins: an array (IMAGE, LOGITS, WEIGHTS, WORKSPACE), and bytes from its start, aligned."""

    array: str
    offset: int = 0


@dataclass(frozen=True)
class Step:
    """One kernel call: the kernel's name, and the places of its arguments, inputs before outputs."""

    kernel: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Program:
    """The steps of a run, and what they need: the packed weights, and the sizes (bytes) of the other arrays.

    `outputs`: where each output begins in the array of outputs, in bytes; several that are one tensor begin together.

    No array is empty, whether or not the network has weights and inner activations.
    """

    steps: tuple[Step, ...]
    weights: NDArray[np.uint8]
    image_bytes: int
    logits_bytes: int
    workspace_bytes: int
    outputs: tuple[int, ...] = (0,)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each array, in the order in which the library's functions take them."""
        return {
            IMAGE: self.image_bytes,
            LOGITS: self.logits_bytes,
            WEIGHTS: self.weights.nbytes,
            WORKSPACE: self.workspace_bytes,
        }

    @property
    def calls(self) -> Counter[str]:
        """How often each kernel is called."""
        return Counter(step.kernel for step in self.steps)


#: What a Relax variable stands for: a tensor or a stretch of the workspace, or several.
_Placed: TypeAlias = "Place | tuple[_Placed, ...]"


def program_from_relax(mod: tvm.IRModule) -> Program:
    """The steps of `main`, memory planned already (`call_tir` rewritten, storages assigned).

    Weights come in the order in which they are first used. Raises GraphError for what is neither float32 nor float16.
    """
    reader = _Reader(mod["main"])
    return reader.read()


class _Reader:
    """Goes through the bindings in order; `values` maps a variable to what it stands for. What is returned is laid out
    in the order in which it is allocated; `returned` are the bytes of each such tensor, by where it begins."""

    def __init__(self, main: relax.Function) -> None:
        self.main = main
        self.values: dict[relax.Var, _Placed] = {}
        self.steps: list[Step] = []
        self.weights: list[NDArray[np.uint8]] = []
        self.weight_places: dict[GenericConst, Place] = {}
        self.weight_layout, self.workspace, self.output_layout = FlatLayout(), FlatLayout(), FlatLayout()
        self.returned: dict[int, int] = {}

    def read(self) -> Program:
        (image,) = self.main.params
        self.values[image] = Place(IMAGE)
        for block in self.main.body.blocks:
            for binding in block.bindings:
                self.values[binding.var] = self.value(binding.value)
        result = self.value(self.main.body.body)
        places = result if isinstance(result, tuple) else (result,)
        outputs = tuple(place.offset for place in places if isinstance(place, Place) and place.array == LOGITS)
        assert len(outputs) == len(places), f"main returns {result}: expected tensors allocated to be returned"
        assert set(outputs) == set(self.returned), (
            f"main returns {outputs}, and allocates {self.returned} to be returned"
        )
        return Program(
            steps=tuple(self.steps),
            weights=self.packed_weights(),
            image_bytes=_bytes(image.ty),
            logits_bytes=max(start + size for start, size in self.returned.items()),
            workspace_bytes=self.workspace.bytes,
            outputs=outputs,
        )

    def value(self, expr: relax.Expr) -> _Placed:
        if isinstance(expr, relax.Var):
            return self.values[expr]
        if isinstance(expr, GenericConst):
            return self.weight(expr)
        if isinstance(expr, relax.Tuple):
            return tuple(self.value(field) for field in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            whole = self.value(expr.tuple_value)
            assert isinstance(whole, tuple)
            field: _Placed = whole[expr.index]
            return field
        assert isinstance(expr, relax.Call), f"{type(expr).__name__} in a planned main"
        return self.call(expr)

    def call(self, call: relax.Call) -> _Placed:
        if isinstance(call.op, GlobalVar):
            self.steps.append(Step(call.op.name_hint, tuple(self.place(argument) for argument in call.args)))
            return ()
        match call.op.name:
            case "relax.memory.alloc_storage":
                return Place(WORKSPACE, self.workspace.add(int(call.args[0].values[0])))
            case "relax.memory.alloc_tensor":
                storage, offset = self.place(call.args[0]), int(call.args[1].value)
                return Place(storage.array, storage.offset + _check(call, offset))
            case "relax.builtin.alloc_tensor":
                _check(call, 0)
                start = self.output_layout.add(size := _bytes(call.ty))  # planning leaves out only what is returned
                self.returned[start] = size
                return Place(LOGITS, start)
            case "relax.reshape":
                return self.value(call.args[0])
        raise AssertionError(f"{call.op.name} in a planned main")

    def place(self, expr: relax.Expr) -> Place:
        value = self.value(expr)
        assert isinstance(value, Place)
        return value

    def weight(self, constant: GenericConst) -> Place:
        if constant not in self.weight_places:
            array = constant.value.numpy()
            if str(array.dtype) not in _CONSTANTS:
                raise GraphError(f"a constant of type {array.dtype}: only {' and '.join(_DTYPES)} can be compiled yet")
            self.weight_places[constant] = Place(WEIGHTS, self.weight_layout.add(array.nbytes))
            # As little-endian bytes, which is what all targets read.
            self.weights.append(array.astype(array.dtype.newbyteorder("<"), copy=False).ravel().view(np.uint8))
        return self.weight_places[constant]

    def packed_weights(self) -> NDArray[np.uint8]:
        packed = np.zeros(self.weight_layout.bytes, np.uint8)
        for place, array in zip(self.weight_places.values(), self.weights, strict=True):
            packed[place.offset : place.offset + array.size] = array
        return packed


def _check(call: relax.Call, offset: int) -> int:
    dtype = str(call.ty.dtype)
    if dtype not in _INNER:
        raise GraphError(f"a tensor of type {dtype}: only {' and '.join(_DTYPES)} can be compiled yet")
    assert offset % ALIGNMENT == 0, f"a tensor {offset} bytes into its storage"
    return offset


def _bytes(tensor: relax.TensorType) -> int:
    return int(np.prod([int(extent) for extent in tensor.shape.values])) * np.dtype(str(tensor.dtype)).itemsize
