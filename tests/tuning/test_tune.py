"""`effgen tune`: requests, reports, and the whole with a real measuring process, stopped, killed and taken up again."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy_spaces
from toy_spaces import FAST, MACHINE, SLOW, WORKLOAD

from effgen.errors import EffgenError
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.machines.microarchitecture import this_microarchitecture
from effgen.network import NetworkRequest
from effgen.records.database import RecordFile
from effgen.report.tune import json_from_tune, notes_from_tune, table_from_tune, warnings_from_tune
from effgen.tuning.confirm import Said
from effgen.tuning.report import NetworkTimes, TunedKernel, TuneReport
from effgen.tuning.request import TuneRequest, calls_of_network, check_tune_request, searches_of
from effgen.tuning.tuner import Limits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


# Requests, tasks and reports.


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"limits": Limits(trials=0)}, "--trials 0: expected 1 or more"),
        ({"limits": Limits(seconds=0)}, "--minutes 0: expected a time above 0"),
        ({"limits": Limits(seconds=float("nan"))}, "--minutes nan: expected"),
        ({"threads": 0}, "--threads 0: expected from 1 to"),
        ({"threads": 10_000}, "--threads 10000: expected from 1 to"),
        ({"target": "x86-64-v5"}, "did you mean x86-64-v4?"),
        ({"network": NetworkRequest(phi="-1")}, "--phi -1"),
        ({"database": Path("/proc/none/records.jsonl")}, "cannot be opened for records"),
        ({"promote": Path(__file__)}, "is a file; expected a folder"),
        ({"promote": Path(__file__) / "new"}, "is a file; expected a folder"),
    ],
    ids=str,
)
def test_requests_that_make_no_sense(change: dict[str, object], text: str, path: Path) -> None:
    with pytest.raises(EffgenError) as error:
        check_tune_request(replace(TuneRequest(NetworkRequest(), database=path), **change))  # type: ignore[arg-type]
    assert text in str(error.value)


def test_kernels_of_a_network(tiny_spec: Path) -> None:
    from effgen.network import build_network

    calls = calls_of_network(build_network(NetworkRequest(spec=str(tiny_spec))))
    assert len(calls) > 5 and all(isinstance(count, int) for count in calls.values())
    found, untuned = searches_of({WORKLOAD: 2, GlobalAveragePool(1, 4, 4, 8): 1}, MACHINE, toy_spaces.space_of)
    assert [(search.workload, search.calls) for search in found] == [(WORKLOAD, 2)]
    assert untuned == ["f32_avgpool_c8_h4"]


def test_command_line_checks_before_anything_heavy_is_loaded(path: Path) -> None:
    code = f"""if True:
        import sys
        sys.argv = ["effgen", "tune", "--db", {str(path)!r}, "--trials", "0"]
        from effgen.cli import main
        try:
            main()
        except SystemExit as stop:
            print("LOADED", stop.code, *sys.modules, file=sys.stderr)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, loaded = done.stderr.split("LOADED")
    assert message.splitlines()[-1] == "error: --trials 0: expected 1 or more candidates" and done.stdout == ""
    assert loaded.split()[0] == "1" and not {"tvm", "torch", "onnx"} & set(loaded.split())


# The whole, with a real measuring process, from the command line.

CLI = """if True:
    import functools, sys
    from collections import Counter
    import toy_spaces
    from contextlib import nullcontext
    from effgen.machines.host import OtherWork
    from effgen.tuning import request, session
    session.watch_other_work = lambda: nullcontext(OtherWork(0.0))  # however busy the machine is
    request.TuneRequest = functools.partial(request.TuneRequest, provider="toy_spaces:" + sys.argv.pop(1))
    request.calls_of_network = lambda network, kernels=None: Counter({toy_spaces.WORKLOAD: 3})
    from effgen.cli import main
    main()
"""


