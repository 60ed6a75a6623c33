"""Offline at the desk: folders written, results read once and no more, wrong files, rounds, and compile's choice."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from offline_folders import plan_of, results_of, rewrite, run_folder, toys_only
from toy_spaces import ABORTS, FAST, HANGS, MACHINE, WORKLOAD, bad_space_of

from effgen.cli import main
from effgen.kernels.workload import Workload
from effgen.machines.identity import device_name
from effgen.machines.target import load_target
from effgen.measure.carried.lines import PLAN, RESULTS, sealed
from effgen.records.choice import KernelChoices
from effgen.records.database import RecordFile, best_records
from effgen.records.record import Record
from effgen.tuning.offline.folder import write_folder
from effgen.tuning.offline.plan import A_ROUND, plan_round
from effgen.tuning.search import KernelSearch

Desk = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Desk:
    """`effgen tune --db DB WORDS` for a toy kernel: exit status, the report, the last line of standard error."""
    toys_only(monkeypatch, "bad_space_of")

    def call(*words: object) -> tuple[int, dict[str, Any], str]:
        fixed = ["--target", "x86-64-v3", "--threads", "1", "--db", tmp_path / "db", "--json", tmp_path / "report"]
        monkeypatch.setattr(sys, "argv", ["effgen", "tune", *map(str, [*fixed, *words])])
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        err = capsys.readouterr().err
        assert "Traceback" not in err, err
        report = json.loads((tmp_path / "report").read_text()) if status == 0 else {}
        return status, report, err.splitlines()[-1]

    return call


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def measured(folder: Path, database: Path) -> None:
    """Run a folder of the desk's. What hangs has its result from an earlier run, and the others have time enough on a
    busy machine: another limit stands in the folder's plan and in the one remembered."""
    plan = plan_of(folder)
    (database.with_name("db.offline") / f"{plan['id']}.json").unlink()
    number = rewrite(folder, {**plan, "limit_s": 1000.0})
    shutil.copy(folder / PLAN, database.with_name("db.offline") / f"{number}.json")
    fate = {"status": "timeout", "error": "no result within 20 s", "timing": None, "incumbent": None}
    hanging = [one["index"] for one in plan["kernels"][0]["candidates"] if one["decisions"]["mode"] == HANGS]
    known = [{"plan": number, "device": device_name(), "candidate": index, **fate} for index in hanging]
    write(folder / RESULTS, [sealed(line) for line in known])
    assert run_folder(folder).returncode == 0


