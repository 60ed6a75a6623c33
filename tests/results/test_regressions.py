"""What became slower since a baseline, and the gate that says so."""

import math
from dataclasses import replace
from typing import Any

import pytest
from reports import HOST, bench_report, facts, rows, sources

from effgen.errors import RegressionError, ResultsError
from effgen.results.doubts import doubts_of
from effgen.results.regressions import check_gate, passes, regressions_of
from effgen.results.reports import BenchReport
from effgen.results.rows import best_peer


def change_of(now: BenchReport, before: BenchReport) -> Any:
    (change,) = regressions_of(sources(now), sources(before)).changes
    return change


def test_ratios_are_compared_and_not_milliseconds() -> None:
    change = change_of(bench_report(effgen=10.0, openvino=12.0), bench_report(effgen=5.0, openvino=6.0))
    assert change.change == pytest.approx(0.0) and change.peers == ("openvino",) and change.note == ""
    slower = change_of(bench_report(effgen=5.5, openvino=6.0), bench_report(effgen=5.0, openvino=6.0))
    assert slower.change == pytest.approx(0.1)


def test_peer_that_is_new_is_no_regression() -> None:
    change = change_of(bench_report(openvino=6.0, newcomer=1.0), bench_report(openvino=6.0))
    assert change.change == pytest.approx(0.0) and change.peers == ("openvino",)


def test_own_c_library_is_no_peer() -> None:
    report = bench_report(standalone=4.9, openvino=6.0)
    peer = best_peer(report)
    assert peer is not None and peer.backend == "openvino"
    assert change_of(report, report).peers == ("openvino",)
    assert [row.bytes is None for row in rows(report)] == [False, True, False]


def test_peer_that_is_gone_is_noted() -> None:
    change = change_of(bench_report(openvino=6.0), bench_report(openvino=6.0, pytorch=3.0))
    assert change.change == pytest.approx(0.0) and change.note == "without pytorch, which the baseline has"


def test_milliseconds_where_no_peer_is_in_both() -> None:
    change = change_of(bench_report(effgen=6.0, a=1.0), bench_report(effgen=5.0, b=1.0))
    assert change.change == pytest.approx(0.2) and change.peers == ()
    assert "no peer in both: milliseconds" in change.note
    assert "disturbed" in change_of(bench_report(other_cpus=0.9), bench_report()).note


def with_version(report: BenchReport, backend: str, version: str | None) -> BenchReport:
    results = (replace(each, version=version) if each.backend == backend else each for each in report.results)
    return replace(report, results=tuple(results))


def test_peer_of_another_version_is_no_yardstick() -> None:
    now = with_version(bench_report(effgen=10.0, onnxruntime=12.0), "onnxruntime", "1.32.0")
    before = with_version(bench_report(effgen=5.0, onnxruntime=6.0), "onnxruntime", "1.30.0")
    change = change_of(now, before)
    assert change.peers == () and change.change == pytest.approx(1.0)
    assert change.note == (
        "onnxruntime 1.32.0, was 1.30.0: no yardstick; "
        "no peer of one version in both: milliseconds, which a busy machine inflates"
    )
    with pytest.raises(RegressionError, match=r"effgen 10.000 ms, was 5.000 ms: \+100.0%"):
        check_gate(regressions_of(sources(now), sources(before)), 5.0)


def test_other_peers_stay_yardsticks() -> None:
    now = with_version(bench_report(effgen=10.0, onnxruntime=1.0, openvino=12.0), "onnxruntime", "2.0")
    change = change_of(now, bench_report(effgen=5.0, onnxruntime=6.0, openvino=6.0))
    assert change.peers == ("openvino",) and change.change == pytest.approx(0.0)
    assert change.note == "onnxruntime 2.0, was 1.0: no yardstick; in milliseconds +100.0%"


def test_versions_that_differ_within_a_set() -> None:
    one = bench_report(onnxruntime=6.0)
    (change,) = regressions_of(sources(one, with_version(one, "onnxruntime", "2.0")), sources(one)).changes
    assert change.peers == () and change.note.startswith("onnxruntime 1.0/2.0, was 1.0: no yardstick")


def test_peer_of_unknown_version_is_noted() -> None:
    known = bench_report(onnxruntime=6.0)
    change = change_of(known, with_version(known, "onnxruntime", None))
    assert change.peers == ("onnxruntime",) and change.note == "version not kept in both: onnxruntime"


