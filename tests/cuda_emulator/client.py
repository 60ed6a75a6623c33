"""What uses the driver in the tests' subprocesses: kernels launched by effgen's own `Driver`, on plain arrays.

As a program: `python -m cuda_emulator.client FOLDER` runs the calls that `cuda_calls.Kernels` wrote there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from ctypes import CDLL, c_size_t, c_uint64, c_void_p
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.machines.cuda_driver import cuda_driver

IMAGE, CALLS, INPUTS, OUTPUTS = "kernels.fatbin", "calls.json", "inputs.npz", "outputs.npz"


class Gpu:
    """The first GPU with one image's kernels, and a stream."""

    def __init__(self, image: bytes) -> None:
        self.driver = cuda_driver()
        self.driver.use_first_device()
        self.stream = self.driver.stream()
        self.module = self.driver.handle("cuModuleLoadData", image)

    def function(self, name: str) -> c_void_p:
        return self.driver.handle("cuModuleGetFunction", self.module, name.encode())

    def upload(self, array: NDArray[Any], address: int = 0) -> int:
        """Where the array is on the device: at `address`, or in new memory."""
        array = np.ascontiguousarray(array)
        address = address or self.driver.allocate(array.nbytes)
        self.driver.call("cuMemcpyHtoD_v2", c_uint64(address), c_void_p(array.ctypes.data), c_size_t(array.nbytes))
        return address

    def download(self, address: int, shape: Sequence[int], dtype: str = "float32") -> NDArray[Any]:
        array: NDArray[Any] = np.empty(tuple(shape), dtype)
        source, target, size = c_uint64(address), c_void_p(array.ctypes.data), c_size_t(array.nbytes)
        self.driver.call("cuMemcpyDtoHAsync_v2", target, source, size, self.stream)
        self.driver.call("cuStreamSynchronize", self.stream)
        return array

    def launch(self, name: str, blocks: int, threads: int, addresses: Sequence[int]) -> None:
        self.driver.launch(self.function(name), blocks, threads, addresses, self.stream)

    def free(self, address: int) -> None:
        self.driver.call("cuMemFree_v2", c_uint64(address))


def emulated(what: str) -> int:
    """A count of the emulator's: launches, bytes, contexts."""
    return int(getattr(CDLL("libcuda.so.1"), f"effgen_emulated_{what}")())


def run_calls(folder: Path) -> None:
    """Each call in turn, with memory of its own: outputs start as the driver gives memory, as NaN."""
    gpu = Gpu((folder / IMAGE).read_bytes())
    inputs = np.load(folder / INPUTS)
    found: dict[str, NDArray[Any]] = {}
    for call in json.loads((folder / CALLS).read_text()):
        addresses = [gpu.upload(inputs[f"{call['name']}:{index}"]) for index in range(call["inputs"])]
        sizes = [prod(shape) * np.dtype(dtype).itemsize for shape, dtype in call["outputs"]]
        first = len(addresses)
        addresses += [gpu.driver.allocate(size) for size in sizes]
        for kernel, blocks, threads, parameters in call["launches"]:
            gpu.launch(kernel, blocks, threads, [addresses[index] for index in parameters])
        for index, (shape, dtype) in enumerate(call["outputs"]):
            found[f"{call['name']}:{index}"] = gpu.download(addresses[first + index], shape, dtype)
        for address in addresses:
            gpu.free(address)  # which checks the guards around it
    np.savez(folder / OUTPUTS, **found)


if __name__ == "__main__":
    run_calls(Path(sys.argv[1]))
