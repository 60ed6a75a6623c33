"""What tests of searches share: a trainer that learns nothing but can be made to hang or fail, and real workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from networks import TINY

from effgen.method.studies.space import digest_of_network
from effgen.method.studies.storage import load_study
from effgen.method.studies.trials import trial_rows
from effgen.network.lowering.network import lower
from effgen.network.spec import NetworkSpec
from effgen.report.trials import json_from_trials

#: TINY whose channels are rounded finely, so that compound networks of equal multiply-adds exist.
FINE = TINY.replace("[stem]", "[rounding]\nchannel_divisor = 2\n\n[stem]")

#: A larger network is better here, a seed makes a little difference; FAIL and HANG are numbers of this worker's calls,
#: HANG_SEED is the least seed that hangs. Workers that are given a folder TOGETHER begin when there are two of them;
#: one that is given a file AFTER waits for it from call AFTER_CALL, or from seed AFTER_SEED, on.
TRAINER = """
import os, pathlib, time

calls = 0

def wait_until(holds):
    while not holds():
        time.sleep(0.02)

def accuracy(spec, seed):
    global calls
    calls += 1
    if "TOGETHER" in os.environ:
        meeting = pathlib.Path(os.environ["TOGETHER"])
        meeting.mkdir(exist_ok=True)
        (meeting / str(os.getpid())).touch()
        wait_until(lambda: len(list(meeting.iterdir())) >= 2)
    late = calls >= int(os.environ.get("AFTER_CALL", "1000")) or seed >= int(os.environ.get("AFTER_SEED", "1000"))
    if late:
        wait_until(pathlib.Path(os.environ["AFTER"]).exists)
    if str(calls) == os.environ.get("HANG") or seed >= int(os.environ.get("HANG_SEED", "1000")):
        pathlib.Path(os.environ["HANGING"]).touch()
        time.sleep(600)
    if str(calls) in os.environ.get("FAIL", "").split(","):
        raise RuntimeError("no luck")
    return 0.5 + 0.01 * sum(stage.repeats for stage in spec.stages) + 0.001 * (seed % 3)
"""

#: More than anything here takes on a busy machine; a test that waits so long has failed.
PATIENCE_S = 600

#: For FAIL: all calls.
EVERY = ",".join(map(str, range(1, 200)))

_MAIN = "from effgen.cli import main; main()"

#: The same for a baseline search whose latencies cost nothing.
_WITHOUT_A_COMPILER = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from baseline_searches import free_latencies
free_latencies(setattr)
{_MAIN}
"""


def write_search(folder: Path) -> tuple[str, ...]:
    """A spec and a trainer in `folder`, and the words of a small search with them that answers in seconds."""
    (folder / "fine.toml").write_text(FINE)
    (folder / "trainer.py").write_text(TRAINER)
    trainer = f"{folder / 'trainer.py'}:accuracy"
    size = ("--step", "0.2", "--seeds", "2", "--confirm-seeds", "1", "--no-latency")
    return ("search", "scaling", "--spec", str(folder / "fine.toml"), "--trainer", trainer, *size)


