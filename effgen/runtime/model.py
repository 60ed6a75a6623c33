"""A loaded bundle: a function from images to logits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.cpu import missing_features, usable_cpus
from effgen.errors import BundleError
from effgen.runtime.library import load_tvm_runtime
from effgen.runtime.manifest import LIBRARY, Manifest, read_manifest

_CPU = 1  # kDLCPU
_POOLED = 2  # the allocator that keeps a call's workspace for the next call
_BIG_CORES = 1  # the thread pool's mode that takes a thread count
_ALIGNMENT = 64  # bytes; what kernels may assume of their arguments


class LoadedModel:
    """Callable: float32 images NCHW `(batch, channels, height, width)` -> float32 logits `(batch, classes)`.

    The shape is the bundle's, the normalisation (mean, std in the manifest) is the caller's. Calls from several
    Python threads take turns: they share one workspace.
    """

    def __init__(self, path: Path, manifest: Manifest, threads: int) -> None:
        self.manifest = manifest
        self.threads = threads
        self._shape = tuple(manifest.input["shape"])
        self._one_call = Lock()
        ffi = load_tvm_runtime()
        self._set_threads = ffi.get_global_func("runtime.config_threadpool")
        self._vm = _load_library(ffi, path / LIBRARY)["vm_load_executable"]()
        self._vm["vm_initialization"](_CPU, 0, _POOLED)
        self._main = self._vm["main"]
        self._image = _aligned(self._shape)
        self._image_tensor: Any = ffi.from_dlpack(self._image)

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run once. Raises BundleError where `image` has another shape or dtype."""
        if not isinstance(image, np.ndarray):
            raise BundleError(f"image: a {type(image).__name__}: this bundle takes a numpy array")
        if image.shape != self._shape or image.dtype != np.float32:
            raise BundleError(
                f"image {image.dtype}{list(image.shape)}: this bundle takes float32{list(self._shape)} (NCHW)"
            )
        with self._one_call:
            np.copyto(self._image, image)
            # Each Python thread has a pool of its own, shared by all models: set it before every call (1 us).
            self._set_threads(_BIG_CORES, self.threads)
            return np.array(np.from_dlpack(self._main(self._image_tensor)))

    @contextmanager
    def instrumented(self, instrument: Callable[..., int]) -> Iterator[None]:
        """Inside the block, `instrument(function, name, before, result, *arguments)` is called before (`before` true)
        and after each call that the library's VM makes: kernels, and its own functions (`vm.builtin...`).

        It returns 0. It sees the calls of all Python threads, and slows them: see `effgen.runtime.profile`.
        """
        with self._one_call:
            self._vm["set_instrument"](load_tvm_runtime().convert(instrument))
        try:
            yield
        finally:
            with self._one_call:
                self._vm["set_instrument"](None)


def load(path: str | Path, threads: int | None = None) -> LoadedModel:
    """Load the bundle directory `path`; `threads` (default: the manifest's, at most the cores there are).

    Raises BundleError: damaged or foreign bundle, a processor without the instructions it was compiled for, or a
    thread count that this process cannot have.
    """
    manifest = read_manifest(path)
    missing = missing_features(manifest.target["features"])
    if missing:
        raise BundleError(
            f"{path}: compiled for {manifest.target['name']}, this processor lacks {', '.join(missing)}; "
            f"compile with `--target cpu` here"
        )
    most = _most_threads()
    if threads is not None and not (isinstance(threads, int) and 1 <= threads <= most):
        raise BundleError(
            f"threads = {threads}: expected a whole number from 1 to {most}, the CPUs of this process "
            f"(or what TVM_NUM_THREADS says, where it is set)"
        )
    return LoadedModel(Path(path), manifest, threads or min(manifest.threads, most))


def _most_threads() -> int:
    """The size of TVM's thread pool, which is fixed when the first kernel runs, or the affinity mask's if smaller."""
    cpus = len(usable_cpus())
    ffi = load_tvm_runtime()
    ffi.get_global_func("runtime.config_threadpool")(_BIG_CORES, cpus)
    return min(cpus, int(ffi.get_global_func("runtime.NumThreads")()))


def _load_library(ffi: ModuleType, path: Path) -> Any:
    """The library as a TVM module, by a name of its own.

    The dynamic loader takes an equal path for an equal library: a bundle that was compiled again in its old place
    would silently be the old one for as long as that is loaded.
    """
    with tempfile.TemporaryDirectory(prefix="effgen.") as folder:
        link = Path(folder) / path.name
        link.symlink_to(path.resolve())
        return ffi.load_module(str(link))


def _aligned(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array whose data starts at a multiple of the kernels' alignment; numpy promises 16 bytes only."""
    count = int(np.prod(shape))
    buffer = np.empty(count * 4 + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + count * 4].view(np.float32).reshape(shape)