def test_round_trip_and_compile_uses_what_came_back(
    desk: Desk, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, report, _ = desk("--offline-out", out)
    assert status == 0 and report["written"]["candidates"] == 7 and report["written"]["failed"] == 1
    assert report["route"] == "offline" and report["outcomes"] == {"build_error": 1}
    measured(out, tmp_path / "db")
    status, report, _ = desk("--offline-in", out / RESULTS, "--promote", tmp_path / "shipped")
    assert status == 0 and report["outcomes"] == {"ok": 3, "wrong": 2, "crashed": 1, "timeout": 1}
    assert report["speedup"] > 2 and len(report["devices"]) == 1 and report["promoted"] == 1
    records = RecordFile(tmp_path / "db").load().records
    assert len({record.decisions["mode"] for record in records}) == 8 and not any(r.kept for r in records[:-1])
    assert [record.decisions["mode"] for record in best_records(records)] == [FAST]
    assert report["judged"] == "loop" and report["said"] == "better" and report["network"] is None
    timed = {record.decisions["mode"]: record for record in records if record.status == "ok"}
    assert all(r.device and r.tvm == version("apache-tvm") and r.mcpu == "x86-64-v3" for r in timed.values())
    # Once more adds nothing.
    before = (tmp_path / "db").read_bytes()
    assert desk("--offline-in", out / RESULTS)[1]["trials"] == 0
    assert (tmp_path / "db").read_bytes() == before
    # What is promoted says where it is from, and what is compiled is what was found.
    promotion = json.loads((tmp_path / "shipped" / "manifest.json").read_text())["promotions"][0]
    assert (promotion["route"], promotion["machine"]) == ("offline", report["devices"][0])
    monkeypatch.setattr("effgen.records.choice.space_of", bad_space_of)
    choice = KernelChoices(MACHINE, tmp_path / "db").choice(WORKLOAD)
    assert (choice.source, dict(choice.decisions)) == ("record:database", {"mode": FAST, "salt": 0})
    # There is nothing left to measure, and that is said.
    status, _, line = desk("--offline-out", tmp_path / "next")
    assert status == 1 and "no candidate is left" in line and not (tmp_path / "next").exists()


def test_rounds_build_on_each_other(desk: Desk, out: Path, tmp_path: Path) -> None:
    """The next round's candidates are timed with the best one of this, and none comes twice."""
    assert desk("--offline-out", out, "--trials", "3")[0] == 0
    measured(out, tmp_path / "db")
    status, first, _ = desk("--offline-in", out / RESULTS, "--offline-out", tmp_path / "second", "--trials", "2")
    assert status == 0 and first["trials"] >= 2
    plan = json.loads((tmp_path / "second" / "plan.json").read_text())
    kernel = plan["kernels"][0]
    best = min((r for r in RecordFile(tmp_path / "db").load().records if r.leads), key=lambda record: record.time_s)
    incumbent = next(c for c in kernel["candidates"] if c["index"] == kernel["incumbent"])
    assert incumbent["decisions"] == best.decisions and kernel["incumbent_s"] == best.seconds
    measured(tmp_path / "second", tmp_path / "db")
    assert all(line["incumbent"] == kernel["incumbent"] for line in results_of(tmp_path / "second") if line["timing"])
    assert desk("--offline-in", tmp_path / "second" / RESULTS)[0] == 0
    modes = [record.decisions["mode"] for record in RecordFile(tmp_path / "db").load().records if not record.kept]
    assert len(modes) == len(set(modes))


@pytest.fixture
def results(desk: Desk, out: Path) -> Path:
    """Results of two candidates by hand: a default, and another beside it."""
    assert desk("--offline-out", out)[0] == 0
    plan = json.loads((out / "plan.json").read_text())
    timing = {"seconds": 1e-4, "incumbent_seconds": None, "ratio": 1.0, "wins": 1.0, "rounds": 10}
    other = {"seconds": 5e-5, "incumbent_seconds": 1e-4, "ratio": 0.5, "wins": 1.0, "rounds": 24}
    shared = {"plan": plan["id"], "device": "board", "status": "ok", "error": ""}
    lines = [
        sealed({**shared, "candidate": 0, "incumbent": None, "timing": timing}),
        sealed({**shared, "candidate": 1, "incumbent": 0, "timing": other}),
    ]
    write(out / RESULTS, lines)
    return out / RESULTS


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))


