"""What is not to stay goes: at its end, or when the next one begins; what somebody works in stays."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from effgen.errors import BuildError
from effgen.files import temporary
from effgen.files.temporary import (
    SUFFIX,
    exchanged,
    locked_folder,
    plainly_named_folder,
    temporary_file_beside,
    temporary_folder,
    temporary_folder_beside,
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def killed_inside(make: Callable[[], object]) -> None:
    """A process enters the block, writes something there, and is killed with -9."""
    if os.fork() == 0:
        block = make()
        made: Path = block.__enter__()  # type: ignore[attr-defined]
        if made.is_dir():
            (made / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.wait()[1] == signal.SIGKILL


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.suffix)


def test_what_was_killed_is_swept_by_the_next_of_any_purpose(here: Path) -> None:
    for purpose in ("calibrate", "objects"):
        killed_inside(partial(temporary_folder, purpose))
    assert [Path(name).parent.parent.name.split("-")[0] for name in names(here)] == ["objects"]  # which swept the other
    with temporary_folder("load") as folder:
        held = folder.parent
        assert list(held.parent.iterdir()) == [held]
        assert held.stat().st_mode & 0o777 == held.parent.stat().st_mode & 0o777 == 0o700
    assert not list(held.parent.iterdir())


@pytest.mark.parametrize("make", [temporary_folder_beside, temporary_file_beside])
def test_what_was_killed_beside_an_output_is_swept_by_the_next_beside_it(make: Callable, here: Path) -> None:
    killed_inside(partial(make, here / "b"))
    [left] = [name for name in os.listdir(here) if name != "tmp"]
    assert left.startswith(".b.") and left.endswith(SUFFIX)
    with make(here / "other") as mine:
        assert sorted(os.listdir(here)) == [mine.name, "tmp"]
    assert os.listdir(here) == ["tmp"]


def test_what_somebody_works_in_stays(here: Path) -> None:
    beside = temporary_folder_beside(here / "b"), temporary_file_beside(here / "c")
    with temporary_folder("one") as one, beside[0] as two, beside[1] as three:
        with temporary_folder("other"), temporary_folder_beside(here / "b"), temporary_file_beside(here / "b"):
            assert one.is_dir() and two.is_dir() and three.is_file()
    assert not one.exists() and not two.exists() and not three.exists()


def test_what_is_not_ours_by_its_name_stays(here: Path) -> None:
    (here / ".b.abcdefgh.tmp").mkdir()
    (here / "mine").mkdir()
    (here / f"link{SUFFIX}").symlink_to(here / "mine")
    (here / "tmp" / "effgen-mine").mkdir()
    with temporary_folder_beside(here / "b"), temporary_folder("load"):
        pass
    assert (here / ".b.abcdefgh.tmp").is_dir() and (here / "mine").is_dir() and (here / "tmp" / "effgen-mine").is_dir()
    assert (here / f"link{SUFFIX}").is_symlink()


def test_a_common_folder_that_others_may_write_is_not_used(here: Path) -> None:
    home = here / "tmp" / f"effgen-{os.geteuid()}"
    home.mkdir()
    home.chmod(0o777)
    (home / "theirs").mkdir()
    with temporary_folder("load") as folder:
        held = folder.parent
        assert held.parent == here / "tmp" and held.name.startswith("effgen-load-")
    assert (home / "theirs").is_dir() and not held.exists()


def test_without_locks_nothing_is_swept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_inside(partial(temporary_folder_beside, here / "b"))
    monkeypatch.setattr(temporary, "_PATIENCE_S", 0.01)
    monkeypatch.setattr(temporary, "_lock", lambda descriptor: False)
    with temporary_folder_beside(here / "b"):
        pass
    assert len(os.listdir(here)) == 2


def test_names_change_places(here: Path) -> None:
    (here / "one").mkdir()
    (here / "other").write_text("other")
    assert exchanged(here / "one", here / "other")
    assert (here / "one").read_text() == "other" and (here / "other").is_dir()
    with pytest.raises(FileNotFoundError):
        exchanged(here / "one", here / "absent")


def test_no_place_for_one(here: Path) -> None:
    (here / "tmp").rmdir()
    with pytest.raises(BuildError, match=r"temporary folder .*: No such file or directory; .*TMPDIR"):
        with temporary_folder("load"):
            raise AssertionError


def test_full_inside(here: Path) -> None:
    with pytest.raises(BuildError, match=f"temporary folder {here}/tmp: No space left on device; make room"):
        with temporary_folder("load") as folder:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "a"))


@pytest.mark.parametrize("file", ["/elsewhere/a", None])
def test_full_elsewhere(here: Path, file: str | None) -> None:
    """A write does not say which file's it was; the folder's own file system has room."""
    with pytest.raises(OSError, match="No space left"):
        with temporary_folder("load"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)


@pytest.mark.parametrize("character", [*"'\"()[]{}$#;&*?<>|\\`!%\n", "ü", " "])
def test_plain_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, character: str) -> None:
    odd = tmp_path / f"a{character}b"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    with plainly_named_folder("native") as folder:
        assert folder.is_dir() and (character not in str(folder) or character in "ü ")
    assert not folder.exists()


def test_no_plain_name_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a;b"))
    monkeypatch.setattr("effgen.files.temporary._PLAIN_PLACES", (str(tmp_path / "none"),))
    with pytest.raises(BuildError, match=r"temporary folder .*a;b: CMake cannot build in a folder of that name"):
        plainly_named_folder("native")


def test_what_is_held_can_be_worked_in(here: Path) -> None:
    """An output in a folder that is not to stay either, as calibration makes bundles."""
    with temporary_folder("calibrate") as folder, temporary_folder_beside(folder / "b") as inner:
        with temporary_file_beside(inner / "c") as file, locked_folder(inner) as alone:
            assert file.parent == inner and alone


def test_a_lock_that_somebody_keeps_is_not_waited_for_without_end(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "_PATIENCE_S", 0.05)
    with locked_folder(here) as alone, locked_folder(here) as other:
        assert alone and not other
        with temporary_folder_beside(here / "b") as made:
            assert made.is_dir()
