"""Temporary folders: errors that name them, and names that other tools can bear."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from effgen.errors import BuildError, BundleError
from effgen.files.temporary import plainly_named_folder, temporary_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_for_a_block(place: Path) -> None:
    with temporary_folder("some-") as folder:
        (folder / "a").write_text("b")
        assert folder.parent == place and folder.name.startswith("some-")
    assert not list(place.iterdir())


def test_no_place_for_one(place: Path) -> None:
    place.rmdir()
    with pytest.raises(BundleError, match=r"temporary folder: .*No such file or directory; .*TMPDIR"):
        with temporary_folder(error=BundleError):
            raise AssertionError


def test_full_inside(place: Path) -> None:
    with pytest.raises(BuildError, match=f"temporary folder {place}: No space left on device; make room"):
        with temporary_folder() as folder:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "a"))
    assert not list(place.iterdir())


@pytest.mark.parametrize("file", ["/elsewhere/a", None])
def test_full_elsewhere(place: Path, file: str | None) -> None:
    """A write does not say which file's it was; the folder's own file system has room."""
    with pytest.raises(OSError, match="No space left"):
        with temporary_folder():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)


@pytest.mark.parametrize("character", [*"'\"()[]{}$#;&*?<>|\\`!%\n", "ü", " "])
def test_plain_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, character: str) -> None:
    odd = tmp_path / f"a{character}b"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    with plainly_named_folder("effgen-") as folder:
        assert folder.is_dir() and (character not in str(folder) or character in "ü ")
    assert not folder.exists()


def test_no_plain_name_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a;b"))
    monkeypatch.setattr("effgen.files.temporary._PLAIN_PLACES", (str(tmp_path / "none"),))
    with pytest.raises(BuildError, match=r"temporary folder .*a;b: CMake cannot build in a folder of that name"):
        plainly_named_folder("effgen-")
