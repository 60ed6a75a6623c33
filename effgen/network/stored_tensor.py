"""A tensor as it lies in a file: a view of the file's bytes until its values are asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.errors import WeightsError

#: dtypes as safetensors calls them -> numpy's; what numpy lacks is kept as integers of the same width.
STORED_DTYPES: Mapping[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "u1",
    "F8_E4M3": "u1",
    "F8_E5M2": "u1",
    "C64": "<c8",
    "C128": "<c16",
}

#: What can be weights.
FLOATS = ("F32", "F16", "BF16", "F64")


class NotTorchError(WeightsError):
    """The bytes are not what torch.save writes, or damaged or cut short."""


@dataclass
class Storage:
    """Elements that tensors share; `raw` is None until they are found in the file."""

    dtype: str
    elements: int
    raw: memoryview | None = None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it lies in a file: `dtype` as safetensors says it, elements little-endian."""

    dtype: str
    shape: tuple[int, ...]
    _storage: Storage
    _offset: int = 0
    _strides: tuple[int, ...] | None = None
    _negated: bool = False  # PyTorch's bit of a view: all elements are to be read with the other sign

    @classmethod
    def of_bytes(cls, dtype: str, shape: Sequence[int], raw: bytes | bytearray) -> StoredTensor:
        """A tensor whose elements are all of `raw`, row by row."""
        return cls(dtype, tuple(shape), Storage(dtype, math.prod(shape), memoryview(raw)))

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def elements(self) -> NDArray[Any]:
        """The elements in numpy's type of STORED_DTYPES. Raises NotTorchError where they are not all in the file."""
        if self._storage.raw is None:
            raise NotTorchError("its elements are missing")
        stored = np.dtype(STORED_DTYPES[self.dtype])
        flat = np.frombuffer(self._storage.raw, stored, count=len(self._storage.raw) // stored.itemsize)
        strides = self._strides or _row_by_row(self.shape)
        last = self._offset + sum((extent - 1) * stride for extent, stride in zip(self.shape, strides, strict=True))
        if self.size and not 0 <= self._offset <= last < len(flat):
            raise NotTorchError("its elements lie beyond the file")
        if not self.size:
            return np.empty(self.shape, stored)
        in_bytes = tuple(stride * stored.itemsize for stride in strides)
        return np.lib.stride_tricks.as_strided(flat[self._offset :], self.shape, in_bytes, writeable=False)

    def float32(self) -> NDArray[np.float32]:
        """The values, contiguous and to be written to; beyond float32 is infinity. `dtype` is one of FLOATS."""
        assert self.dtype in FLOATS, self.dtype
        elements = self.elements()
        if self.dtype == "BF16":  # numpy lacks it: the upper half of a float32
            values = (elements.astype(np.uint32, order="C") << 16).view(np.float32)
        else:
            with np.errstate(over="ignore"):
                values = np.array(elements, np.float32, order="C")
        return np.negative(values, out=values) if self._negated else values


def _row_by_row(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
