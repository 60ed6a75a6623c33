"""Kernels inside a network: what is made of the clock's readings, and that they are taken. No test judges a speed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reports import ORIGIN, facts

import effgen
from effgen.errors import BundleError, EffgenError
from effgen.judge.bench_layers import layers_of_bundle, working_set
from effgen.judge.case import golden_pair
from effgen.judge.profile import NETWORK, KernelWork, least_seconds, rates, report_from_profile, work_from_kernels
from effgen.machines.host import describe_host
from effgen.report import plots
from effgen.report.layers import notes_from_layers, tables_from_layers, warning_from_layers
from effgen.report.plots import check_plot, plot_roofline
from effgen.results.ceilings import Bandwidth, Ceilings
from effgen.results.reports import LayersReport, Plan, json_from_report
from effgen.runtime import Manifest, read_manifest
from effgen.runtime.profile import Profile, TimedCall, Trace, profile_from_traces, trace

#: A corner at two operations a byte.
CEILINGS = Ceilings(1, 100.0, (Bandwidth("memory", 1 << 27, 20.0, 30.0), Bandwidth(NETWORK, 1 << 25, 40.0, 50.0)))
QUICK = Plan(rounds=2, min_time_s=0.02)
#: Two images a call, of 4 million multiply-adds each.
FACTS = facts(macs=4_000_000, batch=2)


def kernel(name: str, family: str, calls: int, **counts: Any) -> dict[str, Any]:
    return {"name": name, "family": family, "source": "rule:x", "calls": calls, "decisions": {}, **counts}


#: 8 MFLOP in 0.1 ms are 80 GFLOP/s; 4e6 bytes in it are 40 GB/s.
KERNELS = [
    kernel("pw", "pointwise", 2, macs=4_000_000, bytes=1_000_000),
    kernel("pool", "pool", 1, macs=0, bytes=4_000_000),
    kernel("reshape", "operator", 1),
]


def manifest(**changes: Any) -> Manifest:
    empty: dict[str, Any] = {
        "name": "tiny", "network": {}, "target": {"name": "cpu"}, "device": {"kind": "cpu"}, "versions": {},
        "threads": 1, "files": {}, "input": {"shape": [2, 3, 8, 8]}, "outputs": [], "kernels": KERNELS, "steps": [],
        "workspace_bytes": 0, "dtype": "float32",
        "parameters": 0, "macs": 4_000_000, "tolerance": {},
    }  # fmt: skip
    return Manifest(**(empty | changes))


def a_profile() -> Profile:
    names = ("pw", "pool", "pw", "reshape", "foreign")
    seconds = (1e-4, 1e-4, 3e-4, 1e-6, 1e-6)
    calls = tuple(TimedCall(name, time) for name, time in zip(names, seconds, strict=True))
    return Profile(calls, traced_s=1.005e-3)


@pytest.fixture(scope="module")
def report() -> LayersReport:
    host = describe_host(sample_s=0.0)
    return report_from_profile(manifest(), FACTS, ORIGIN, a_profile(), 1e-3, CEILINGS, QUICK, host, 0.0)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float16", 2)])
def test_weights_of_a_run_are_counted_in_the_networks_type(dtype: str, size: int) -> None:
    assert working_set(manifest(dtype=dtype, parameters=1000, workspace_bytes=64)) == size * 1000 + 64


def test_rows_are_in_order_of_first_calls(report: LayersReport) -> None:
    assert [(layer.name, layer.calls) for layer in report.layers] == [
        ("pw", 2), ("pool", 1), ("reshape", 1), ("foreign", 1),
    ]  # fmt: skip
    first = report.layers[0]
    assert (first.call_us, first.total_ms, first.share) == pytest.approx((200.0, 0.4, 0.4))
    # 8 MFLOP a call, 16 in 0.4 ms; 8 flop a byte is right of the corner: the roofline is the peak.
    assert (first.rates.gflops, first.rates.gbytes_per_s, first.rates.intensity) == pytest.approx((40.0, 5.0, 8.0))
    assert (first.rates.peak_share, first.rates.roofline_share) == pytest.approx((0.4, 0.4))


def test_kernel_without_multiply_adds_is_held_to_the_bandwidth(report: LayersReport) -> None:
    pool = report.layers[1].rates
    assert (pool.gflops, pool.gbytes_per_s, pool.intensity, pool.peak_share) == pytest.approx((0.0, 40.0, 0.0, 0.0))
    assert pool.roofline_share == pytest.approx(0.8)


def test_foreign_kernels_have_a_time_and_no_rates(report: LayersReport) -> None:
    for layer in report.layers[2:]:
        assert layer.family == "operator" and layer.rates.gflops is None and layer.macs is None
        assert layer.total_ms == pytest.approx(1e-3)


def test_families_and_what_is_left(report: LayersReport) -> None:
    totals = {total.family: total for total in report.families}
    assert list(totals) == ["pointwise", "pool", "operator"]
    assert (totals["pointwise"].kernels, totals["pointwise"].calls) == (1, 2)
    assert totals["pointwise"].rates == report.layers[0].rates
    assert totals["operator"].kernels == 2 and totals["operator"].rates.gflops is None
    assert sum(total.share for total in totals.values()) + report.outside_ms / report.latency_ms == pytest.approx(1.0)
    assert report.kernels_ms + report.outside_ms == pytest.approx(report.latency_ms) == pytest.approx(1.0)
    # 4 million multiply-adds an image, two images in a millisecond.
    assert (report.gflops, report.peak_share) == pytest.approx((16.0, 0.16))


def test_family_is_held_to_the_bounds_of_its_kernels() -> None:
    kernels = [
        kernel("a", "pointwise", 1, macs=5_000_000, bytes=4),  # 0.1 ms at the peak
        kernel("b", "pointwise", 1, macs=0, bytes=5_000_000),  # 0.1 ms at the bandwidth
    ]
    calls = (TimedCall("a", 2e-4), TimedCall("b", 2e-4))
    profile = Profile(calls, 1e-3)
    host = describe_host(sample_s=0.0)
    made = report_from_profile(manifest(kernels=kernels), FACTS, ORIGIN, profile, 1e-3, CEILINGS, QUICK, host, None)
    assert made.families[0].rates.roofline_share == pytest.approx(0.5)
    assert not made.disturbed


def test_roofline_is_the_lower_of_both() -> None:
    for macs, size in ((1_000_000, 1_000), (1_000, 1_000_000)):
        intensity = 2 * macs / size
        bound = min(100.0, intensity * 50.0) * 1e9
        assert least_seconds(KernelWork(macs, size), CEILINGS) == pytest.approx(2 * macs / bound)
    assert rates(KernelWork(1, 1), 0.0, CEILINGS).gflops is None


@pytest.mark.parametrize("broken", [{}, {"macs": 1}, {"macs": 1, "bytes": None}, {"macs": True, "bytes": 1}])
def test_kernel_without_counts_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"b/manifest.json: kernels\[1\].(macs|bytes) = .*compile the bundle again"):
        work_from_kernels([*KERNELS[:1], kernel("y", "dense", 1, **broken)], Path("b"))


def test_medians_and_the_clocks_cost() -> None:
    traces = [Trace(("pw", "pool"), (5.0, 0.5), 20.0), Trace(("pw", "pool"), (7.0, 0.5), 22.0)]
    profile = profile_from_traces(traces)
    assert profile == Profile((TimedCall("pw", 6.0), TimedCall("pool", 0.5)), 21.0)
    assert profile.clock_s(plain_s=13.0) == 4.0
    assert profile.clock_s(plain_s=30.0) == 0.0


def test_trace_of_a_bundle(tiny_bundle: Path) -> None:
    model = effgen.load(tiny_bundle, threads=1)
    image, _ = golden_pair(tiny_bundle)
    before = model(image)
    found = trace(model, image)
    expected = {item["name"]: item["calls"] for item in model.manifest.kernels}
    assert {name: found.names.count(name) for name in found.names} == expected
    assert 0 < sum(found.seconds) < found.whole_s
    np.testing.assert_array_equal(model(image), before)


def test_layers_of_a_bundle(tiny_bundle: Path) -> None:
    phases: list[str] = []
    found = layers_of_bundle(tiny_bundle, 1, QUICK, phases.append)
    expected = read_manifest(tiny_bundle)
    assert {layer.name: layer.calls for layer in found.layers} == {k["name"]: k["calls"] for k in expected.kernels}
    assert sum((layer.macs or 0) * layer.calls for layer in found.layers) == expected.macs
    assert found.threads == found.ceilings.threads == 1 and found.model.batch == 1
    assert "measure 2 rounds without and with clocks" in phases
    assert found.ceilings.bandwidth(NETWORK) > 0


def test_layers_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    phases: list[str] = []
    with pytest.raises(BundleError, match="no bundle here"):
        layers_of_bundle(tmp_path / "absent", None, QUICK, phases.append)
    assert phases == ["look at the machine", "load the bundle"]


def test_report_as_text_and_json(report: LayersReport) -> None:
    layers, families = tables_from_layers(report)
    assert (layers.row_count, families.row_count) == (4, 3 + 2)
    notes = "\n".join(notes_from_layers(report))
    assert "peak: 100 GFLOP/s" in notes and "network (32 MiB) 40 / 50 GB/s" in notes
    assert "1.00 us of each call's time are the clock's own" in notes
    assert warning_from_layers(report) == ""
    assert "0.9 CPUs busy" in warning_from_layers(replace(report, other_cpus=0.9))
    data = json.loads(json.dumps(json_from_report(report)))
    assert data["layers"][0]["rates"]["peak_share"] == pytest.approx(0.4)
    assert data["layers"][2]["rates"]["gflops"] is None
    assert data["ceilings"]["bandwidths"][1]["level"] == NETWORK


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plots(report: LayersReport, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"roofline.{suffix}"
    check_plot("--plot", path)
    plot_roofline(report, path)
    assert path.stat().st_size > 1000


def test_plot_of_nothing_that_can_be_placed(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    profile = Profile((TimedCall("pool", 1e-4),), 1e-3)
    host = describe_host(sample_s=0.0)
    pools = manifest(kernels=KERNELS[1:2])
    made = report_from_profile(pools, FACTS, ORIGIN, profile, 1e-3, CEILINGS, QUICK, host, None)
    plot_roofline(made, tmp_path / "roofline.png")
    assert (tmp_path / "roofline.png").is_file()


def test_plots_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EffgenError, match=r"--plot .*x.txt: expected a file that ends in .png, .svg, .pdf"):
        check_plot("--plot", tmp_path / "x.txt")
    with pytest.raises(EffgenError, match="is no directory"):
        check_plot("--plot", tmp_path / "absent" / "x.png")
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EffgenError, match=r"matplotlib is not installed: pip install 'effgen\[plot\]'"):
        check_plot("--plot", tmp_path / "x.png")
