"""Reports of `effgen bench` made up for tests: every number is chosen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from effgen.judge.profile import NETWORK
from effgen.machines.host import Host
from effgen.results.ceilings import Bandwidth, Ceilings
from effgen.results.doubts import doubts_of
from effgen.results.reports import (
    OURS,
    BenchReport,
    FamilyTotal,
    LayersReport,
    LayerTime,
    ModelFacts,
    Origin,
    Plan,
    Rates,
    Report,
    Result,
    json_from_report,
)
from effgen.results.rows import Row, sorted_rows
from effgen.results.sources import BenchSource, LayersSource, ReportSource

ORIGIN = Origin(
    "2026-11-25T22:45:00Z", "0123456789ab", {"effgen": "0.1.0", "tvm": "0.27.0.post1"}, {"compiler": "c++ 12.2.0"}
)

HOST = Host(
    cpu="Testing CPU 9000", architecture="x86_64", cpus=(0, 1), logical_cpus=2, cpu_quota=None, virtual=True,
    flags=("avx2", "fma"), caches={"L1d": 32768, "L2": 1 << 20}, memory_bytes=1 << 33, system="Debian, Linux 6",
    python="3.11.7", load_average=(0.1, 0.2, 0.3), busy_cpus=0.0,
)  # fmt: skip

FACTS = ModelFacts(
    name="efficientnet phi=0", family="efficientnet", phi=0.0, law="published", resolution=(224, 224), batch=1,
    dtype="float32", macs=385_814_752, parameters=5_288_548, code_bytes=283_592, weights_bytes=21_199_744,
    onnx_bytes=21_119_779,
)  # fmt: skip


def facts(phi: float = 0.0, macs: int = FACTS.macs, batch: int = 1) -> ModelFacts:
    """EfficientNet of `phi`."""
    return replace(FACTS, name=f"efficientnet phi={phi:g}", phi=phi, macs=macs, batch=batch)


def result(backend: str, median_ms: float, ours_ms: float, batch: int = 1, version: str = "1.0") -> Result:
    """p10 and p90 are 10% around the median."""
    return Result(
        backend=backend, version=version, calls=100, median_ms=median_ms, p10_ms=median_ms * 0.9,
        p90_ms=median_ms * 1.1, min_ms=median_ms * 0.85, mad_ms=median_ms * 0.05,
        images_per_second=batch / median_ms * 1e3, ratio=median_ms / ours_ms, rel_l2=1e-6,
    )  # fmt: skip


def bench_report(
    model: ModelFacts = FACTS,
    threads: int = 2,
    machine: Host = HOST,
    other_cpus: float | None = 0.0,
    **medians_ms: float,
) -> BenchReport:
    """effgen's median is `medians_ms["effgen"]`, 5 where it is not given."""
    times = {OURS: 5.0, **medians_ms}
    results = tuple(result(name.replace("_", "-"), ms, times[OURS], model.batch) for name, ms in times.items())
    return BenchReport(ORIGIN, model, "cpu", threads, Plan(), results, (), machine, other_cpus)


def layer(name: str, family: str, total_ms: float, macs: int = 1_000_000, size: int = 100_000) -> LayerTime:
    """Rates that fit the time, against a peak of 200 GFLOP/s."""
    gflops = 2 * macs / total_ms / 1e6
    rates = Rates(gflops, size / total_ms / 1e6, 2 * macs / size, gflops / 200, gflops / 100)
    return LayerTime(name, family, "rule:x", 1, total_ms * 1e3, total_ms, total_ms / 5, macs, size, rates)


def layers_report(model: ModelFacts = FACTS, machine: Host = HOST) -> LayersReport:
    """4.5 of 5 ms inside the kernels."""
    layers = (
        layer("f32_pointwise_m12544", "pointwise", 2.5, macs=200_000_000, size=2_000_000),
        layer("f32_dwconv2d_k3s1", "depthwise", 1.5, macs=10_000_000, size=1_000_000),
        layer("f32_avgpool", "pool", 0.5, macs=0, size=500_000),
    )
    families = tuple(FamilyTotal(each.family, 1, 1, each.total_ms, each.share, each.rates) for each in layers)
    bandwidths = (Bandwidth("L2", 1 << 20, 100.0, 90.0), Bandwidth(NETWORK, 24 << 20, 40.0, 50.0))
    return LayersReport(
        origin=ORIGIN, model=model, target="cpu", threads=2, plan=Plan(), latency_ms=5.0, kernels_ms=4.5,
        outside_ms=0.5, gflops=154.0, peak_share=0.77, clock_us=0.1, layers=layers, families=families,
        ceilings=Ceilings(2, 200.0, bandwidths), machine=machine, other_cpus=0.0,
    )  # fmt: skip


def written(report: Report, path: Path) -> Path:
    """The report as a file."""
    path.write_text(json.dumps({"effgen": "0.1.0", **json_from_report(report)}))
    return path


def sources(*reports: BenchReport) -> tuple[BenchSource, ...]:
    return tuple(ReportSource(f"{number}.json", report) for number, report in enumerate(reports))


def rows(*reports: BenchReport) -> tuple[Row, ...]:
    return sorted_rows(sources(*reports))


def doubts(*reports: BenchReport, layers: tuple[LayersSource, ...] = ()) -> str:
    return "\n".join(doubts_of(sources(*reports), layers, rows(*reports)))
