"""The cache of what is built: made once, whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from effgen.deploy.native.cache import cached_folder
from effgen.errors import BuildError


def test_cached_folder_is_made_once_by_several_processes(empty_cache: Path) -> None:
    code = """
import os, time
from effgen.deploy.native.cache import cached_folder

def fill(folder):
    with open(os.environ["XDG_CACHE_HOME"] + "/log", "a") as log:
        log.write("made\\n")
    time.sleep(0.2)
    (folder / "whole").touch()

assert (cached_folder("x", fill) / "whole").exists()
"""
    empty_cache.mkdir(parents=True)
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (empty_cache.parent / "log").read_text() == "made\n"


def test_what_a_killed_process_left_is_not_used(empty_cache: Path) -> None:
    (empty_cache / "x.partial").mkdir(parents=True)
    (empty_cache / "x.partial" / "half").touch()
    assert list(cached_folder("x", lambda folder: None).iterdir()) == []


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BuildError, match=r"cannot be written: .*; set XDG_CACHE_HOME"):
        cached_folder("x", lambda folder: None)


def test_what_others_may_write_to_is_not_loaded(empty_cache: Path) -> None:
    folder = cached_folder("x", lambda folder: (folder / "program").write_text("ours"))
    for path in (folder / "program", folder, folder.parent):
        mode = path.stat().st_mode
        for more in (0o020, 0o002):
            path.chmod(mode | more)
            with pytest.raises(
                BuildError, match=r"others may write to it \(mode \d+\): .*; remove it, or set XDG_CACHE"
            ) as found:
                cached_folder("x", lambda folder: None)
            assert str(found.value).startswith(f"{path}: ")
        path.chmod(mode)
    assert cached_folder("x", lambda folder: None) == folder


def test_what_belongs_to_others_is_not_loaded(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached_folder("x", lambda folder: None)
    owner = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    if owner == 0:  # root's is everybody's to use
        assert cached_folder("x", lambda folder: None).is_dir()
        os.chown(empty_cache / "x", 12345, 12345)
        owner = 12345
    with pytest.raises(BuildError, match=rf"belongs to another user \(uid {owner}\): the cache is run"):
        cached_folder("x", lambda folder: None)


def test_links_are_not_followed(empty_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    empty_cache.mkdir(parents=True)
    (empty_cache / "x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BuildError, match="is a symbolic link, which effgen does not make"):
        cached_folder("x", lambda folder: None)


def test_mask_that_lets_a_group_write(empty_cache: Path) -> None:
    before = os.umask(0o002)
    try:
        folder = cached_folder("x", lambda folder: (folder / "program").write_text("ours"))
    finally:
        os.umask(before)
    assert (folder / "program").stat().st_mode & 0o022 == folder.stat().st_mode & 0o022 == 0
    assert cached_folder("x", lambda folder: None) == folder