def start(provider: str, path: Path, *words: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CLI, provider, "tune", "-v", "--threads", "1", "--db", path, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([str(word) for word in command], text=True, env=toy_spaces.environment(), **pipes)  # type: ignore[call-overload, no-any-return]


def test_tune_kill_tune_again(path: Path, tmp_path: Path) -> None:
    with start("endless_space_of", path) as process:
        for line in process.stderr:  # type: ignore[union-attr]
            if line.startswith("search "):
                break
        process.kill()
    killed = RecordFile(path).load()
    assert len(killed.records) >= 2
    with start("endless_space_of", path, "--trials", "1", "--json", tmp_path / "r.json") as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    after = RecordFile(path).load().records
    assert after[: len(killed.records)] == killed.records
    known = {json.dumps(dict(r.decisions)) for r in killed.records}
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["resumed"] == len(known) and data["trials"] == 1
    # The new candidate is none of the old ones (a known one may be recorded again where its time was put right).
    assert len({json.dumps(dict(r.decisions)) for r in after} - known) == 1
    assert "all calls" in out and "1 candidates measured" in out


def test_tune_promote_and_be_found(path: Path, tmp_path: Path) -> None:
    with start("space_of", path, "--promote", tmp_path / "shipped", "--json", "-") as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    data = json.loads(out)
    assert data["end"] == "converged" and data["promoted"] == 1 and data["speedup"] > 2
    assert data["kernels"][0]["decisions"]["mode"] == FAST and data["kernels"][0]["replaced"]
    assert (data["judged"], data["said"], data["network"]) == ("loop", "better", None)
    assert data["outcomes"] == {"ok": data["trials"]}
    (file,) = (tmp_path / "shipped").glob("*.jsonl")
    shipped = RecordFile(file).load().records
    assert file.stem == (this_microarchitecture() or "unknown")
    assert {record.microarchitecture for record in shipped} == {this_microarchitecture()}
    assert [record.decisions["mode"] for record in shipped] == [FAST]
    promotion = json.loads((tmp_path / "shipped" / "manifest.json").read_text())["promotions"][0]
    assert {"tvm", "date", "machine", "cores", "candidates"} <= promotion.keys()
    # --fresh forgets: everything is measured anew, and first of all the default.
    with start("space_of", path, "--fresh", "--trials", "1") as process:
        _, err = process.communicate()
    assert process.returncode == 0, err
    assert [record.decisions["mode"] for record in RecordFile(path).load().records] == [SLOW]


@pytest.mark.parametrize(("number", "status", "word"), [(signal.SIGINT, 130, "interrupted")])
def test_stop_keeps_what_was_found(number: signal.Signals, status: int, word: str, path: Path) -> None:
    with start("endless_space_of", path) as process:
        for line in process.stderr:  # type: ignore[union-attr]
            if line.startswith("search "):
                break
        process.send_signal(number)
        out, err = process.stdout.read(), process.stderr.read()  # type: ignore[union-attr]
    assert process.returncode == status, err
    assert "all calls" in out and "ended: interrupted" in out
    lines = err.splitlines()
    assert lines[-1] == word and "none is chosen yet" in lines[-2] and "Traceback" not in err
    records = RecordFile(path).load().records
    assert len(records) >= 2 and not any(record.chosen for record in records)


def test_reports(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report by hand: many kernels, one that fails as it is compiled, a damaged database, a busy machine."""
    kernels = tuple(TunedKernel(f"kernel{i}", "toy", 2, 30, 5, 2e-4, 1e-4 * (1 + i), {"x": i}, True) for i in range(25))
    failed = TunedKernel("failed", "toy", 1, 30, 5, None, None, {"x": 0}, False, broken=True)
    report = TuneReport(
        model="m", target="cpu", machine="cpu", threads=1, end="time", seconds=75.0, trials=130, resumed=3,
        outcomes={"ok": 129, "crashed": 1}, judged="loop", said="better", network=None, waiting=2, problem="",
        disturbed_by=None, before_s=1e-2, after_s=5e-3, kernels=(*kernels, failed),
        untuned=("a", "b", "c", "d"), database="db", ignored_lines=2, promoted=0, other_cpus=1.5,
        route="rpc", devices=("board",),
    )  # fmt: skip
    table = table_from_tune(report)
    assert table.row_count == 20 + 1 + 1
    notes = " ".join(notes_from_tune(report))
    assert "130 candidates measured (1 crashed, 129 ok), 3 known from before in 1:15 min, 104 a minute" in notes
    assert "4 kernels have no schedule space" in notes and "0 shipped records" in notes
    assert "25 of 26 kernels get new records: their calls 2.000x in loops of their own" in notes
    assert "2 kernels have a faster one in its loop" in notes
    broken, torn, busy = warnings_from_tune(report)
    assert "failed gave no right result as it is compiled today" in broken
    assert "2 lines are no records" in torn and "1.5 CPUs busy" in busy
    assert json_from_tune(report)["speedup"] == 2.0
    assert warnings_from_tune(replace(report, kernels=kernels, ignored_lines=0, other_cpus=None)) == []
    no_network = replace(report, problem="no linker")
    assert "loops of their own, the network cannot be compiled: no linker" in " ".join(warnings_from_tune(no_network))


def report_of_networks(said: Said, **changes: Any) -> TuneReport:
    """Of a run that compared networks."""
    kernels = (TunedKernel("kernel", "toy", 2, 30, 5, 2e-4, 1e-4, {"x": 1}, said == "better"),)
    network = NetworkTimes(3e-3, 2.5e-3, 0.8, (0.75, 0.875), 39, 40, 0.1)
    report = TuneReport(
        model="m", target="cpu", machine="cpu", threads=1, end="time", seconds=75.0, trials=130, resumed=3,
        outcomes={"ok": 130}, judged="network", said=said, network=network, waiting=0, problem="", disturbed_by=None,
        before_s=3e-3, after_s=2.5e-3 if said == "better" else 3e-3, kernels=kernels, untuned=(), database="db",
        ignored_lines=0, promoted=None, other_cpus=0.0, route="local", devices=("here",),
    )  # fmt: skip
    return replace(report, **changes)


def cells_of_last_row(report: TuneReport) -> list[str]:
    return [str(list(column.cells)[-1]) for column in table_from_tune(report).columns]


def test_gain_is_that_of_the_network() -> None:
    report = report_of_networks("better")
    assert json_from_tune(report)["speedup"] == 1.25
    assert cells_of_last_row(report)[0] == "the network" and "1.25x" in cells_of_last_row(report)
    assert notes_from_tune(report)[-1] == (
        "1 of 1 kernels get new records: the network 3.000 -> 2.500 ms, 1.250x (faster in 39 of 40 rounds, quartiles "
        "1.143 to 1.333)"
    )


@pytest.mark.parametrize(
    ("said", "changes", "text"),
    [
        ("equal", {}, "with new ones the network is not faster beyond the noise (faster in 39 of 40 rounds)"),
        ("equal", {"network": None}, "inside the network no new one is faster beyond the noise"),
        ("disturbed", {"disturbed_by": 1.25}, "other processes kept 1.2 CPUs busy while old and new were compared"),
        ("interrupted", {"network": None}, "interrupted before old and new were compared"),
        ("failed", {"network": None, "problem": "no linker"}, "old and new could not be compared: no linker"),
        ("nothing", {"network": None}, "nothing better was found"),
    ],
)
def test_without_a_verdict_no_gain_is_claimed(said: Said, changes: dict[str, Any], text: str) -> None:
    """Whatever the times were: the line, the table and the JSON agree."""
    report = report_of_networks(said, waiting=3, **changes)
    line = notes_from_tune(report)[-1]
    assert line.startswith(f"all records stay as they were: {text}") and "3 kernels have a faster one" in line
    assert json_from_tune(report)["speedup"] == 1.0 and "1.00x" in cells_of_last_row(report)
