"""What C++ writes to descriptor 2 is kept back; Python's standard error goes on to where it went."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from effgen.files.standard_error import captured_standard_error

#: Python's words and, behind its back, words as C++ writes them.
PROGRAM = """
import os, sys
from effgen.files.standard_error import captured_standard_error
print("before", file=sys.stderr)
try:
    with captured_standard_error() as said:
        os.write(2, b"raw 1\\n")
        print("inside", file=sys.stderr)
        with captured_standard_error() as nested:
            os.write(2, b"raw 2\\n")
        assert nested.text == ""
        FAIL
finally:
    print("after", said.lines, file=sys.stderr)
os.write(2, b"raw 3\\n")
"""


def words_of(program: str, **how: object) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, **how)  # type: ignore[call-overload]
    return str(done.stderr)


def test_python_is_heard_and_nothing_else() -> None:
    said = words_of(PROGRAM.replace("FAIL", "pass"))
    assert said.splitlines() == ["before", "inside", "after ['raw 1', 'raw 2']", "raw 3"]


def test_an_error_ends_the_window() -> None:
    said = words_of(PROGRAM.replace("FAIL", "raise SystemExit('failed')")).splitlines()
    assert said == ["before", "inside", "after ['raw 1', 'raw 2']", "failed"]


def test_closed_standard_error() -> None:
    program = """
import os, sys
from effgen.files.standard_error import captured_standard_error
os.close(2)
sys.stderr = None
with captured_standard_error() as said:
    print("inside")
print(said.lines)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "inside\n[]\n")


def test_a_spinner_keeps_turning() -> None:
    program = """
import os, sys
from rich.console import Console
from effgen.files.standard_error import captured_standard_error
console = Console(stderr=True, force_terminal=True, width=60)
with console.status("turning"):
    with captured_standard_error() as said:
        os.write(2, b"raw\\n")
        console.print("a line")
assert said.lines == ["raw"], said.text
"""
    said = words_of(program)
    assert "a line" in said and "raw" not in said


def test_threads_take_turns(capfd: pytest.CaptureFixture[str]) -> None:
    inside, leave = threading.Event(), threading.Event()
    texts = []

    def other() -> None:
        with captured_standard_error() as said:
            inside.set()
            assert leave.wait(30)
            os.write(2, b"theirs\n")
        texts.append(said.text)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(30)
    with captured_standard_error() as ours:
        os.write(2, b"ours\n")
    leave.set()
    thread.join()
    assert (ours.text, texts) == ("", ["ours\ntheirs\n"])
    os.write(2, b"outside\n")
    assert capfd.readouterr().err == "outside\n"
