"""The standalone library of a bundle in this process: by ctypes, without TVM."""

from __future__ import annotations

import ctypes
import weakref
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BundleError
from effgen.runtime.answers import AnswerLayout, answer_of
from effgen.runtime.check import image_for
from effgen.runtime.library import linked_anew
from effgen.runtime.manifest import Manifest, read_manifest, refuse_foreign


class StandaloneModel:
    """Callable as `LoadedModel` is: float32 images NCHW -> float32 `(batch, classes)`, or another answer.
    `close` gives its threads and memory back, as leaving a `with` block does."""

    def __init__(self, path: Path, manifest: Manifest, threads: int | None = None) -> None:
        """`threads` None: the library's default. Raises BundleError where the bundle has no such library, or it cannot
        run here."""
        if manifest.standalone is None:
            raise BundleError(f"{path}: holds no standalone library; compile it with --emit standalone")
        refuse_foreign(path, manifest)
        self.manifest = manifest
        self._shapes = AnswerLayout.of(manifest).shapes
        self._handle = ctypes.c_void_p()
        create, self._run, self._destroy, self._error, floats = _functions(path, manifest.standalone)
        _check_sizes(path / manifest.standalone["shared"], floats, prod(manifest.input["shape"]), self._shapes)
        self._run.argtypes = [ctypes.c_void_p] * 3
        self._destroy.argtypes, self._destroy.restype = [ctypes.c_void_p], None
        self._error.restype = ctypes.c_char_p
        self._check(create(ctypes.byref(self._handle), threads or 0))
        self._finalizer = weakref.finalize(self, self._destroy, self._handle)

    def __call__(self, image: NDArray[np.float32]) -> Any:
        """Run once. Raises BundleError where `image` has another shape or dtype, or memory is short."""
        image = image_for(image, self.manifest)
        image = np.ascontiguousarray(image)
        outputs = [np.empty(shape, np.float32) for shape in self._shapes]
        pointers = [output.ctypes.data for output in outputs]
        several = (ctypes.c_void_p * len(pointers))(*pointers)
        self._check(self._run(self._handle, image.ctypes.data, pointers[0] if len(outputs) == 1 else several))
        return answer_of(outputs)

    def close(self) -> None:
        """Free what the model holds; it cannot be called any more."""
        self._handle = ctypes.c_void_p()
        self._finalizer()

    def _check(self, status: int) -> None:
        if status:
            raise BundleError(f"{self.manifest.name}, standalone: {self._error(status).decode()}")

    def __enter__(self) -> StandaloneModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _functions(path: Path, standalone: dict[str, Any]) -> list[Any]:
    """The header's functions, create first. Raises BundleError where the library lacks one, or cannot be loaded."""
    name, file = standalone["name"], path / standalone["shared"]
    try:
        with linked_anew(file) as link:
            library = ctypes.CDLL(str(link))
        return [library[f"{name}_{what}"] for what in ("create", "run", "destroy", "error", "floats")]
    except (OSError, AttributeError) as error:
        raise BundleError(f"{file}: cannot be loaded: {' '.join(str(error).split())}; compile it again here") from None


def _check_sizes(file: Path, floats: Any, image: int, shapes: tuple[tuple[int, ...], ...]) -> None:
    """Raise BundleError where the library reads or writes other arrays than the manifest says: it is told no sizes."""
    floats.argtypes, floats.restype = [ctypes.c_int], ctypes.c_size_t
    stated = [image, *map(prod, shapes), 0]
    if stated != [floats(number) for number in range(-1, len(shapes) + 1)]:
        raise BundleError(
            f"{file}: takes or gives other arrays than the manifest says: the bundle's files do not belong together; "
            "compile the bundle again"
        )


def load_standalone(path: str | Path, threads: int | None = None) -> StandaloneModel:
    """The standalone library of the bundle directory `path`, after its hashes were checked. Raises BundleError."""
    return StandaloneModel(Path(path), read_manifest(path), threads)
