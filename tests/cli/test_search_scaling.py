"""`effgen search scaling`: the whole way, by real workers, with a trainer that learns nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import one_line
from searches import (
    EVERY,
    FINE,
    PATIENCE_S,
    TRAINER,
    counted,
    kill_one_of_two,
    output_of,
    start,
    trials_of,
    until,
    write_search,
)
from servers import free_port

from effgen.network import NetworkRequest, build_network

ROOT = Path(__file__).parents[2]


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The words of a small search, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return write_search(tmp_path)


@dataclass(frozen=True)
class Finished:
    """A search that is over: the folder where it ran, its words, and what it said."""

    folder: Path
    words: tuple[str, ...]
    report: dict[str, Any]
    out: str
    err: str


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    words = write_search(folder)
    process = start([*words, "--json", "report.json", "-o", "scaled.toml"], cwd=folder)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return Finished(folder, words, json.loads((folder / "report.json").read_text()), out, err)


@pytest.fixture
def finished(once: Finished, monkeypatch: pytest.MonkeyPatch) -> Finished:
    """The same search for all tests that only look at it, from its folder."""
    monkeypatch.chdir(once.folder)
    return once


def test_a_search_ends_with_a_spec_that_is_the_network_it_trained(finished: Finished) -> None:
    chosen = finished.report["chosen"]
    network = build_network(NetworkRequest("./scaled.toml", "1"))
    assert (network.graph.macs, network.spec.input.resolution) == (chosen["macs"], chosen["resolution"])
    assert f"alpha {chosen['alpha']:g}, beta {chosen['beta']:g}, gamma {chosen['gamma']:g}" in finished.out
    assert "effgen compile --spec scaled.toml --phi 1" in finished.err
    # The trainer counts layers: of one dimension alone only depth adds some.
    assert chosen["kind"] == "depth" or chosen["alpha"] > 1
    assert "depth alone: " in finished.out and "picked by 2 seeds, compared by 1 other" in finished.out


def test_every_accuracy_comes_from_a_training_of_its_own(finished: Finished) -> None:
    report = finished.report
    samples = {row["kind"]: row for row in report["rows"]} | {"baseline": report["baseline"]}
    for kind in ("depth", "width", "resolution", "baseline"):
        row = samples[kind]
        first = row["search"]["values"][0]
        assert row["search"]["values"] == pytest.approx([first, first + 0.001])  # what the trainer makes of seeds 0, 1
        assert row["confirmed"]["values"] == pytest.approx([first + 0.002])  # and of 2
    assert counted(report) == len(report["rows"]) * 2 + 2 + 5


def test_the_same_command_again_trains_nothing(run: Any, finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", EVERY)
    assert json.loads(run(*finished.words, "--json", "-")[1]) == finished.report


def test_status_shows_every_trial(run: Any, finished: Finished) -> None:
    place = ("--storage", "sqlite:///searches/scaling-fine/trials.db", "--study", "scaling-fine")
    _, out, _ = run("search", "status", *place)
    assert "baseline 1/1/1 seed 0" in out and out.count("complete") == counted(finished.report)
    wrong = ("--storage", place[1], "--study", "scaling-fin")
    assert "known: scaling-fine" in one_line(run("search", "status", *wrong))


@pytest.mark.parametrize(
    "changed, told",
    [
        (("--seeds", "3"), "seeds is 2 there and 3 here"),
        (("--phi", "1.5"), "phi is 1.0 there and 1.5 here"),
        (("--step", "0.1"), "grid.step is 0.2 there and 0.1 here"),
    ],
    ids=["seeds", "phi", "step"],
)
def test_other_settings_under_the_same_name_are_refused(
    run: Any, finished: Finished, changed: tuple[str, ...], told: str
) -> None:
    assert told in one_line(run(*finished.words, *changed, "-q"))


def test_trainings_that_fail_are_missing_and_said(run: Any, words: tuple[str, ...], monkeypatch: Any) -> None:
    monkeypatch.setenv("FAIL", "2,5")
    code, out, err = run(*words, "--json", "-")
    report = json.loads(out)
    assert code == 0 and sum(row["failed"] for row in [report["baseline"], *report["rows"]]) == 2
    assert "warning: 2 trainings failed" in err and "RuntimeError: no luck" in err


def test_a_search_whose_trainings_all_fail_goes_on_with_what_can_be_tried_again(
    run: Any, words: tuple[str, ...], monkeypatch: Any
) -> None:
    monkeypatch.setenv("FAIL", EVERY)
    told = one_line(run(*words, "-q"))
    assert "the first 3 trials of this worker all failed, the last one by: " in told and "no luck; mend that" in told
    monkeypatch.delenv("FAIL")
    code, out, err = run(*words, "--retry-failed", "--json", "-")
    report = json.loads(out)
    assert code == 0 and "3 trials that failed will be tried again" in err
    assert not any(row["failed"] for row in [report["baseline"], *report["rows"]])


@pytest.mark.parametrize(
    "extra, told",
    [
        (("--work", "trainer.py"), "trainer.py/trials.db: cannot be opened"),
        (("--data", "."), "expected --data DIR, or --trainer"),
        (("--recipe", "r.toml"), "--recipe r.toml: belongs to --data"),
        (("--seeds", "0"), "--seeds 0: expected from 1 to 1000"),
        (("--confirm-seeds", "-1"), "--confirm-seeds -1: expected from 0 to 1000"),
        (("--trainer", "nowhere.py:f"), "no file nowhere.py"),
        (("--storage", "postgresql://me:s3cret@127.0.0.1:1/db"), "--storage postgresql://me:***@127.0.0.1:1/db: "),
        (("-o", "trainer.py"), "trainer.py: exists already"),
        (("--json", "no/where.json"), "--json no/where.json: "),
        (("--rpc-key", "board"), "give --rpc-tracker"),
    ],
    ids=["work", "both", "recipe", "seeds", "confirm", "trainer", "storage", "output", "json", "key"],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(
    run: Any, words: tuple[str, ...], extra: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    given = [word for word in words if word != "--no-latency"]
    assert told in one_line(run(*given, *extra, "-q"))
    assert not (tmp_path / "searches").exists()


def test_a_target_that_only_an_emulator_runs_cannot_be_timed(run: Any, words: tuple[str, ...]) -> None:
    given = [word for word in words if word != "--no-latency"]
    told = one_line(run(*given, "--target", "rpi4", "-q"))
    assert told.startswith("--target rpi4: cannot be timed here") and told.endswith(
        "give --rpc-tracker, or --no-latency"
    )


def test_processes_of_one_command_share_the_work(words: tuple[str, ...], tmp_path: Path) -> None:
    together = str(tmp_path / "together")
    report = json.loads(output_of(start([*words, "--workers", "2", "--json", "-"], TOGETHER=together)))
    trials = trials_of(f"sqlite:///{tmp_path}/searches/scaling-fine/trials.db", "scaling-fine")
    complete = [trial for trial in trials if trial["state"] == "complete"]
    assert len(complete) == counted(report) == len({trial["item"] for trial in complete})
    assert len({trial["worker"] for trial in complete}) == 2


def test_ctrl_c_gives_the_trials_back_and_the_next_run_goes_on(words: tuple[str, ...], tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    process = start([*words, "--workers", "2"], HANG="2", HANGING=str(hanging))
    until(hanging.exists)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process in the foreground
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and err.endswith("interrupted\n") and "Traceback" not in err
    where = (f"sqlite:///{tmp_path}/searches/scaling-fine/trials.db", "scaling-fine")
    before = trials_of(*where)
    assert "interrupted" in {trial["reason"] for trial in before}
    assert not [trial for trial in before if trial["state"] == "running"]
    output_of(start(words))
    after = trials_of(*where)
    assert after[: len(before)] == before
    complete = [trial["item"] for trial in after if trial["state"] == "complete"]
    assert len(complete) == len(set(complete))


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_worker_killed_in_a_trial_loses_nothing(kind: str, tmp_path: Path) -> None:
    kill_one_of_two({"sqlite": f"sqlite:///{tmp_path}/t.db", "journal": f"journal://{tmp_path}/log"}[kind], tmp_path)


def test_workers_behind_a_grpc_proxy(tmp_path: Path) -> None:
    port = free_port()
    proxy = subprocess.Popen([sys.executable, "-c", _PROXY, f"sqlite:///{tmp_path}/behind.db", str(port)])
    try:
        kill_one_of_two(f"grpc://127.0.0.1:{port}", tmp_path)
    finally:
        proxy.kill()
        proxy.communicate()


_PROXY = """
import sys, warnings
warnings.simplefilter("ignore")
import optuna
optuna.storages.run_grpc_proxy_server(optuna.storages.RDBStorage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


def test_what_is_missing_is_said(run: Any, words: tuple[str, ...], tmp_path: Path) -> None:
    """The confirming seed of the best compound network, which is deeper and larger, has no luck."""
    deeper = "sum(stage.repeats for stage in spec.stages) > 4"
    fails = f"    if seed == 2 and spec.input.resolution > 32 and {deeper}:\n        raise RuntimeError('no luck')\n"
    (tmp_path / "trainer.py").write_text(TRAINER.replace("    calls += 1\n", f"    calls += 1\n{fails}"))
    code, out, err = run(*words)
    assert code == 0 and "warning: 1 trainings failed" in err, err
    said = " ".join(out.split())
    for kind in ("depth", "width", "resolution"):
        assert f"compound is not compared with {kind} alone: all confirming trainings of compound failed" in said


@pytest.mark.slow
def test_a_search_with_real_trainings_and_latencies(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, ROOT / "examples" / "digits.py", "digits"], check=True, capture_output=True)
    spec, recipe = Path("digits.toml"), Path("recipe.toml")
    grey = "channels = 1\nresolution = 16\nmean = [0.5]\nstd = [0.5]"
    spec.write_text(FINE.replace("resolution = 32", grey))
    recipe.write_text("epochs = 4\nwarmup_epochs = 1\nlearning_rate = 8e-3\n")
    words = ("--data", "digits", "--recipe", recipe, "--step", "0.2", "--seeds", "2", "--confirm-seeds", "2")
    code, out, err = run("search", "scaling", "--spec", spec, *words, "--json", "-", "-o", "scaled.toml")
    assert code == 0, err
    report = json.loads(out)
    rows = [report["baseline"], *report["rows"]]
    assert all(0.3 < row["search"]["mean"] < 1 and row["latency_ms"] > 0 for row in rows)
    assert any(len(set(row["search"]["values"])) == 2 for row in rows)  # seeds matter
    assert not list(Path("searches/scaling-digits/checkpoints").iterdir())
    code, _, err = run("compile", "--spec", "./scaled.toml", "--phi", "1", "-o", "bundle")
    assert code == 0, err


def test_workers_end_with_a_parent_that_is_killed(words: tuple[str, ...], tmp_path: Path) -> None:
    meeting = tmp_path / "together"
    parent = start([*words, "--workers", "2"], TOGETHER=str(meeting), HANG="1", HANGING=str(tmp_path / "hanging"))
    until(lambda: meeting.is_dir() and len(list(meeting.iterdir())) == 2)
    workers = {int(file.name) for file in meeting.iterdir()} - {parent.pid}
    assert len(workers) == 1
    parent.kill()
    parent.communicate()
    until(lambda: all(is_gone(worker) for worker in workers))


def is_gone(number: int) -> bool:
    """Ended; a zombie waits for whoever inherits it."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
