"""Writing a bundle directory whole or not at all: everything goes to a folder beside it, which is renamed last."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from effgen.errors import BuildError
from effgen.runtime.manifest import MANIFEST


@contextmanager
def staged_directory(output: Path, force: bool) -> Iterator[Path]:
    """A new folder beside `output` that takes its place when the block ends well, and is removed when it does not.

    Raises BuildError before any work is done: `output` exists without `force`, is not a bundle that may be
    replaced, or cannot be written.
    """
    check_output(output, force)
    staging = _make_beside(output)
    try:
        yield staging
        _replace(staging, output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_output(output: Path, force: bool) -> None:
    """Raise BuildError where `output` may not be written. With `force` only a bundle or an empty folder goes."""
    if not output.exists() and not output.is_symlink():
        return
    if not force:
        raise BuildError(f"{output}: exists already; choose another -o/--output, or --force to replace it")
    replaceable = output.is_dir() and not output.is_symlink()
    if not replaceable or (any(output.iterdir()) and not (output / MANIFEST).is_file()):
        raise BuildError(f"{output}: exists and is not a bundle: --force replaces bundles only; remove it by hand")


def _make_beside(output: Path) -> Path:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".tmp", dir=output.parent))
    except OSError as error:
        raise BuildError(f"{output}: cannot be written: {error.strerror}") from None


def _replace(staging: Path, output: Path) -> None:
    """Rename `staging` to `output`; what stood there goes only once the new bundle is in place."""
    staging.chmod(0o755)  # mkdtemp makes it private
    old = None
    if output.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".old", dir=output.parent))
        output.rename(old / output.name)
    try:
        staging.rename(output)
    except OSError as error:
        if old is not None:
            (old / output.name).rename(output)
        raise BuildError(f"{output}: cannot be written: {error.strerror}") from None
    finally:
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def staged_file(output: Path, force: bool) -> Iterator[Path]:
    """As `staged_directory`, for one file and what is written beside it: yields the path to write in a new folder."""
    if output.exists() and not force:
        raise BuildError(f"{output}: exists already; choose another -o/--output, or --force to replace it")
    if output.is_dir():
        raise BuildError(f"{output}: is a directory; expected the name of a file")
    staging = _make_beside(output)
    try:
        yield staging / output.name
        for file in sorted(staging.iterdir()):
            file.replace(output.parent / file.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
