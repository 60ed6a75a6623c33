"""What a program without compiler or TVM's Python package does to run a CUDA library; for the tests' subprocesses."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Importing torch, which nothing here needs, takes a second.
sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
import tvm_ffi  # noqa: E402

_TO_DEVICE, _TO_HOST = 1, 2


def load(library: str) -> Any:
    """The module of a compiled library, with TVM's runtimes in the process."""
    spec = importlib.util.find_spec("tvm")
    assert spec is not None and spec.submodule_search_locations
    for name in ("libtvm_runtime.so", "libtvm_runtime_cuda.so"):
        ctypes.CDLL(str(Path(spec.submodule_search_locations[0], "lib", name)), ctypes.RTLD_GLOBAL)
    return tvm_ffi.load_module(library)


def cudart() -> ctypes.CDLL:
    return ctypes.CDLL("libcudart.so.13")


def check(error: int) -> None:
    """Raise unless a CUDA call succeeded."""
    if error:
        name = cudart().cudaGetErrorName
        name.restype = ctypes.c_char_p
        raise RuntimeError(f"{name(error).decode()} ({error})")


def launches() -> int:
    """How many kernels have run."""
    return int(ctypes.CDLL("libcuda.so.1").effgen_emulated_launches())


def empty(shape: Sequence[int], dtype: str) -> Any:
    """A tensor on the device."""
    allocate = tvm_ffi.get_global_func("runtime.TVMTensorAllocWithScope")
    return allocate(tvm_ffi.Shape(tuple(shape)), tvm_ffi.dtype(dtype), tvm_ffi.device("cuda", 0), None)


def upload(array: NDArray[Any], tensor: Any = None) -> Any:
    """`array` on the device, in `tensor` where one is given."""
    array = np.ascontiguousarray(array)
    tensor = empty(array.shape, str(array.dtype)) if tensor is None else tensor
    size = ctypes.c_size_t(array.nbytes)
    check(cudart().cudaMemcpy(ctypes.c_void_p(tensor.data_ptr()), ctypes.c_void_p(array.ctypes.data), size, _TO_DEVICE))
    return tensor


def download(tensor: Any) -> NDArray[Any]:
    """A tensor's values."""
    array: NDArray[Any] = np.empty(tuple(tensor.shape), str(tensor.dtype))
    size = ctypes.c_size_t(array.nbytes)
    check(cudart().cudaMemcpy(ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(tensor.data_ptr()), size, _TO_HOST))
    return array


@contextmanager
def stream() -> Iterator[ctypes.c_void_p]:
    """A new stream, which TVM launches on."""
    handle = ctypes.c_void_p()
    non_blocking = 1
    check(cudart().cudaStreamCreateWithFlags(ctypes.byref(handle), non_blocking))
    with tvm_ffi.use_raw_stream(tvm_ffi.device("cuda", 0), handle.value):
        yield handle
    check(cudart().cudaStreamDestroy(handle))


@contextmanager
def capture(on: ctypes.c_void_p) -> Iterator[ctypes.c_void_p]:
    """A graph of what happens on the stream `on`, complete and ready to launch after the block."""
    runtime, graph, executable, everywhere = cudart(), ctypes.c_void_p(), ctypes.c_void_p(), 0
    check(runtime.cudaStreamBeginCapture(on, everywhere))
    yield executable
    check(runtime.cudaStreamEndCapture(on, ctypes.byref(graph)))
    check(runtime.cudaGraphInstantiate(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)))


def main(library: str, function: str, inputs: str, outputs: str) -> None:
    """Call `function` with the arrays of the file `inputs`, and write those of them that follow it to `outputs`.

    Arrays are given in the arguments' order; the last is the output.
    """
    module = load(library)
    tensors = [upload(array) for array in np.load(inputs).values()]
    module[function](*tensors)
    np.save(outputs, download(tensors[-1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
