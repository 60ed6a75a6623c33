"""The cache of what is built: made once, whole or not at all."""

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
