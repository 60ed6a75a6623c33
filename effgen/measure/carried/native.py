"""TVM's runtime without its Python package: two libraries through ctypes, by the C interface of `tvm/ffi/c_api.h`.

A copy of this file goes with every folder: it uses nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

from effgen.measure.carried.candidate import NativeError
from effgen.measure.carried.timing import timed
from effgen.runtime.tvm_abi import BOOL, OBJECT, TEXT, Any, number, pointer_to, tensor

if TYPE_CHECKING:
    import typing as t
    from collections.abc import Sequence

    from effgen.measure.carried.timing import Side

#: The libraries, in the order in which they must be loaded.
LIBRARIES = ("libtvm_ffi.so", "libtvm_runtime.so")

# Where the libraries are in a folder of this kind, or in Python's site-packages.
_PLACES = (".", "lib", "tvm_ffi/lib", "tvm/lib")

_ALIGNMENT = 64  # what TVM's kernels expect of a buffer
_BIG_CORES = 1  # TVM's mode of its thread pool: the fastest cores first
_OBJECT_HEADER = 24  # bytes before an object's own fields


class _Bytes(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Error(ctypes.Structure):
    _fields_ = (("kind", _Bytes), ("message", _Bytes))


class HostArray:
    """A float32 array in this machine's memory."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.size = 1
        for extent in shape:
            self.size *= extent
        self._memory = ctypes.create_string_buffer(4 * self.size + _ALIGNMENT)
        start = ctypes.addressof(self._memory)
        self._address = start + -start % _ALIGNMENT
        self.tensor = tensor(self._address, tuple(shape))

    def write(self, data: bytes) -> None:
        """Fill it with float32 of this machine's byte order."""
        assert len(data) == 4 * self.size, (len(data), self.size)
        ctypes.memmove(self._address, data, len(data))

    def read(self) -> bytes:
        """What it holds."""
        return ctypes.string_at(self._address, 4 * self.size)


class Runtime:
    """TVM's runtime, loaded from the libraries in `folder`; with `threads` threads for a kernel.

    TVM_NUM_THREADS and TVM_BIND_THREADS must be set before. Raises OSError where a library cannot be loaded.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self._ffi, _ = (ctypes.CDLL(str(found_library(folder, name)), ctypes.RTLD_GLOBAL) for name in LIBRARIES)
        #: `TVMFFIFunctionCall`.
        self.call_function = self._ffi.TVMFFIFunctionCall
        self._load = self._global("ffi.ModuleLoadFromFile")
        self._function = self._global("ffi.ModuleGetFunction")
        self._call(self._global("runtime.config_threadpool"), [number(_BIG_CORES), number(threads)])

    def library(self, path: Path) -> Any:
        """Load kernels."""
        return self._call(self._load, [_text(str(path))])

    def array(self, shape: Sequence[int]) -> HostArray:
        """A new array."""
        return HostArray(shape)

    def kernel(self, library: Any, candidate: dict[str, t.Any], arrays: Sequence[HostArray]) -> NativeCall:
        """A candidate of the plan, or another function of the library, with its arguments."""
        return self.function(library, candidate["function"], arrays)

    def flush(self, folder: Path, stated: dict[str, t.Any]) -> NativeCall:
        """What fills every core's first and second level cache with something else."""
        arrays = [self.array(shape) for shape in stated["arrays"]]
        for made in arrays:
            made.write(bytes(4 * made.size))
        return self.function(self.library(folder / stated["library"]["path"]), stated["function"], arrays)

    def side(self, call: NativeCall, between: NativeCall) -> Side:
        """The kernel to be timed by this machine's clock, with cold caches."""
        return timed(call, between)

    def function(self, library: Any, name: str, arrays: Sequence[HostArray]) -> NativeCall:
        """A function of the library with its arguments."""
        query = Any(BOOL, 0)
        query.number = 0
        found = self._call(self._function, [library, _text(name), query])
        if found.type < OBJECT:
            raise NativeError(f"{name}: not in the library")
        return NativeCall(self, found.pointer, arrays)

    def check(self, status: int) -> None:
        """Raise NativeError unless a call of TVM went well."""
        if status == 0:
            return
        handle = ctypes.c_void_p()
        self._ffi.TVMFFIErrorMoveFromRaised(ctypes.byref(handle))
        if not handle.value:
            raise NativeError(f"TVM failed with status {status}")
        error = _Error.from_address(handle.value + _OBJECT_HEADER)
        texts = [ctypes.string_at(part.data, part.size) for part in (error.kind, error.message)]
        kind, message = (text.decode("utf-8", "replace") for text in texts)
        self._ffi.TVMFFIObjectDecRef(handle)
        raise NativeError(f"{kind}: {message}")

    def _global(self, name: str) -> int:
        data = name.encode()
        text = _Bytes(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data))
        found = ctypes.c_void_p()
        self.check(self._ffi.TVMFFIFunctionGetGlobal(ctypes.byref(text), ctypes.byref(found)))
        if not found.value:
            raise NativeError(f"{name}: not in this runtime; expected TVM 0.27")
        return found.value

    def _call(self, function: int, arguments: Sequence[Any]) -> Any:
        values, result = (Any * len(arguments))(*arguments), Any()
        self.check(self.call_function(ctypes.c_void_p(function), values, len(arguments), ctypes.byref(result)))
        return result


class NativeCall:
    """A kernel with its arguments: called, it runs once. What it works on lives as long as this does."""

    def __init__(self, runtime: Runtime, function: int, arrays: Sequence[HostArray]) -> None:
        self._runtime, self._arrays = runtime, list(arrays)
        self._values = (Any * len(arrays))(*(pointer_to(array.tensor) for array in arrays))
        self._result = Any()
        self._call = runtime.call_function
        self._words = (ctypes.c_void_p(function), self._values, len(arrays), ctypes.byref(self._result))

    def __call__(self) -> None:
        status = self._call(*self._words)
        if status:
            self._runtime.check(status)


def found_library(folder: Path, name: str) -> Path:
    """The library in the folder, or where pip puts it below site-packages; raises OSError."""
    for place in _PLACES:
        path = folder / place / name
        if path.is_file():
            return path.resolve()
    raise OSError(f"{folder}: no {name}; expected a folder with {' and '.join(LIBRARIES)}, or site-packages")


def _text(value: str) -> Any:
    made = Any(TEXT, 0)
    made.text = value.encode()
    return made
