"""A bundle's library in this process, called by the C ABI of the code that TVM generates, without TVM.

The bundle's library needs nothing of TVM but to be called so (`effgen.runtime.tvm_abi`).
"""

from __future__ import annotations

import _ctypes
import ctypes
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BundleError
from effgen.runtime.library import linked_anew
from effgen.runtime.tvm_abi import FLOAT32, INT64, Any, Tensor, number, pointer_to, tensor

#: DLPack's types of those that arguments have.
_KINDS = {"float32": FLOAT32, "int64": INT64}


class RefusedError(Exception):
    """The library does not take these arguments."""


@dataclass(frozen=True)
class Hole:
    """An argument of `floats` float32 numbers that `Arguments.point` gives before each call."""

    floats: int


Argument = int | Hole | NDArray[np.float32] | NDArray[np.int64]


class Arguments:
    """Arguments of a function: whole numbers and contiguous arrays, which live as long as this does."""

    def __init__(self, *values: Argument) -> None:
        self._arrays = [value for value in values if isinstance(value, np.ndarray)]
        self._made = [number(value) if isinstance(value, int) else _tensor(value) for value in values]
        words = (made if isinstance(made, Any) else pointer_to(made) for made in self._made)
        self.words = (Any * len(values))(*words)

    def point(self, place: int, array: NDArray[np.float32]) -> None:
        """Let the argument at `place`, which was a hole, be `array`, contiguous and of its size; it is not kept."""
        hole = self._made[place]
        assert isinstance(hole, Tensor) and array.size == hole.shape[0] and array.flags.c_contiguous
        hole.data = array.ctypes.data


def _tensor(value: Hole | NDArray[np.float32] | NDArray[np.int64]) -> Tensor:
    if isinstance(value, Hole):
        return tensor(None, (value.floats,))
    assert value.flags.c_contiguous, value.shape
    return tensor(value.ctypes.data, value.shape, _KINDS[value.dtype.name])


class NativeFunction:
    """A function of a library, which stays loaded as long as this is there."""

    def __init__(self, library: NativeLibrary, symbol: Callable[..., int]) -> None:
        self._library, self._symbol = library, symbol

    def __call__(self, arguments: Arguments) -> int:
        """What it returns, a whole number. Raises RefusedError where it does not take its arguments."""
        words, result = arguments.words, Any()
        if self._symbol(None, words, len(words), ctypes.byref(result)):
            raise RefusedError
        return int(result.number)


class NativeLibrary:
    """The shared library `path`, unloaded with its last user: its threads end then, too.

    Raises BundleError where the dynamic loader refuses it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with linked_anew(path) as link:
            try:
                self._library = ctypes.CDLL(str(link))
            except OSError as error:
                reason = str(error).strip().splitlines()[0]
                raise BundleError(f"{path}: cannot be loaded: {reason}; compile the bundle again") from None
        # At the end of the process the library's own destructor ends its threads.
        weakref.finalize(self, _ctypes.dlclose, self._library._handle).atexit = False

    def function(self, name: str) -> NativeFunction:
        """A function by its name. Raises BundleError where there is none."""
        try:
            symbol = self._library[f"__tvm_ffi_{name}"]
        except AttributeError:
            raise BundleError(f"{self._path}: has no function {name}; compile the bundle again") from None
        symbol.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p]
        return NativeFunction(self, symbol)