def test_times_are_on_the_scale_of_the_incumbent(desk: Desk, results: Path, tmp_path: Path) -> None:
    assert desk("--offline-in", results)[0] == 0
    found = [r for r in RecordFile(tmp_path / "db").load().records if r.status == "ok"]
    assert [(r.seconds, r.led, r.kept, r.device) for r in found] == [
        (1e-4, True, False, "board"),
        (5e-5, True, False, "board"),
        (5e-5, True, True, "board"),  # what it beat is what is there today
    ]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"timing": {"seconds": float("nan")}}, ":2: seconds nan: expected 1e-08 to 600"),
        ({"timing": {"seconds": -1e-4}}, ":2: seconds -0.0001: expected"),
        ({"timing": {"seconds": 0}}, ":2: seconds 0: expected"),
        ({"timing": {"seconds": 1e9}}, ":2: seconds 1000000000.0: expected"),
        ({"timing": {"seconds": "fast"}}, ":2: seconds fast: expected"),
        ({"timing": {"seconds": True}}, ":2: seconds True: expected"),
        ({"timing": {"ratio": float("inf")}}, ":2: ratio inf: expected"),
        ({"timing": {"incumbent_seconds": None}}, ":2: incumbent_seconds None: expected"),
        ({"timing": {"wins": 2}}, ":2: wins 2: expected 0 to 1"),
        ({"timing": {"rounds": 0}}, ":2: rounds 0: expected"),
        ({"timing": {"ratio": 0.4}}, ":2: was edited: its digest is of other content"),
        ({"status": "fine"}, ":2: status 'fine': expected one of ok"),
        ({"status": "wrong"}, ":2: status wrong: only ok goes with a timing"),
        ({"candidate": 99, "again": True}, ":2: candidate 99: the plan has none of that number"),
        ({"candidate": [], "again": True}, ":2: candidate []: the plan has none"),
        ({"incumbent": 99, "again": True}, ":2: incumbent 99: no candidate of f32_"),
        ({"incumbent": [0], "again": True}, ":2: incumbent [0]: no candidate of f32_"),
        ({"plan": "abc", "again": True}, ":2: is of plan abc, the lines before of"),
        ({"extra": 1}, ":2: is no result; expected the keys candidate, device"),
    ],
    ids=str,
)
def test_results_that_no_runner_wrote(change: dict[str, Any], text: str, desk: Desk, results: Path) -> None:
    """One clear line with the place; nothing is recorded."""
    first, second = results_of(results.parent)
    again = change.pop("again", False)
    timing = {**second["timing"], **change.pop("timing", {})}
    second = {**second, **change, "timing": timing}
    write(results, [first, sealed(second) if again else second])
    status, _, line = desk("--offline-in", results)
    assert status == 1 and line.startswith("error: ") and text in line
    assert not [r for r in RecordFile(results.parent.parent / "db").load().records if r.status == "ok"]


def test_files_that_are_something_else(desk: Desk, results: Path, tmp_path: Path) -> None:
    whole = results.read_text()
    for text, message in (
        ("", "holds no results"),
        ("not json}}\n" + whole, ":1: is no JSON"),
        ("[1]\n", ":1: is no result"),
        (whole.replace(results_of(results.parent)[0]["plan"], "0" * 64), ":1: was edited"),
    ):
        results.write_text(text)
        status, _, line = desk("--offline-in", results)
        assert status == 1 and message in line, line
    results.write_text(json.dumps(sealed({**json.loads(whole.splitlines()[0]), "plan": "../../etc"})))
    assert "does not hold: another folder's results" in desk("--offline-in", results)[2]
    assert "No such file or directory; expected the results.jsonl" in desk("--offline-in", tmp_path / "absent")[2]


def test_torn_lines_do_not_count(desk: Desk, results: Path) -> None:
    first, second = results.read_text().splitlines()
    results.write_text(f"{first}\n{second[:40]}\n{second}\n{second[:70]}")
    assert desk("--offline-in", results)[1]["trials"] == 2


