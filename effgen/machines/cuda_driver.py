"""The CUDA driver (`libcuda.so.1`), as far as running a bundle needs it: ctypes, no other library of NVIDIA's.

A copy of this file goes with every folder of candidates: it uses nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from functools import lru_cache
from typing import Any

from effgen.errors import BundleError

# CUdevice_attribute: the parts of the compute capability.
_MAJOR, _MINOR = 75, 76
# CU_STREAM_NON_BLOCKING, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL.
_NON_BLOCKING, _THREAD_LOCAL = 1, 1
#: CUDA_ERROR_NO_BINARY_FOR_GPU, CUDA_ERROR_OUT_OF_MEMORY.
NO_BINARY, OUT_OF_MEMORY = 209, 2

_NO_DRIVER = "libcuda.so.1 cannot be loaded: there is no NVIDIA driver; run the bundle on a machine with its GPU"


class DriverError(BundleError):
    """A call of the driver failed; `status` is its CUresult."""

    def __init__(self, call: str, status: int, name: str) -> None:
        super().__init__(f"CUDA: {call} failed with {name} ({status})")
        self.status = status


class Driver:
    """Calls that raise DriverError instead of returning a status. Make one with `cuda_driver`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver by its name."""
        status = getattr(self._library, name)(*arguments)
        if status:
            text = c_char_p()
            self._library.cuGetErrorName(status, byref(text))
            raise DriverError(name, status, (text.value or b"an unknown error").decode())

    def handle(self, name: str, *arguments: Any) -> c_void_p:
        """What a function that makes something writes to its first argument."""
        made = c_void_p()
        self.call(name, byref(made), *arguments)
        return made

    def first_device(self) -> c_int:
        """The first GPU that the driver lists; raises BundleError where there is none."""
        device = c_int()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", byref(device), 0)
        return device

    def use_first_device(self) -> tuple[c_int, c_void_p]:
        """Make the first GPU's primary context this thread's: the GPU, and the context, which the caller releases.

        Raises BundleError where there is none.
        """
        device = self.first_device()
        context = self.handle("cuDevicePrimaryCtxRetain", device)
        self.call("cuCtxSetCurrent", context)
        return device, context

    def device_name(self, device: c_int) -> str:
        """What the GPU is called."""
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", name, len(name), device)
        return name.value.decode(errors="replace")

    def device_arch(self, device: c_int) -> str:
        """`sm_90` and the like."""
        return f"sm_{self.attribute(device, _MAJOR)}{self.attribute(device, _MINOR)}"

    def attribute(self, device: c_int, number: int) -> int:
        """A fact about the GPU, by its number in `CUdevice_attribute`."""
        value = c_int()
        self.call("cuDeviceGetAttribute", byref(value), number, device)
        return value.value

    def allocate(self, size: int) -> int:
        """The address of so many bytes on the device."""
        address = c_uint64()
        self.call("cuMemAlloc_v2", byref(address), c_size_t(size))
        return address.value

    def allocate_host(self, size: int) -> int:
        """The address of so many bytes of the host that the device can copy from and to by itself."""
        return self.handle("cuMemHostAlloc", c_size_t(size), c_uint(0)).value or 0

    def stream(self) -> c_void_p:
        """A stream that does not wait for the default one."""
        return self.handle("cuStreamCreate", c_uint(_NON_BLOCKING))

    def launch(self, function: c_void_p, blocks: int, threads: int, addresses: Sequence[int], stream: c_void_p) -> None:
        """Launch a kernel whose parameters are all addresses on the device."""
        values = [c_uint64(address) for address in addresses]
        pointers = (c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
        self.call("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, c_uint(0), stream, pointers, None)

    def begin_capture(self, stream: c_void_p) -> None:
        """From now on the stream only records what it is told to do."""
        self.call("cuStreamBeginCapture_v2", stream, c_uint(_THREAD_LOCAL))

    def end_capture(self, stream: c_void_p) -> c_void_p:
        """What was recorded, ready to be launched as a whole (`cuGraphLaunch`)."""
        graph = c_void_p()
        self.call("cuStreamEndCapture", stream, byref(graph))
        executable = c_void_p()
        self.call("cuGraphInstantiateWithFlags", byref(executable), graph, ctypes.c_ulonglong(0))
        self.call("cuGraphDestroy", graph)
        return executable

    def milliseconds(self, start: c_void_p, end: c_void_p) -> float:
        """Time between two events that have happened."""
        value = c_float()
        self.call("cuEventElapsedTime", byref(value), start, end)
        return value.value


@lru_cache(maxsize=None)  # noqa: UP033  # Python 3.8
def cuda_driver() -> Driver:
    """The driver of this machine; raises BundleError where there is none."""
    try:
        return Driver(ctypes.CDLL("libcuda.so.1"))
    except OSError:
        raise BundleError(_NO_DRIVER) from None
