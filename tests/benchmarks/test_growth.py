"""How latency grows beside multiply-adds, and the peak that it is held to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from growth import growth, measured_peak, peak_share, result_of, worst_growth
from reports import HOST, bench_report, facts, layers_report
from scaling import plot_scaling

from effgen.results.rows import best_peer


def test_growth() -> None:
    reports = [
        bench_report(facts(0, macs=100), effgen=5.0),
        bench_report(facts(1, macs=200), effgen=9.0, x=10.0),
        bench_report(facts(2, macs=400), effgen=22.0, x=21.0),
    ]
    assert growth(reports) == [(1.0, 1.0), (2.0, 1.8), (4.0, 4.4)]
    assert worst_growth(growth(reports)) == pytest.approx(1.1)
    assert growth(reports, "x") == [] and growth(reports[1:], "x") == [(1.0, 1.0), (2.0, 2.1)]
    assert result_of(reports[0], "x") is None and best_peer(reports[0]) is None
    # 2 * 1e9 operations in 5 ms are 400 GFLOP/s.
    assert peak_share(bench_report(facts(macs=10**9), effgen=5.0), peak_gflops=800.0) == pytest.approx(0.5)


def test_peak_of_the_same_machine_and_threads() -> None:
    layers = [layers_report(), layers_report(machine=replace(HOST, cpu="Board"))]
    assert measured_peak(bench_report(), layers) == 200.0
    assert measured_peak(bench_report(threads=1), layers) is None
    assert measured_peak(bench_report(), layers[1:]) is None


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"scaling.{suffix}"
    plot_scaling({"effgen": [(1.0, 1.0), (2.0, 1.9)], "x": [(1.0, 1.0)]}, ["phi=0", "phi=1"], "title", path)
    assert path.stat().st_size > 1000
