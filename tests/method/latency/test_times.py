"""The table of measured kernels: what its lines say, what is passed over, who may write to it at a time."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from latency_tables import DECISIONS, MACHINE, SETTING, line, network_line, times_of

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.method.latency.times import (
    KernelFailure,
    KernelSetting,
    code_fingerprint,
    lines_from_text,
    load_times,
    table_path,
    times_file,
)
from effgen.records.database import default_database

WORKLOAD = Conv2d(1, 14, 14, 96, 64)
FAILURE = KernelFailure(WORKLOAD.name, DECISIONS, "timeout", "no result within 20 s", SETTING)


def test_lines_round_trip() -> None:
    for text in (line(WORKLOAD, 1e-5), network_line(2e-3, 1.9e-3), FAILURE.line):
        (found,), ignored = lines_from_text(text.encode())
        assert found.line == text and not ignored


def test_several_times_have_a_median() -> None:
    times = times_of(line(WORKLOAD, seconds) for seconds in (1e-5, 9e-5, 2e-5))
    assert times.seconds("network", WORKLOAD.name, DECISIONS) == 2e-5
    assert times.seconds("alone", WORKLOAD.name, DECISIONS) is None
    assert [time.seconds for time in times.kernels("network")] == [2e-5]


@pytest.mark.parametrize(
    "change", [{"cores": 4}, {"lanes": 4}, {"mcpu": "other"}, {"code": "older"}, {"tvm": "0.1"}], ids=str
)
def test_times_of_another_setting_are_passed_over(change: dict[str, object]) -> None:
    times = times_of([line(WORKLOAD, 1e-5, setting=replace(SETTING, **change))])  # type: ignore[arg-type]
    assert times.seconds("network", WORKLOAD.name, DECISIONS) is None
    assert times.ignored == 0


def test_times_of_other_decisions_are_passed_over() -> None:
    times = times_of([line(WORKLOAD, 1e-5)])
    assert times.seconds("network", WORKLOAD.name, {"rows": 5}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": 0}, {"seconds": None}, {"seconds": True}, {"seconds": "1"}, {"how": "elsewhere"}, {"decisions": []},
        {"decisions": {"rows": 1.5}}, {"work": {}}, {"setting": {}}, {"kernel": 3}, {"new": 1}, {"device": 1},
    ],
    ids=str,
)  # fmt: skip
def test_damaged_lines_are_counted_and_skipped(change: dict[str, object]) -> None:
    damaged = json.dumps(json.loads(line(WORKLOAD, 1e-5)) | change)
    times = times_of([damaged, "not JSON", "[1]", line(WORKLOAD, 1e-5)[:40], line(WORKLOAD, 3e-5)])
    assert times.ignored == 4
    assert times.seconds("network", WORKLOAD.name, DECISIONS) == 3e-5


@pytest.mark.parametrize("change", [{"kernels_s": 0}, {"kernels_s": "1"}, {"network": 1}, {"new": 1}], ids=str)
def test_damaged_lines_of_networks_are_skipped(change: dict[str, object]) -> None:
    assert lines_from_text(json.dumps(json.loads(network_line(1.0, 0.9)) | change).encode()) == ([], 1)


def test_failures_hold_for_their_decisions_and_setting() -> None:
    times = times_of([FAILURE.line, replace(FAILURE, kernel="other", setting=replace(SETTING, cores=4)).line])
    assert times.failed(WORKLOAD.name, DECISIONS)
    assert not times.failed(WORKLOAD.name, {"rows": 5}) and not times.failed("other", DECISIONS)
    assert times.seconds("alone", WORKLOAD.name, DECISIONS) is None and times.ignored == 0


@pytest.mark.parametrize(
    "change", [{"status": "sad"}, {"error": 1}, {"kernel": 1}, {"decisions": 1}, {"x": 1}], ids=str
)
def test_damaged_lines_of_failures_are_skipped(change: dict[str, object]) -> None:
    assert lines_from_text(json.dumps(json.loads(FAILURE.line) | change).encode()) == ([], 1)


def test_table_stands_beside_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert table_path(tmp_path / "mine.jsonl") == tmp_path / "mine.times.jsonl"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert table_path() == default_database().with_name("records.times.jsonl")


def test_torn_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    database, setting = tmp_path / "records.jsonl", KernelSetting.of(MACHINE)
    file = times_file(database)
    file.path.write_text(line(WORKLOAD, 1e-5, setting=setting)[:50])
    file.append_lines(line(WORKLOAD, 2e-5, setting=setting), line(WORKLOAD, 2e-5, "alone", setting))
    times = load_times(MACHINE, database)
    assert times.ignored == 1
    assert times.seconds("alone", WORKLOAD.name, DECISIONS) == 2e-5


def test_missing_table_is_empty(tmp_path: Path) -> None:
    times = load_times(MACHINE, tmp_path / "none.jsonl")
    assert not times.kernels("network") and not times.networks and not times.ignored


def test_code_has_a_fingerprint() -> None:
    code = KernelSetting.of(MACHINE).code
    assert len(code) == 16 and code == KernelSetting.of(replace(MACHINE, cores=1)).code
    dearer = replace(MACHINE, costs=MACHINE.costs.model_copy(update={"launch": 24_000.0}))
    assert KernelSetting.of(dearer).code != code


@pytest.mark.parametrize(
    ("source", "covered"),
    [("pointwise.py", True), ("workload.py", True), ("work.py", True), ("machine.py", True), ("samples.py", False)],
)
def test_fingerprint_is_of_kernels_schedules_and_the_meaning_of_work(
    source: str, covered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, read = code_fingerprint(""), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"# new" if path.name == source else b""))
    assert (code_fingerprint.__wrapped__("") != before) is covered
