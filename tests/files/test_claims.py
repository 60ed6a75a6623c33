"""A name is one process's at a time, and nobody's when that is gone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from effgen.files import claims
from effgen.files.claims import Claims


def test_a_name_is_one_holders_until_it_lets_go(tmp_path: Path) -> None:
    one, other = Claims(tmp_path / "c"), Claims(tmp_path / "c")
    assert one.take("a") and one.take("a") and other.take("b")
    assert not other.take("a") and not one.take("b")
    one.drop("a")
    assert other.take("a") and not one.take("a")
    other.close()
    assert one.take("a") and one.take("b")
    assert (tmp_path / "c").stat().st_size == 0


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    mine, (reads, writes) = Claims(tmp_path / "c"), os.pipe()
    child = os.fork()
    if child == 0:
        theirs = Claims(tmp_path / "c")
        os.write(writes, b"1" if theirs.take("a") else b"0")
        signal.pause()
    assert os.read(reads, 1) == b"1"
    assert not mine.take("a")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert mine.take("a")


def test_without_locks_everything_is_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Claims(tmp_path / "absent" / "c")
    assert nowhere.take("a")
    nowhere.drop("a")

    def none(*arguments: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(claims.fcntl, "fcntl", none)
    one, other = Claims(tmp_path / "c"), Claims(tmp_path / "c")
    assert one.take("a") and other.take("a")
    one.drop("a")
