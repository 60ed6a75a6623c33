"""A bundle directory appears whole or not at all."""

import errno
import os
import signal
import stat
from pathlib import Path

import pytest

from effgen.errors import BuildError
from effgen.files import staging as staging_module
from effgen.files.staging import staged_directory, staged_file
from effgen.files.temporary import SUFFIX
from effgen.runtime.manifest import BUNDLE_FOLDER


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fill(staging: Path, text: str = "new") -> None:
    (staging / "manifest.json").write_text(text)


def test_written_whole(tmp_path):
    with staged_directory(tmp_path / "deep" / "out", force=False, kind=BUNDLE_FOLDER) as staging:
        fill(staging)
        assert not (tmp_path / "deep" / "out").exists()
    assert listing(tmp_path) == ["deep", "deep/out", "deep/out/manifest.json"]
    assert (tmp_path / "deep" / "out").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_left_after_a_failure(tmp_path, error):
    with pytest.raises(error), staged_directory(tmp_path / "out", force=False, kind=BUNDLE_FOLDER) as staging:
        fill(staging)
        raise error
    assert listing(tmp_path) == []


def test_existing_needs_force(tmp_path):
    out = tmp_path / "out"
    with staged_directory(out, force=False, kind=BUNDLE_FOLDER) as staging:
        fill(staging, "old")
    with (
        pytest.raises(BuildError, match=r"exists already.*--force"),
        staged_directory(out, force=False, kind=BUNDLE_FOLDER),
    ):
        raise AssertionError("no work may be done")
    with staged_directory(out, force=True, kind=BUNDLE_FOLDER) as staging:
        fill(staging, "new")
    assert (out / "manifest.json").read_text() == "new"
    assert listing(tmp_path) == ["out", "out/manifest.json"]


def test_failure_with_force_keeps_the_old(tmp_path):
    out = tmp_path / "out"
    with staged_directory(out, force=False, kind=BUNDLE_FOLDER) as staging:
        fill(staging, "old")
    with pytest.raises(RuntimeError), staged_directory(out, force=True, kind=BUNDLE_FOLDER) as staging:
        fill(staging, "new")
        raise RuntimeError
    assert (out / "manifest.json").read_text() == "old"
    assert listing(tmp_path) == ["out", "out/manifest.json"]


def test_interrupt_between_the_two_renames_keeps_the_old(tmp_path, monkeypatch):
    monkeypatch.setattr(staging_module, "exchanged", lambda one, other: False)  # as on some file systems
    out = tmp_path / "out"
    with staged_directory(out, force=False, kind=BUNDLE_FOLDER) as staging:
        fill(staging, "old")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.suffix == SUFFIX:
            raise KeyboardInterrupt
        return rename(self, target)

    with pytest.raises(KeyboardInterrupt), staged_directory(out, force=True, kind=BUNDLE_FOLDER) as staging:
        fill(staging, "new")
        monkeypatch.setattr(Path, "rename", interrupted)
    assert (out / "manifest.json").read_text() == "old"
    assert listing(tmp_path) == ["out", "out/manifest.json"]


def test_full_disk_is_one_line_and_leaves_no_folders(tmp_path):
    message = r"out: cannot be written: No space left"
    with (
        pytest.raises(BuildError, match=message),
        staged_directory(tmp_path / "a" / "b" / "out", force=False, kind=BUNDLE_FOLDER),
    ):
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
            staged_directory(tmp_path / name, force=True, kind=BUNDLE_FOLDER),
        ):
            raise AssertionError("no work may be done")
    assert (tmp_path / "home" / "precious.txt").read_text() == "mine"


def test_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(BuildError, match="cannot be written"),
        staged_directory(tmp_path / "file" / "out", force=False, kind=BUNDLE_FOLDER),
    ):
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


def test_files_are_on_the_disk_before_they_take_their_place_and_the_names_after(tmp_path, monkeypatch):
    """What a power cut may not lose: the main file comes last, when all that belongs to it is there."""
    done, fsync, replace = [], os.fsync, Path.replace

    def flush(descriptor: int) -> None:
        done.append(("flush", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def move(self: Path, target: Path) -> Path:
        done.append(("move", target.name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", move)
    with staged_file(tmp_path / "new" / "w", force=False) as path:
        path.write_text("weights")
        path.with_name("x").write_text("labels")
    assert done == [
        ("flush", tmp_path.name),  # the name of the new folder
        *(("flush", "x"), ("flush", "w"), ("move", "x"), ("move", "w")),
        ("flush", "new"),
    ]


def test_a_disk_that_fails_late_is_one_line_and_keeps_the_old(tmp_path, monkeypatch):
    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "w").write_text("old")
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(BuildError, match="w: cannot be written: Input/output error"):
        write(tmp_path / "w")
    assert listing(tmp_path) == ["w"] and (tmp_path / "w").read_text() == "old"


def test_a_file_system_that_cannot_flush_names_will_do(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write(tmp_path / "w")
    assert (tmp_path / "w").read_text() == "new"


def write(path: Path) -> None:
    with staged_file(path, force=True) as staging:
        staging.write_text("new")


def test_the_second_of_two_that_make_one_name_is_refused(tmp_path):
    """Both began where there was nothing; the later one must not silently take the place of the first."""
    out = tmp_path / "out"
    with pytest.raises(
        BuildError, match=r"out: exists now, made by another process meanwhile; choose another -o"
    ) as one:
        with staged_directory(out, force=False, kind=BUNDLE_FOLDER) as slow:
            fill(slow, "slow")
            with staged_directory(out, force=False, kind=BUNDLE_FOLDER) as fast:
                fill(fast, "fast")
    assert "\n" not in str(one.value) and (out / "manifest.json").read_text() == "fast"
    file = tmp_path / "w.bin"
    with pytest.raises(BuildError, match=r"w.bin: exists now"), staged_file(file, force=False) as slow:
        slow.write_text("slow")
        (slow.parent / "w.labels").write_text("slow")
        with staged_file(file, force=False) as fast:
            fast.write_text("fast")
            (fast.parent / "w.labels").write_text("fast")
    assert file.read_text() == (tmp_path / "w.labels").read_text() == "fast"
    assert listing(tmp_path) == ["out", "out/manifest.json", "w.bin", "w.labels"]


def test_replacing_leaves_no_moment_without_one(tmp_path, monkeypatch):
    """Killed right after the names were exchanged: the new one is there, the old one goes at the next start."""
    out = tmp_path / "out"
    with staged_directory(out, force=False, kind=BUNDLE_FOLDER) as staging:
        fill(staging, "old")
    if os.fork() == 0:
        exchanged = staging_module.exchanged

        def killed(one: Path, other: Path) -> bool:
            exchanged(one, other)
            os.kill(os.getpid(), signal.SIGKILL)
            return True

        staging_module.exchanged = killed
        with staged_directory(out, force=True, kind=BUNDLE_FOLDER) as staging:
            fill(staging, "new")
        os._exit(0)
    assert os.wait()[1] == signal.SIGKILL
    assert (out / "manifest.json").read_text() == "new"
    assert len(listing(tmp_path)) == 4  # and the old one aside
    with staged_directory(tmp_path / "other", force=False, kind=BUNDLE_FOLDER) as staging:
        fill(staging, "other")
    assert listing(tmp_path) == ["other", "other/manifest.json", "out", "out/manifest.json"]