def test_results_of_another_request(desk: Desk, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = results.parent.parent / "db.offline"
    status, _, line = desk("--offline-in", results, "--db", results.parent.parent / "other")
    assert status == 1 and "does not hold: another folder's results; give the --db" in line
    assert "was written for cores 1, this is 2" in desk("--offline-in", results, "--threads", "2")[2]
    assert "was written for mcpu x86-64-v3" in desk("--offline-in", results, "--target", "x86-64-v4")[2]
    monkeypatch.setattr(
        "effgen.tuning.request.calls_of_network", lambda network, kernels=None: {replace(WORKLOAD, channels=32): 1}
    )
    assert "no kernel of this network; give the network" in desk("--offline-in", results)[2]
    next(plans.iterdir()).write_text("{")
    assert "the plan is lost: write a new folder" in desk("--offline-in", results)[2]


def test_folder_in_the_way(desk: Desk, out: Path) -> None:
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    assert "exists already; choose another --offline-out, or --force" in desk("--offline-out", out)[2]
    assert "is not a folder of candidates: --force replaces nothing else" in desk("--offline-out", out, "--force")[2]
    (out / "precious.txt").unlink()
    assert desk("--offline-out", out, "--force")[0] == 0
    assert desk("--offline-out", out, "--force")[0] == 0
    assert "--minutes: a round takes as long" in desk("--offline-out", out, "--force", "--minutes", "1")[2]


@pytest.mark.arm
def test_folder_for_another_architecture(tmp_path: Path) -> None:
    machine = replace(load_target("rpi4"), cores=1)
    space = bad_space_of(WORKLOAD, machine)
    assert space is not None
    (tmp_path / "out").mkdir()
    chosen = plan_round([KernelSearch(WORKLOAD, 1, space)])
    plan, _ = write_folder(tmp_path / "out", chosen, machine)
    assert plan["architecture"] == "aarch64"
    libraries = [path.read_bytes() for part in ("kernels", "runtime") for path in (tmp_path / "out" / part).iterdir()]
    assert len(libraries) == 4 and all(code[18:20] == b"\xb7\x00" for code in libraries)  # ELF's machine: AArch64


@pytest.mark.slow
def test_folder_of_b0_is_small_and_all_of_it_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """37 kernels, eight candidates of each. A round upon another is a toy's (`test_rounds_build_on_each_other`)."""
    words = ["effgen", "tune", "--phi", "0", "--target", "x86-64-v3", "--threads", "1", "--db", str(tmp_path / "db")]
    words += ["--json", str(tmp_path / "report")]
    monkeypatch.setattr(sys, "argv", [*words, "--offline-out", str(tmp_path / "out")])
    main_status()
    assert json.loads((tmp_path / "report").read_text())["written"]["size"] < 40e6
    assert run_folder(tmp_path / "out").returncode == 0
    monkeypatch.setattr(sys, "argv", [*words, "--offline-in", str(tmp_path / "out" / RESULTS)])
    main_status()
    report = json.loads((tmp_path / "report").read_text())
    assert report["resumed"] + report["trials"] > 200 and report["speedup"] >= 1
    assert set(report["outcomes"]) == {"ok"}


def main_status() -> None:
    """Run the command line; it must end well."""
    try:
        main()
    except SystemExit as stop:
        assert not stop.code


# What a round holds.


def search_for(workload: Workload, calls: int = 1) -> KernelSearch:
    space = bad_space_of(workload, MACHINE)
    assert space is not None
    return KernelSearch(workload, calls, space)


def test_round_has_the_default_first_and_nothing_twice() -> None:
    large = replace(WORKLOAD, channels=64)
    chosen = plan_round([search_for(WORKLOAD), search_for(large)])
    assert {one.search.workload for one in chosen} == {large, WORKLOAD}
    for one in chosen:
        assert one.candidates[0] == one.search.space.default
        assert len({json.dumps(point) for point in one.candidates}) == len(one.candidates) == A_ROUND
    # Of few candidates in all, every kernel gets one before any gets two.
    few = plan_round([search_for(WORKLOAD), search_for(large)], 3)
    assert [len(one.candidates) for one in few] == [2, 1]
    assert plan_round([search_for(WORKLOAD)], 1)[0].candidates == ({"mode": 0, "salt": 0},)


def test_round_leaves_out_what_is_known() -> None:
    search = search_for(WORKLOAD)
    known = {"mode": ABORTS, "salt": 0}
    search.learn(Record(WORKLOAD.name, "toy", known, "crashed", 1, "x86-64-v3", 8), fresh=False)
    (one,) = plan_round([search])
    assert known not in one.candidates and len(one.candidates) == A_ROUND - 1
    assert plan_round([search]) == []
