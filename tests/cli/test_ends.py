"""How a command may end: stopped, without a reader, or by a bug."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from effgen.cli import main

MAIN = "from effgen.cli import main; main()"


@pytest.mark.parametrize(
    ("number", "after", "status", "word"),
    [
        (signal.SIGINT, "initialise weights", 130, "interrupted"),
        (signal.SIGTERM, "import ONNX", 143, "terminated"),
    ],
)
def test_stopped_midway_leaves_nothing(
    number: signal.Signals, after: str, status: int, word: str, tiny_spec: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", MAIN, "compile", "--spec", str(tiny_spec), "-o", str(tmp_path / "out")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr and process.stdout
        for line in process.stderr:
            if after in line:  # that phase is over
                break
        assert list(tmp_path.iterdir()) != []
        process.send_signal(number)
        rest, out = process.stderr.read(), process.stdout.read()
    assert (process.returncode, out) == (status, ""), rest
    assert rest.splitlines()[-1] == word and "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_stop_that_compiled_code_hides_is_still_a_stop(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from effgen.network import inspection

    def hides(*arguments: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError from None

    monkeypatch.setattr(inspection, "inspect_network", hides)
    code, out, err = run("inspect", "-q")
    assert (code, out, err) == (130, "", "interrupted\n")


def test_reader_that_goes_away_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    words = [sys.executable, "-c", MAIN, "inspect", "-q"]
    done = subprocess.run(words, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert done.stderr == ""


def test_a_bug_keeps_its_traceback(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from effgen.network import inspection

    def bug(network: object, baseline: object) -> None:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr(inspection, "inspect_network", bug)
    monkeypatch.setattr(sys, "argv", ["effgen", "inspect"])
    with pytest.raises(ZeroDivisionError):
        main()
