"""What tests of searches share: a trainer that learns nothing but can be made to hang or fail, and real workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from networks import TINY

#: TINY whose channels are rounded finely, so that compound networks of equal multiply-adds exist.
FINE = TINY.replace("[stem]", "[rounding]\nchannel_divisor = 2\n\n[stem]")

#: A larger network is better here, a seed makes a little difference; FAIL and HANG are numbers of this worker's calls.
TRAINER = """
import os, pathlib, time

calls = 0

def accuracy(spec, seed):
    global calls
    calls += 1
    if str(calls) == os.environ.get("HANG"):
        pathlib.Path(os.environ["HANGING"]).touch()
        time.sleep(600)
    if str(calls) in os.environ.get("FAIL", "").split(","):
        raise RuntimeError("no luck")
    time.sleep(float(os.environ.get("SECONDS", "0")))
    return 0.5 + 0.01 * sum(stage.repeats for stage in spec.stages) + 0.001 * (seed % 3)
"""

#: For FAIL: all calls.
EVERY = ",".join(map(str, range(1, 200)))

_MAIN = "from effgen.cli import main; main()"


def write_search(folder: Path) -> tuple[str, ...]:
    """A spec and a trainer in `folder`, and the words of a small search with them that answers in seconds."""
    (folder / "fine.toml").write_text(FINE)
    (folder / "trainer.py").write_text(TRAINER)
    trainer = f"{folder / 'trainer.py'}:accuracy"
    size = ("--step", "0.2", "--seeds", "2", "--confirm-seeds", "1", "--no-latency")
    return ("search", "scaling", "--spec", str(folder / "fine.toml"), "--trainer", trainer, *size)


def start(words: Iterable[str], cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    """`effgen WORDS` as a process of its own group."""
    return subprocess.Popen(
        [sys.executable, "-c", _MAIN, *words],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def output_of(process: subprocess.Popen[str]) -> str:
    """Standard output of a process that has to end well."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def kill_one_of_two(storage: str, folder: Path) -> None:
    """Two workers start at once on an empty storage; one is killed with -9 in its third training; what must hold then.

    The search completes, every planned training is in the table once, the killed one was done again by the other
    worker, and nothing else failed but for attempts to take what the other had.
    """
    words = write_search(folder)
    place = ("--storage", storage, "--study", "shared", "--heartbeat", "0.5", "--json", "-")
    hanging = folder / "hanging"
    victim = start([*words, *place, "--work", str(folder / "a")], HANG="3", HANGING=str(hanging), SECONDS="0.1")
    survivor = start([*words, *place, "--work", str(folder / "b")], SECONDS="0.1")
    try:
        until(hanging.exists)
        victim.kill()
        victim.communicate()
        report = json.loads(output_of(survivor))
    finally:
        for process in (victim, survivor):
            process.kill()
            process.communicate()
    trials = trials_of(storage, "shared")
    complete = [trial["item"] for trial in trials if trial["state"] == "complete"]
    compound = sum(row["kind"] == "compound" for row in report["rows"])
    planned = 2 * (1 + 3 + compound) + (1 + 3 + 1)
    assert len(complete) == len(set(complete)) == planned
    assert counted(report) == planned
    lost = [trial for trial in trials if trial["state"] == "fail" and trial["reason"] is None]
    assert [trial["worker"].rpartition(":")[2] for trial in lost] == [str(victim.pid)]
    [again] = [trial for trial in trials if trial["item"] == lost[0]["item"] and trial["state"] == "complete"]
    assert again["worker"].endswith(f":{survivor.pid}") and again["number"] > lost[0]["number"]
    by_victim = [trial for trial in trials if trial["worker"].endswith(f":{victim.pid}")]
    assert sum(trial["state"] == "complete" for trial in by_victim) == 2
    assert {trial["reason"] for trial in trials if trial["state"] == "fail"} <= {None, "duplicate"}
    assert len(trials) == planned + sum(trial["state"] == "fail" for trial in trials)


def trials_of(storage: str, study: str) -> list[dict[str, Any]]:
    """What `effgen search status` says."""
    process = start(["search", "status", "--storage", storage, "--study", study, "--json", "-"])
    trials: list[dict[str, Any]] = json.loads(output_of(process))["trials"]
    return trials


def counted(report: dict[str, Any]) -> int:
    """Accuracies that went into a report's means."""
    samples = [row[key] for row in [report["baseline"], *report["rows"]] for key in ("search", "confirmed")]
    return sum(len(sample["values"]) for sample in samples if sample is not None)
