"""The TVM runtime without the TVM compiler: three megabytes instead of 260, and no second of torch's import."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

from effgen.errors import BundleError
from effgen.files.owner import why_not_shared_safely
from effgen.files.temporary import temporary_folder
from effgen.machines.processor import usable_cpus
from effgen.runtime.elf import why_not_loadable


def prepare_tvm() -> None:
    """Set what TVM reads once, when it is first imported or first runs a kernel; call it before either.

    Unset, TVM takes half the cores (it expects hyper-threads) and pins its workers to cores that it picks from
    the whole machine, outside the affinity mask too.
    """
    os.environ.setdefault("TVM_NUM_THREADS", str(len(usable_cpus())))
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    tvm_ffi()


@cache
def tvm_ffi() -> ModuleType:
    """The `tvm_ffi` package, imported without torch.

    It imports torch wherever it finds it (over a second) only to convert torch's tensors, which nobody needs here.
    """
    block_torch = "torch" not in sys.modules
    if block_torch:
        sys.modules["torch"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        import tvm_ffi
    finally:
        if block_torch:
            del sys.modules["torch"]
    return tvm_ffi  # type: ignore[no-any-return]


@cache
def load_tvm_runtime() -> ModuleType:
    """`tvm_ffi` with TVM's runtime library (the thread pool) loaded into the process."""
    prepare_tvm()
    ctypes.CDLL(str(package_file("tvm", "lib/libtvm_runtime.so")), ctypes.RTLD_GLOBAL)
    return tvm_ffi()


@contextmanager
def linked_anew(path: Path) -> Iterator[Path]:
    """The shared library `path` by a name of its own, for as long as it takes to load it. Raises BundleError where it
    is no whole library of this processor's, or others could put another in its place in TMPDIR.

    The dynamic loader takes an equal path for an equal library: a bundle that was compiled again in its old place
    would silently be the old one for as long as that is loaded.
    """
    if odd := why_not_loadable(path, platform.machine()):
        raise BundleError(f"{path}: cannot be loaded: {odd}; compile the bundle again")
    temporary = Path(tempfile.gettempdir())
    if problem := why_not_shared_safely(temporary):
        raise BundleError(f"{temporary}: {problem}: code is loaded from there; set TMPDIR to a folder of your own")
    with temporary_folder("load") as folder:
        link = folder / path.name
        link.symlink_to(path.resolve())
        yield link


def check_arrays(path: Path, size_of: Callable[[int], int], sizes: Mapping[str, int]) -> None:
    """Raise BundleError where the library `path` takes arrays of other sizes than the bundle has, by the parameter's
    name, before there is memory for them: a manifest, weights and a library with right hashes need not belong together.

    `size_of`: the library's `array_size`.
    """
    for number, (name, size) in enumerate(sizes.items()):
        taken = size_of(number)
        if taken != size:
            raise BundleError(
                f"{path}: takes an array {name} of {taken} numbers, the bundle has one of {size}: its files do not "
                "belong together; compile the bundle again"
            )


def refused_arrays(where: str, error: Exception | None = None) -> BundleError:
    """The library's own refusal of its arguments in a line, without the signature in its middle."""
    said = "" if error is None else f": {_refusal(error)}"
    return BundleError(
        f"{where}: the library refuses its arrays{said}: the bundle's files do not belong together; "
        "compile the bundle again"
    )


def _refusal(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "`" not in line]
    return " ".join(lines).replace(" when calling:", ":") or type(error).__name__


def package_file(package: str, path: str) -> Path:
    """A file of `tvm` or `tvm_ffi`, found without importing the package. Raises BundleError where there is none."""
    file = find_package_file(package, path)
    if file is None:
        distribution = f"apache-{package.replace('_', '-')}"
        raise BundleError(f"{Path(path).name} not found: install {distribution} (see `effgen doctor`)")
    return file


def find_package_file(package: str, path: str) -> Path | None:
    """A file of an installed package, which is not imported; None where there is none."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / path
        if file.is_file():
            return file
    return None