def start(
    words: Iterable[str], cwd: Path | None = None, main: str = _MAIN, **environment: str
) -> subprocess.Popen[str]:
    """`effgen WORDS` as a process of its own group; `main` is the program that stands for the command."""
    return subprocess.Popen(
        [sys.executable, "-c", main, *words],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def output_of(process: subprocess.Popen[str]) -> str:
    """Standard output of a process that has to end well."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return out


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def kill_one_of_two(storage: str, folder: Path) -> None:
    """Two workers start at once on an empty storage; one is killed with -9 in its third training; what must hold then.

    The search completes, every planned training is in the table once, the killed one was done again by the other
    worker, and nothing else failed but for attempts to take what the other had.
    """
    words = [*write_search(folder), "--storage", storage, "--study", "shared"]
    victim, survivor, report = report_of_survivor(words, folder, HANG="3")
    trials = trials_of(storage, "shared")
    complete = [trial["item"] for trial in trials if trial["state"] == "complete"]
    compound = sum(row["kind"] == "compound" for row in report["rows"])
    planned = 2 * (1 + 3 + compound) + (1 + 3 + 1)
    assert len(complete) == len(set(complete)) == planned
    assert counted(report) == planned
    lost = [trial for trial in trials if trial["state"] == "fail" and trial["reason"] is None]
    assert [trial["worker"].rpartition(":")[2] for trial in lost] == [str(victim)]
    [again] = [trial for trial in trials if trial["item"] == lost[0]["item"] and trial["state"] == "complete"]
    assert again["worker"].endswith(f":{survivor}") and again["number"] > lost[0]["number"]
    by_victim = [trial for trial in trials if trial["worker"].endswith(f":{victim}")]
    assert sum(trial["state"] == "complete" for trial in by_victim) == 2
    assert {trial["reason"] for trial in trials if trial["state"] == "fail"} <= {None, "duplicate"}
    assert len(trials) == planned + sum(trial["state"] == "fail" for trial in trials)


def report_of_survivor(
    words: Sequence[str], folder: Path, main: str = _MAIN, **hanging: str
) -> tuple[int, int, dict[str, Any]]:
    """Two workers start at once on a search; one is killed with -9 when it hangs as `hanging` says.

    The other one leaves it something to hang in, and is so slow to give itself up that a busy machine does not matter.
    Returns the process numbers of the killed one and of the other, and the report of that one.
    """
    mark = folder / "hanging"
    late = {"AFTER_CALL": "2"} if "HANG" in hanging else {"AFTER_SEED": hanging["HANG_SEED"]}
    begin = partial(start, main=main, TOGETHER=str(folder / "together"))
    victim = begin([*words, "--heartbeat", "1", "--work", str(folder / "a")], HANGING=str(mark), **hanging)
    survivor = begin([*words, "--heartbeat", "60", "--json", "-", "--work", str(folder / "b")], AFTER=str(mark), **late)
    try:
        until(mark.exists)
        victim.kill()
        victim.communicate()
        report: dict[str, Any] = json.loads(output_of(survivor))
    finally:
        for process in (victim, survivor):
            process.kill()
            process.communicate()
    return victim.pid, survivor.pid, report


def kill_one_of_two_around_a_baseline(storage: str, folder: Path, **hanging: str) -> None:
    """As `kill_one_of_two`, for `effgen search baseline`: trials and confirmation, one of which loses a worker."""
    write_search(folder)
    study = f"baseline {' '.join(hanging)}"
    trainer = f"{folder / 'trainer.py'}:accuracy"
    words = ["search", "baseline", "--spec", str(folder / "fine.toml"), "--trainer", trainer, "--trials", "8"]
    words += ["--population", "4", "--confirm-seeds", "4", "--storage", storage, "--study", study]
    victim, survivor, report = report_of_survivor(words, folder, _WITHOUT_A_COMPILER, **hanging)
    networks = [lower(NetworkSpec.model_validate(each["spec"])) for each in report["candidates"]]
    assert [each["state"] for each in report["candidates"]] == ["done"] * 8
    assert len({digest_of_network(graph) for graph in networks}) == 8

    searched, confirming = trials_of(storage, study), trials_of(storage, f"{study} (confirmation)")
    assert sum(trial["state"] == "complete" for trial in searched) == 8
    members = {each["candidate"]["trial"] for each in (report["start"], *report["members"])}
    complete = [trial["item"] for trial in confirming if trial["state"] == "complete"]
    assert sorted(complete) == sorted(f"trial {number} seed {seed}" for number in members for seed in range(1, 5))
    assert all(len(each["accuracies"]) == 4 for each in (report["start"], *report["members"]))

    both = [*searched, *confirming]
    failed = [trial for trial in both if trial["state"] == "fail"]
    assert [trial["worker"].rpartition(":")[2] for trial in failed if trial["reason"] is None] == [str(victim)]
    assert {trial["reason"] for trial in failed} <= {None, "duplicate", "surplus"}
    assert {trial["state"] for trial in both} <= {"complete", "fail"}
    workers = {trial["worker"].rpartition(":")[2] for trial in both if trial["state"] == "complete"}
    assert workers == {str(victim), str(survivor)}


def trials_of(storage: str, study: str) -> list[dict[str, Any]]:
    """As `effgen search status --json` has them."""
    with closing(load_study(storage, study)) as shared:
        rows: list[dict[str, Any]] = json_from_trials(study, trial_rows(shared))["trials"]
    return rows


def counted(report: dict[str, Any]) -> int:
    """Accuracies that went into a report's means."""
    samples = [row[key] for row in [report["baseline"], *report["rows"]] for key in ("search", "confirmed")]
    return sum(len(sample["values"]) for sample in samples if sample is not None)