def test_disturbed_case_says_which_set() -> None:
    quiet, busy = bench_report(x=6.0), bench_report(other_cpus=0.9, x=6.0)
    assert change_of(quiet, busy).note == "disturbed by other processes: the baseline"
    assert change_of(busy, busy).note == "disturbed by other processes: now and the baseline"


def test_baseline_is_doubted_too() -> None:
    now = bench_report(onnxruntime=6.0)
    other = with_version(bench_report(other_cpus=0.9, onnxruntime=3.0), "onnxruntime", "0.9")
    other = replace(with_version(other, "effgen", "0.0.1"), machine=replace(HOST, memory_bytes=1 << 34))
    other = replace(other, origin=replace(other.origin, revision="ffff+dirty", compiled_by={"compiler": "c++ 13"}))
    found = doubts_of(sources(now), (), rows(now), sources(other))
    assert found[0].startswith("1 of 2 files disturbed") and "(--baseline 0.json)" in found[0]
    assert found[1:] == (
        "Testing CPU 9000, 2 CPUs: its memory differs: 8192 MiB (0.json), 16384 MiB (--baseline 0.json)",
        "onnxruntime: 2 versions: 1.0 (0.json), 0.9 (--baseline 0.json)",
        "compiled by several versions of compiler: c++ 12.2.0 (0.json), c++ 13 (--baseline 0.json)",
    )


def test_several_runs_are_their_median() -> None:
    now = sources(*(bench_report(effgen=ms, openvino=10.0) for ms in (5.0, 5.1, 99.0)))
    (change,) = regressions_of(now, sources(bench_report(effgen=5.0, openvino=10.0))).changes
    assert change.now_ms == 5.1 and change.change == pytest.approx(0.02)


def test_cases_of_one_set_are_listed() -> None:
    now = sources(bench_report(), bench_report(threads=1))
    before = sources(bench_report(), bench_report(facts(3)), bench_report(machine=replace(HOST, cpu="Board")))
    found = regressions_of(now, before)
    assert [case.setting.threads for case in found.only_now] == [1]
    assert [(case.model, case.setting.machine) for case in found.only_before] == [
        ("efficientnet phi=3", "Testing CPU 9000, 2 CPUs"), ("efficientnet phi=0", "Board, 2 CPUs"),
    ]  # fmt: skip


def test_gate_names_the_worst() -> None:
    now = sources(*(bench_report(facts(phi), effgen=ms, x=6.0) for phi, ms in ((0, 5.4), (1, 6.0), (2, 5.0))))
    before = sources(*(bench_report(facts(phi), effgen=5.0, x=6.0) for phi in (0, 1, 2)))
    found = regressions_of(now, before)
    check_gate(found, 20.0)
    with pytest.raises(RegressionError) as caught:
        check_gate(found, 5.0)
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)
    assert str(caught.value) == (
        "2 of 3 cases more than 5% slower than --baseline; worst: efficientnet phi=1, Testing CPU 9000, 2 CPUs, "
        "2 threads, batch 1, float32, target cpu: effgen / best peer 1.000, was 0.833: +20.0%"
    )
    assert [change.case.model[-1] for change in found.changes] == ["1", "0", "2"]


def test_gate_that_judges_nothing_does_not_pass() -> None:
    found = regressions_of(sources(bench_report()), sources(bench_report(threads=1)))
    with pytest.raises(ResultsError, match="--gate 5: no case of --baseline was measured again"):
        check_gate(found, 5.0)


def test_gate_misses_what_was_not_measured_again() -> None:
    now, before = sources(bench_report()), sources(bench_report(), bench_report(facts(3)), bench_report(facts(5)))
    found = regressions_of(now, before)
    with pytest.raises(RegressionError) as caught:
        check_gate(found, 5.0)
    assert caught.value.exit_code == 3 and str(caught.value).startswith(
        "2 of 3 cases of --baseline not measured again; first: efficientnet phi=3, Testing CPU 9000, 2 CPUs, 2 threads"
    )
    check_gate(found, 5.0, allow_missing=True)
    with pytest.raises(RegressionError, match="more than 5% slower"):
        check_gate(regressions_of(sources(bench_report(effgen=9.0)), before), 5.0, allow_missing=True)
    with pytest.raises(ResultsError, match="no case of --baseline"):
        check_gate(regressions_of(now, before[1:]), 5.0, allow_missing=True)


@pytest.mark.parametrize("percent", [math.nan, math.inf, -math.inf])
def test_limit_that_is_no_number_never_passes(percent: float) -> None:
    assert not passes(change_of(bench_report(), bench_report()), percent)
