"""A bundle directory appears whole or not at all."""

import errno
from pathlib import Path

import pytest

from effgen.bundle import staged_directory, staged_file
from effgen.errors import BuildError


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fill(staging: Path, text: str = "new") -> None:
    (staging / "manifest.json").write_text(text)


def test_written_whole(tmp_path):
    with staged_directory(tmp_path / "deep" / "out", force=False) as staging:
        fill(staging)
        assert not (tmp_path / "deep" / "out").exists()
    assert listing(tmp_path) == ["deep", "deep/out", "deep/out/manifest.json"]
    assert (tmp_path / "deep" / "out").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_left_after_a_failure(tmp_path, error):
    with pytest.raises(error), staged_directory(tmp_path / "out", force=False) as staging:
        fill(staging)
        raise error
    assert listing(tmp_path) == []


def test_existing_needs_force(tmp_path):
    out = tmp_path / "out"
    with staged_directory(out, force=False) as staging:
        fill(staging, "old")
    with pytest.raises(BuildError, match=r"exists already.*--force"), staged_directory(out, force=False):
        raise AssertionError("no work may be done")
    with staged_directory(out, force=True) as staging:
        fill(staging, "new")
    assert (out / "manifest.json").read_text() == "new"
    assert listing(tmp_path) == ["out", "out/manifest.json"]


def test_failure_with_force_keeps_the_old(tmp_path):
    out = tmp_path / "out"
    with staged_directory(out, force=False) as staging:
        fill(staging, "old")
    with pytest.raises(RuntimeError), staged_directory(out, force=True) as staging:
        fill(staging, "new")
        raise RuntimeError
    assert (out / "manifest.json").read_text() == "old"
    assert listing(tmp_path) == ["out", "out/manifest.json"]


def test_interrupt_between_the_two_renames_keeps_the_old(tmp_path, monkeypatch):
    out = tmp_path / "out"
    with staged_directory(out, force=False) as staging:
        fill(staging, "old")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp":
            raise KeyboardInterrupt
        return rename(self, target)

    with pytest.raises(KeyboardInterrupt), staged_directory(out, force=True) as staging:
        fill(staging, "new")
        monkeypatch.setattr(Path, "rename", interrupted)
    assert (out / "manifest.json").read_text() == "old"
    assert listing(tmp_path) == ["out", "out/manifest.json"]


def test_full_disk_is_one_line_and_leaves_no_folders(tmp_path):
    message = r"out: cannot be written: No space left"
    with pytest.raises(BuildError, match=message), staged_directory(tmp_path / "a" / "b" / "out", force=False):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert listing(tmp_path) == []


def test_force_replaces_bundles_only(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "home")
    for name in ("home", "file", "link"):
        with (
            pytest.raises(BuildError, match=r"not a bundle|symbolic link"),
            staged_directory(tmp_path / name, force=True),
        ):
            raise AssertionError("no work may be done")
    assert (tmp_path / "home" / "precious.txt").read_text() == "mine"


def test_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="cannot be written"), staged_directory(tmp_path / "file" / "out", force=False):
        raise AssertionError("no work may be done")


def test_file_with_companions(tmp_path):
    with staged_file(tmp_path / "m.onnx", force=False) as path:
        path.write_text("graph")
        path.with_name("m.onnx.data").write_text("weights")
    assert listing(tmp_path) == ["m.onnx", "m.onnx.data"]
    with pytest.raises(BuildError, match="exists already"), staged_file(tmp_path / "m.onnx", force=False):
        raise AssertionError("no work may be done")
    with pytest.raises(BuildError, match="is a directory"), staged_file(tmp_path, force=True):
        raise AssertionError("no work may be done")
