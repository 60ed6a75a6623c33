"""What makes measurements set side by side doubtful: every reason has its line."""

from dataclasses import replace

from reports import HOST, bench_report, doubts, facts, layers_report, result

from effgen.results.sources import ReportSource


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
