"""Results side by side: rows, doubts, fronts, the paper's pairs, regressions, growth."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import FACTS, HOST, bench_report, facts, layers_report, result, written

from effgen.errors import RegressionError, ResultsError
from effgen.measure.session import host_of
from effgen.report.bench import host_line
from effgen.results.doubts import doubts_of
from effgen.results.front import front
from effgen.results.paper import remeasured
from effgen.results.regressions import check_gate, passes, regressions_of
from effgen.results.reports import BenchReport
from effgen.results.rows import Row, best_peer, machine_label, sorted_rows
from effgen.results.sources import BenchSource, LayersSource, ReportSource

ROOT = Path(__file__).parents[2]


def sources(*reports: BenchReport) -> tuple[BenchSource, ...]:
    return tuple(ReportSource(f"{number}.json", report) for number, report in enumerate(reports))


def rows(*reports: BenchReport) -> tuple[Row, ...]:
    return sorted_rows(sources(*reports))


def doubts(*reports: BenchReport, layers: tuple[LayersSource, ...] = ()) -> str:
    return "\n".join(doubts_of(sources(*reports), layers, rows(*reports)))


# Rows.


def test_row_of_a_result() -> None:
    ours, peer = rows(bench_report(onnxruntime=6.5))
    assert (ours.backend, ours.is_ours, peer.backend, peer.is_ours) == ("effgen", True, "onnxruntime", False)
    assert (ours.result.ratio, peer.result.ratio) == (1.0, 1.3)
    assert (ours.bytes, peer.bytes) == (283_592 + 21_199_744, 21_119_779)
    assert ours.setting.title == "Testing CPU 9000, 2 CPUs, 2 threads, batch 1, float32, target cpu"


def test_machine_is_named_without_ornaments() -> None:
    host = replace(HOST, cpu="Intel(R) Core(TM) i7-9700 CPU @ 3.00GHz", cpus=(3,))
    assert machine_label(host) == "Intel Core i7-9700 @ 3.00GHz, 1 CPU"
    assert machine_label(replace(HOST, cpu="board", cpus=())) == "board"
    assert machine_label(replace(HOST, cpu="", cpus=())) == "x86_64"


def test_device_that_tells_only_its_name() -> None:
    class Session:
        """A server of TVM's own: it has none of effgen's functions."""

        def get_function(self, name: str) -> None:
            raise AttributeError(name)

    host = host_of(Session(), "pi", "aarch64")
    assert (host.cpu, host.architecture, host_line(host), machine_label(host)) == ("pi", "aarch64", "pi", "pi")


def test_rows_stand_by_setting_and_size() -> None:
    large, small = facts(1, macs=2 * FACTS.macs), facts(0)
    found = rows(bench_report(large, x=7.0), bench_report(small, threads=1), bench_report(small))
    assert [(row.model.phi, row.setting.threads, row.backend) for row in found] == [
        (0.0, 2, "effgen"), (1.0, 2, "effgen"), (1.0, 2, "x"), (0.0, 1, "effgen"),
    ]  # fmt: skip


# Doubts.


def test_nothing_to_doubt() -> None:
    assert doubts(bench_report(onnxruntime=6.5), bench_report(facts(1), onnxruntime=12.0)) == ""


def test_disturbed_files_are_named() -> None:
    busy = ReportSource("layers.json", replace(layers_report(), other_cpus=0.7))
    assert doubts(bench_report(other_cpus=0.2), layers=(busy,)) == (
        "1 of 2 files disturbed: other processes kept up to 0.7 CPUs busy, times are inflated, those of peers perhaps "
        "more (layers.json)"
    )


def test_scattered_rows_are_named() -> None:
    report = bench_report()
    wide = replace(report.results[0], p90_ms=9.0)
    assert "1 of 1 rows scattered, p10 to p90 over 50% of the median (effgen in 0.json)" in doubts(
        replace(report, results=(wide,))
    )


def test_several_versions_of_a_peer() -> None:
    one = bench_report(onnxruntime=6.5)
    other = replace(one, model=facts(1), results=(one.results[0], result("onnxruntime", 6.5, 5.0, version="2.0")))
    assert doubts(one, other) == "onnxruntime: 2 versions: 1.0 (0.json), 2.0 (1.json)"


def test_several_commits_and_uncommitted_changes() -> None:
    one, other = bench_report(), bench_report(facts(1))
    dirty = replace(other, origin=replace(other.origin, revision="0123456789ab+dirty"))
    assert doubts(one, dirty) == "1 of 2 files measured with uncommitted changes to effgen"
    another = replace(other, origin=replace(other.origin, revision="ffff"))
    assert doubts(one, another) == "several commits of effgen: 0123456789ab (0.json), ffff (1.json)"
    unknown = replace(other, origin=replace(other.origin, revision=None))
    assert doubts(one, unknown) == ""


def test_several_compilers() -> None:
    one, other = bench_report(), bench_report(facts(1))
    other = replace(other, origin=replace(other.origin, compiled_by={"compiler": "c++ 13"}))
    assert doubts(one, other) == "compiled by several versions of compiler: c++ 12.2.0 (0.json), c++ 13 (1.json)"


def test_several_machines_and_one_that_changed() -> None:
    board = replace(HOST, cpu="Board")
    assert "2 machines (Testing CPU 9000, 2 CPUs; Board, 2 CPUs)" in doubts(bench_report(), bench_report(machine=board))
    updated = replace(HOST, system="Debian, Linux 7", memory_bytes=1 << 34)
    found = doubts(bench_report(), bench_report(facts(1), machine=updated))
    assert "its system differs: Debian, Linux 6 (0.json), Debian, Linux 7 (1.json)" in found
    assert "its memory differs: 8192 MiB (0.json), 16384 MiB (1.json)" in found


def test_other_threads_and_batches_of_a_model() -> None:
    found = doubts(bench_report(), bench_report(threads=1), bench_report(facts(batch=8), threads=1))
    assert "threads differs (1, 2) between rows of efficientnet phi=0" in found
    assert "batch differs (1, 8) between rows of efficientnet phi=0" in found
    assert "differs" not in doubts(bench_report(), bench_report(facts(1), threads=1))


def test_measured_again() -> None:
    assert doubts(bench_report(effgen=5.0), bench_report(effgen=5.2)) == ""
    assert doubts(bench_report(effgen=5.0), bench_report(effgen=6.0)) == (
        "efficientnet phi=0 by effgen was measured 2 times, 5 to 6 ms: 0.json, 1.json"
    )


# The front.


def test_front_is_most_work_in_least_time() -> None:
    found = rows(
        bench_report(facts(0, macs=100), effgen=5.0, slow=9.0),
        bench_report(facts(1, macs=200), effgen=8.0),
        bench_report(facts(2, macs=150), effgen=9.0),
    )
    assert [(row.model.phi, row.backend) for row in front(found)] == [(0.0, "effgen"), (1.0, "effgen")]
    assert front([]) == []


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=12))
def test_front_holds_whoever_is_not_beaten(points: list[tuple[int, int]]) -> None:
    made = [row for macs, ms in points for row in rows(bench_report(facts(0, macs=macs), effgen=float(ms)))]
    kept = {(row.model.macs, row.result.median_ms) for row in front(made)}
    for macs, ms in points:
        beaten = any(m >= macs and t <= ms and (m, t) != (macs, ms) for m, t in points)
        assert ((macs, ms) in kept) == (not beaten)


# The paper.


def onnx(name: str, parameters: int = 60_192_808, **medians_ms: float) -> BenchReport:
    model = replace(FACTS, name=name, family=None, phi=None, law=None, parameters=parameters)
    return bench_report(model, threads=1, **medians_ms)


def test_pair_of_the_paper() -> None:
    b1 = bench_report(facts(1), threads=1, effgen=40.0, onnxruntime=60.0)
    found = remeasured(rows(b1, onnx("resnet152", effgen=200.0)))
    assert [(each.backend, each.ratio) for each in found] == [("effgen", 5.0)]
    both = remeasured(rows(b1, onnx("ResNet-152 v2.onnx", effgen=200.0, onnxruntime=240.0)))
    assert [(each.backend, each.ratio) for each in both] == [("effgen", 5.0), ("onnxruntime", 4.0)]


def test_means_are_compared_where_all_have_one() -> None:
    def with_mean(report: BenchReport, mean_ms: float) -> BenchReport:
        return replace(report, results=tuple(replace(each, mean_ms=mean_ms) for each in report.results))

    b1, resnet = bench_report(facts(1), threads=1, effgen=40.0), onnx("resnet152", effgen=200.0)
    (means,) = remeasured(rows(with_mean(b1, 50.0), with_mean(resnet, 300.0)))
    assert (means.ratio, means.statistic, means.like_the_paper) == (6.0, "mean", True)
    (medians,) = remeasured(rows(b1, with_mean(resnet, 300.0)))
    assert (medians.ratio, medians.statistic, medians.like_the_paper) == (5.0, "median", False)


def test_pairs_need_the_same_setting() -> None:
    b1 = bench_report(facts(1), threads=2, effgen=40.0)
    found = remeasured(rows(b1, onnx("resnet152", effgen=200.0)))
    assert {(each.large_ms, each.small_ms) for each in found} == {(None, 40.0), (200.0, None)}
    assert all(each.ratio is None for each in found)


def test_size_tells_a_network_from_its_namesake() -> None:
    assert remeasured(rows(onnx("resnet152", parameters=5_000_000))) == ()
    assert len(remeasured(rows(onnx("resnet152-21classes", parameters=58_200_000)))) == 1


@pytest.mark.parametrize("name", ["resnet1520", "resnet50", "efficientnet-b10", "densenet121"])
def test_other_networks_are_none_of_the_papers(name: str) -> None:
    assert remeasured(rows(onnx(name))) == ()


def test_scaled_by_another_law_is_not_the_papers() -> None:
    assert remeasured(rows(bench_report(replace(facts(1), law="formula")))) == ()
    assert remeasured(rows(bench_report(facts(1, batch=8)))) == ()
    assert len(remeasured(rows(onnx("efficientnet_b7")))) == 1


# Regressions.


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


# Growth.


def script(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / name), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_scaling_script(tmp_path: Path) -> None:
    small = written(bench_report(facts(0, macs=10**9), effgen=5.0, y=6.0), tmp_path / "a.json")
    large = written(bench_report(facts(1, macs=2 * 10**9), effgen=12.0), tmp_path / "b.json")
    done = script("scaling.py", large, small, "--peak", "800")
    assert done.returncode == 0, done.stderr
    found = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert found[2] == "| 0 | 224 | 1.00 | 1.00 | 5.00 | 1.00 | 50% | y | 6.00 (1.20x) |"
    assert found[3] == "| 1 | 224 | 2.00 | 2.00 | 12.00 | 2.40 | 42% |  |  |"
    assert "at most 1.20 times as much" in done.stdout
    gate = script("scaling.py", small, large, "--max-growth", "1.1")
    assert gate.returncode == 3 and gate.stderr.count("\n") == 1 and "1.20 times" in gate.stderr
    written(bench_report(threads=1), tmp_path / "c.json")
    for words, message in (
        ((small, tmp_path / "c.json"), "a network is there twice"),
        ((large, tmp_path / "c.json"), "networks of one machine, target, batch size, type and thread count are needed"),
    ):
        refused = script("scaling.py", *words)
        assert refused.returncode == 1 and message in refused.stderr and refused.stderr.count("\n") == 1
