"""A bundle's kernels on an NVIDIA GPU: launched once into a CUDA graph, which then runs as a whole.

A launch of its own costs a kernel more than most of them take at batch 1; a graph's costs a fraction of that.
"""

from __future__ import annotations

import ctypes
import weakref
from ctypes import c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BundleError
from effgen.machines.cuda_driver import NO_BINARY, OUT_OF_MEMORY, Driver, DriverError, cuda_driver
from effgen.runtime.arrays import read_aligned
from effgen.runtime.check import image_for
from effgen.runtime.classify import ImageClassifier
from effgen.runtime.manifest import KERNELS, WEIGHTS, Manifest
from effgen.runtime.turn import Turn

_EVENT_DEFAULT = 0


class CudaModel(ImageClassifier):
    """Callable: float32 images NCHW `(batch, channels, height, width)` -> float32
    `(batch, classes)`, logits or what else the manifest's `output_kind` says, or another
    `effgen.runtime.answers.Answer`.

    As `effgen.runtime.model.LoadedModel`, on the first GPU that the driver lists (see CUDA_VISIBLE_DEVICES). Host code
    only launches: `threads` is 1. Calls from several threads take turns.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        super().__init__(path, manifest)
        self.threads = 1
        self._one_call = Turn()
        self._driver = cuda_driver()
        device, self._context = self._driver.use_first_device()
        self._held = _Held(self._driver, self._context, device)
        weakref.finalize(self, self._held.free)
        self.device = f"{self._driver.device_name(device)} ({self._driver.device_arch(device)})"
        self._stream = self._held.add("cuStreamDestroy_v2", self._driver.stream())
        self._clocks = self._held.event(), self._held.event()
        self._image_bytes = 4 * int(np.prod(manifest.input["shape"]))
        self._outputs_bytes = 4 * self.layout.floats
        self._arrays = self._allocate(path / WEIGHTS)
        self._functions = self._load_kernels(path / KERNELS)
        self._image = self._host_array(tuple(manifest.input["shape"]))
        self._outputs = self._host_array((self.layout.floats,))
        self._graph = self._capture()

    def __call__(self, image: NDArray[np.float32]) -> Any:
        """Run once. Raises BundleError where `image` has another shape or dtype, or the GPU fails."""
        image = image_for(image, self.manifest)
        with self._one_call.taken():
            self._upload(image)
            self._driver.call("cuGraphLaunch", self._graph, self._stream)
            self._download()
            return self.layout.answer(self._outputs)

    def trace(self, image: NDArray[np.float32]) -> NDArray[np.int64]:
        """Run once, launch by launch, with an event between the steps: nanoseconds since the first, `(steps + 1,)`."""
        image = image_for(image, self.manifest)
        with self._one_call.taken():
            self._upload(image)
            events = [self._driver.handle("cuEventCreate", _EVENT_DEFAULT) for _ in range(len(self.manifest.steps) + 1)]
            self._launch_all(events)
            self._driver.call("cuEventRecord", events[-1], self._stream)
            self._download()
            times = [self._driver.milliseconds(events[0], event) for event in events]
            for event in events:
                self._driver.call("cuEventDestroy_v2", event)
            return np.asarray([round(milliseconds * 1e6) for milliseconds in times], np.int64)

    def resident_ms(self, image: NDArray[np.float32], runs: int) -> list[float]:
        """Milliseconds of each of `runs` runs on an image that is on the device already, by the device's clock."""
        image = image_for(image, self.manifest)
        with self._one_call.taken():
            self._upload(image)
            start, end = self._clocks
            return [self._resident_run(start, end) for _ in range(runs)]

    def _resident_run(self, start: c_void_p, end: c_void_p) -> float:
        self._driver.call("cuEventRecord", start, self._stream)
        self._driver.call("cuGraphLaunch", self._graph, self._stream)
        self._driver.call("cuEventRecord", end, self._stream)
        self._driver.call("cuStreamSynchronize", self._stream)
        return self._driver.milliseconds(start, end)

    def _allocate(self, weights: Path) -> dict[str, int]:
        """Addresses on the device by the array's name, the weights filled in."""
        packed = read_aligned(weights).view(np.uint8)
        self._check_parts(packed.nbytes)
        sizes = {
            "image": self._image_bytes,
            "logits": self._outputs_bytes,
            "weights": packed.nbytes,
            "workspace": self.manifest.workspace_bytes,
        }
        try:
            arrays = {name: self._held.device_array(size) for name, size in sizes.items()}
        except DriverError as error:
            if error.status != OUT_OF_MEMORY:
                raise
            raise BundleError(
                f"{self.manifest.name}: {sum(sizes.values()):,} bytes do not fit on {self.device}"
            ) from None
        self._driver.call(
            "cuMemcpyHtoD_v2", c_uint64(arrays["weights"]), c_void_p(packed.ctypes.data), c_size_t(packed.nbytes)
        )
        return arrays

    def _check_parts(self, weights_bytes: int) -> None:
        """What the launches are given of the weights begins inside them; of the others `read_manifest` has seen it."""
        for launch in self.manifest.device["launches"]:
            for array, start in launch["arguments"]:
                if array == "weights" and start >= weights_bytes:
                    raise BundleError(
                        f"{self.manifest.name}: {launch['kernel']} takes weights from byte {start} on, the bundle has "
                        f"{weights_bytes}: its files do not belong together; compile the bundle again"
                    )

    def _load_kernels(self, path: Path) -> dict[str, c_void_p]:
        """The functions of all launches, by name."""
        image = path.read_bytes()
        try:
            module = self._held.add("cuModuleUnload", self._driver.handle("cuModuleLoadData", image))
        except DriverError as error:
            if error.status != NO_BINARY:
                raise
            archs = ", ".join(self.manifest.device["archs"])
            raise BundleError(
                f"{path}: compiled for {archs} and newer; this GPU is {self.device}: compile with `--cuda-arch`"
            ) from None
        names = {launch["kernel"] for launch in self.manifest.device["launches"]}
        return {name: self._driver.handle("cuModuleGetFunction", module, name.encode()) for name in names}

    def _host_array(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        size = 4 * int(np.prod(shape))
        memory = (ctypes.c_float * (size // 4)).from_address(self._held.host_array(size))
        return np.ctypeslib.as_array(memory).reshape(shape)

    def _capture(self) -> c_void_p:
        self._launch_all()  # once before: the driver loads kernels when they are first launched
        self._driver.call("cuStreamSynchronize", self._stream)
        self._driver.begin_capture(self._stream)
        self._launch_all()
        graph: c_void_p = self._held.add("cuGraphExecDestroy", self._driver.end_capture(self._stream))
        return graph

    def _launch_all(self, events: list[c_void_p] | None = None) -> None:
        """Tell the stream to run every launch; with `events`, to record one before the first launch of each step."""
        step = -1
        for launch in self.manifest.device["launches"]:
            if events is not None and launch["step"] != step:
                step = launch["step"]
                self._driver.call("cuEventRecord", events[step], self._stream)
            addresses = [self._arrays[array] + offset for array, offset in launch["arguments"]]
            function = self._functions[launch["kernel"]]
            self._driver.launch(function, launch["blocks"], launch["threads"], addresses, self._stream)

    def _upload(self, image: NDArray[np.float32]) -> None:
        self._driver.call("cuCtxSetCurrent", self._context)
        np.copyto(self._image, image)
        source, target = c_void_p(self._image.ctypes.data), c_uint64(self._arrays["image"])
        self._driver.call("cuMemcpyHtoDAsync_v2", target, source, c_size_t(self._image_bytes), self._stream)

    def _download(self) -> None:
        source, target = c_uint64(self._arrays["logits"]), c_void_p(self._outputs.ctypes.data)
        self._driver.call("cuMemcpyDtoHAsync_v2", target, source, c_size_t(self._outputs_bytes), self._stream)
        self._driver.call("cuStreamSynchronize", self._stream)


class _Held:
    """What must be given back to the driver, the last taken first."""

    def __init__(self, driver: Driver, context: c_void_p, device: Any) -> None:
        self._driver, self._context, self._device = driver, context, device
        self._things: list[tuple[str, Any]] = []

    def add(self, free: str, thing: Any) -> Any:
        self._things.append((free, thing))
        return thing

    def device_array(self, size: int) -> int:
        address = self._driver.allocate(size)
        self.add("cuMemFree_v2", c_uint64(address))
        return address

    def host_array(self, size: int) -> int:
        address = self._driver.allocate_host(size)
        self.add("cuMemFreeHost", c_void_p(address))
        return address

    def event(self) -> c_void_p:
        event: c_void_p = self.add("cuEventDestroy_v2", self._driver.handle("cuEventCreate", _EVENT_DEFAULT))
        return event

    def free(self) -> None:
        try:
            self._driver.call("cuCtxSetCurrent", self._context)
            while self._things:
                name, thing = self._things.pop()
                self._driver.call(name, thing)
            self._driver.call("cuDevicePrimaryCtxRelease_v2", self._device)
        except DriverError:
            return  # the process is ending, or the GPU is lost: there is nobody to tell
