"""Candidates on a GPU through the CUDA driver alone: the same promises as `effgen.measure.carried.native`.

A copy of this file goes with every folder for GPUs, beside `effgen.machines.cuda_driver`: standard library only.
"""

from __future__ import annotations

import ctypes
from ctypes import c_size_t, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any

from effgen.machines.cuda_driver import cuda_driver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from effgen.measure.carried.timing import Side

_EVENT_DEFAULT = 0


class DeviceArray:
    """A float32 array in the GPU's memory, which it keeps for as long as the process lives."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.size = 1
        for extent in shape:
            self.size *= extent
        self._driver = cuda_driver()
        self.address = self._driver.allocate(4 * self.size)

    def write(self, data: bytes) -> None:
        """Fill it with float32 of this machine's byte order."""
        assert len(data) == 4 * self.size, (len(data), self.size)
        self._driver.call("cuMemcpyHtoD_v2", c_uint64(self.address), data, c_size_t(len(data)))

    def read(self) -> bytes:
        """What it holds."""
        data = ctypes.create_string_buffer(4 * self.size)
        self._driver.call("cuMemcpyDtoH_v2", data, c_uint64(self.address), c_size_t(4 * self.size))
        return data.raw


class CudaRuntime:
    """The first GPU, and a stream on it. Raises BundleError where there is none.

    An error of the driver is not caught: after an illegal access nothing runs in this process any more.
    """

    def __init__(self) -> None:
        self._driver = cuda_driver()
        self._driver.use_first_device()
        self._stream = self._driver.stream()
        self._events = [self._driver.handle("cuEventCreate", _EVENT_DEFAULT) for _ in range(2)]

    def array(self, shape: Sequence[int]) -> DeviceArray:
        """A new array."""
        return DeviceArray(shape)

    def library(self, path: Path) -> c_void_p:
        """Load kernels."""
        return self._driver.handle("cuModuleLoadData", path.read_bytes())

    def kernel(self, library: c_void_p, candidate: dict[str, Any], arrays: Sequence[DeviceArray]) -> CudaCall:
        """A candidate of the plan with its arguments."""
        launches = [
            (
                self._driver.handle("cuModuleGetFunction", library, launch["kernel"].encode()),
                launch["blocks"],
                launch["threads"],
                [arrays[index].address for index in launch["parameters"]],
            )
            for launch in candidate["launches"]
        ]
        return CudaCall(self._driver, self._stream, launches)

    def flush(self, folder: Path, stated: dict[str, Any]) -> Callable[[], None]:
        """What fills the second-level cache with something else, and keeps the GPU busy while a call is on its way."""
        size = stated["bytes"]
        address = self._driver.allocate(size)
        return lambda: self._driver.call("cuMemsetD8Async", c_uint64(address), 0, c_size_t(size), self._stream)

    def side(self, call: CudaCall, between: Callable[[], None]) -> Side:
        """The kernel to be timed by the device's clock, with cold caches."""
        start, end = self._events

        def calls(count: int) -> list[float]:
            seconds = []
            for _ in range(count):
                between()
                self._driver.call("cuEventRecord", start, self._stream)
                call.launch()
                self._driver.call("cuEventRecord", end, self._stream)
                self._driver.call("cuStreamSynchronize", self._stream)
                seconds.append(self._driver.milliseconds(start, end) / 1e3)
            return seconds

        return calls


class CudaCall:
    """A candidate with its arguments: called, it runs once."""

    def __init__(self, driver: Any, stream: c_void_p, launches: Sequence[tuple[c_void_p, int, int, list[int]]]) -> None:
        self._driver, self._stream, self._launches = driver, stream, launches

    def launch(self) -> None:
        """Have it run some time."""
        for function, blocks, threads, addresses in self._launches:
            self._driver.launch(function, blocks, threads, addresses, self._stream)

    def __call__(self) -> None:
        self.launch()
        self._driver.call("cuStreamSynchronize", self._stream)
