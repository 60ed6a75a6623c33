"""Programs that effgen runs end as they did, and with effgen: also what they have started themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from effgen.errors import BuildError
from effgen.machines.programs import run_program, tool_output

#: Longer than anything here takes where it works, also on a busy machine.
_PATIENCE_S = 60.0

_PARENT = """
import sys
from effgen.machines.programs import run_program
run_program([sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
"""

#: Starts one like itself, and both say who they are.
_CHILDREN = """
import os, pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
if len(sys.argv) == 2:
    subprocess.Popen([sys.executable, "-c", os.environ["CODE"], str(folder), "second"])
(folder / str(os.getpid())).touch()
time.sleep(600)
"""


def until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def is_gone(number: int) -> bool:
    """Ended: a zombie waits for whoever inherits it."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_and_its_children_end_with_effgen(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PARENT, _CHILDREN, str(tmp_path)]
    parent = subprocess.Popen(command, env={**os.environ, "CODE": _CHILDREN})
    try:
        assert until(lambda: len(list(tmp_path.iterdir())) == 2)
        children = [int(file.name) for file in tmp_path.iterdir()]
        assert not any(map(is_gone, children))
    finally:
        parent.send_signal(number)
        parent.wait()
    assert until(lambda: all(map(is_gone, children)))


def test_a_command_ends_as_it_did() -> None:
    done = run_program([sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"])
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
        assert run_program([sys.executable, "-c", f"import os; os.kill(os.getpid(), {number})"]).returncode == -number
    missing = run_program(["/nowhere/at-all"])
    assert (missing.returncode, missing.stderr) == (127, "/nowhere/at-all: No such file or directory\n")


def test_a_command_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    code = f"import os, pathlib, time; pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(600)"
    with pytest.raises(subprocess.TimeoutExpired):
        run_program([sys.executable, "-c", code], timeout=2)
    assert until(lambda: all(is_gone(int(file.name)) for file in tmp_path.iterdir()))


def test_a_tool_that_fails_is_told_by_its_error() -> None:
    with pytest.raises(BuildError, match=r"^building failed: x.cc:1: error: what\?$"):
        tool_output(
            [sys.executable, "-c", "import sys; sys.exit('hm\\nx.cc:1: error: what?\\nbye')"], "building failed"
        )
