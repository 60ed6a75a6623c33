"""A loaded bundle: a function from images to the network's answer."""

from __future__ import annotations

import copy
import os
from math import prod
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BundleError
from effgen.machines.processor import default_threads, missing_features, usable_cpus
from effgen.runtime.answers import array_sizes
from effgen.runtime.arrays import aligned, read_aligned
from effgen.runtime.check import image_for
from effgen.runtime.classify import ImageClassifier
from effgen.runtime.cuda import CudaModel
from effgen.runtime.fields import shown
from effgen.runtime.library import check_arrays, refused_arrays
from effgen.runtime.manifest import (
    ARRAY_SIZE,
    LIBRARY,
    RUN_ON,
    TRACE_ON,
    WEIGHTS,
    Manifest,
    failure,
    read_manifest,
    refuse_foreign,
)
from effgen.runtime.native import Arguments, Hole, NativeFunction, NativeLibrary, RefusedError
from effgen.runtime.turn import Turn

# Every model of this process: a fork's child must not wait for a lock that only a thread of the parent's holds.
_models: WeakSet[LoadedModel] = WeakSet()


def _after_fork() -> None:
    for model in _models:
        model._one_call = Turn()


os.register_at_fork(after_in_child=_after_fork)


class LoadedModel(ImageClassifier):
    """Callable: float32 images NCHW `(batch, channels, height, width)` -> float32
    `(batch, classes)`, logits or what else the manifest's `output_kind` says, or another
    `effgen.runtime.answers.Answer`.

    The shape is the bundle's; the caller prepares the image as the manifest says, or has `classify` do it. Calls from
    several Python threads take turns: they share one workspace.
    """

    def __init__(self, path: Path, manifest: Manifest, threads: int) -> None:
        super().__init__(path, manifest)
        self.threads = threads
        library = NativeLibrary(path / LIBRARY)
        self._run, self._trace, size_of = (library.function(name) for name in (RUN_ON, TRACE_ON, ARRAY_SIZE))
        sizes = array_sizes(manifest, (path / WEIGHTS).stat().st_size)
        check_arrays(path / LIBRARY, lambda number: size_of(Arguments(number)), sizes)
        self._weights = read_aligned(path / WEIGHTS)
        self._take_memory()

    def twin(self, threads: int | None = None) -> LoadedModel:
        """This model with memory of its own for a run, and the same code and weights: for a second Python thread, which
        then need not wait for its turn. `threads`: at most as many as the model has, which is the default. Raises
        BundleError for another number of threads, and where memory is short."""
        other = copy.copy(self)
        other.threads = _checked_threads(threads, self.threads, "the threads of the model") or self.threads
        other._take_memory()
        return other

    def _take_memory(self) -> None:
        """What a run writes to."""
        self._one_call = Turn()
        _models.add(self)
        self._outputs = aligned((self.layout.floats,))
        self._clock = np.zeros((len(self.manifest.steps) + 1, 2), np.int64)
        workspace = aligned((self.manifest.workspace_bytes // 4,))
        arrays = self.threads, Hole(prod(self.manifest.input["shape"])), self._outputs, self._weights, workspace
        self._arguments, self._traced = Arguments(*arrays), Arguments(*arrays, self._clock)

    def __call__(self, image: NDArray[np.float32]) -> Any:
        """Run once. Raises BundleError where `image` has another shape or dtype, or memory is short."""
        image = image_for(image, self.manifest)
        with self._one_call.taken():
            self._call(self._run, image, self._arguments)
            return self.layout.answer(self._outputs)

    def trace(self, image: NDArray[np.float32]) -> NDArray[np.int64]:
        """Run once with a clock between the steps: its nanoseconds before each and after the last, `(steps + 1,)`.

        Raises as calling does.
        """
        image = image_for(image, self.manifest)
        with self._one_call.taken():
            self._call(self._trace, image, self._traced)
            return self._clock[:, 0] * 1_000_000_000 + self._clock[:, 1]

    def _call(self, function: NativeFunction, image: NDArray[np.float32], arguments: Arguments) -> None:
        # Not copied unless it must be: a copy through cold caches takes 1.5% of B0's time.
        image = np.ascontiguousarray(image)
        arguments.point(1, image)
        try:
            status = function(arguments)
        except RefusedError:
            raise refused_arrays(self.manifest.name) from None
        if status:
            raise BundleError(failure(self.manifest, self.threads, status))


def load(path: str | Path, threads: int | None = None) -> LoadedModel | CudaModel:
    """Load the bundle directory `path`; `threads` (default: the manifest's, at most the cores that this process
    may use) of a CPU.

    Raises BundleError: damaged or foreign bundle, a processor without the instructions it was compiled for or no GPU
    of its kind, or a thread count that this process cannot have.
    """
    return load_checked(Path(path), read_manifest(path, whole=False), threads)


def load_checked(path: Path, manifest: Manifest, threads: int | None = None) -> LoadedModel | CudaModel:
    """`load` where the manifest was read, and the files' hashes checked, already."""
    return (_load_on_cpu if manifest.device_kind.on_cpu else _load_on_gpu)(path, manifest, threads)


def _load_on_gpu(path: Path, manifest: Manifest, threads: int | None) -> CudaModel:
    if threads not in (None, 1):
        raise BundleError(f"threads = {threads}: this bundle runs on a GPU, which one thread feeds; leave it out")
    return CudaModel(path, manifest)


def _load_on_cpu(path: Path, manifest: Manifest, threads: int | None) -> LoadedModel:
    refuse_foreign(path, manifest)
    missing = missing_features(manifest.target["features"])
    if missing:
        raise BundleError(
            f"{path}: compiled for {manifest.target['name']}, this processor lacks {', '.join(missing)}; "
            f"compile with `--target cpu` here"
        )
    most = len(usable_cpus())
    checked = _checked_threads(threads, most, "the CPUs of this process")
    return LoadedModel(path, manifest, checked or min(manifest.threads, default_threads()))


def _checked_threads(threads: int | None, most: int, why: str) -> int | None:
    """`threads`, unless that is nothing to hand to a pool: none at all is. Raises BundleError that says `why` there can
    be `most`."""
    if threads is not None and not (type(threads) is int and 1 <= threads <= most):
        raise BundleError(f"threads = {shown(threads)}: expected a whole number from 1 to {most}, {why}")
    return threads
