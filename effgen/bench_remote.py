"""Latency of a bundle on a device behind TVM's RPC, from the desk: no peers there, and nothing of the link is timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effgen.bench import Plan
from effgen.measure.protocol import Remote
from effgen.runtime import read_manifest
from effgen.runtime.library import prepare_tvm
from effgen.verify import golden_pair, relative_l2

DEFAULT_PLAN = Plan()

#: Runs by which it is estimated how many fill a round.
_FIRST_RUNS = 3


@dataclass(frozen=True)
class RemoteLatency:
    """Times of a bundle on `device`: milliseconds a run of `batch` images. `rel_l2`: distance from the golden pair."""

    model: str
    target: str
    device: str
    threads: int
    batch: int
    runs: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    min_ms: float
    images_per_second: float
    rel_l2: float


def bench_over_rpc(
    path: Path,
    remote: Remote,
    threads: int | None = None,
    plan: Plan = DEFAULT_PLAN,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> RemoteLatency:
    """Time the bundle at `path` on a device of the remote's key: `plan.rounds` bursts, `plan.min_time_s` in all.

    Raises TuneError where no device can be had, BundleError where the bundle cannot run there.
    """
    manifest = read_manifest(path)
    on_phase(f"find a device at the tracker {remote.tracker}, send the bundle")
    prepare_tvm()
    from effgen.measure.bundle import RemoteBundle

    bundle = RemoteBundle(path, manifest, remote, threads)
    image, expected = golden_pair(path)
    distance = relative_l2(bundle(image), expected)
    on_phase(f"measure {plan.rounds} rounds on {bundle.device}")
    estimate = min(bundle.seconds(image, _FIRST_RUNS))
    each = max(1, round(plan.min_time_s / plan.rounds / estimate))
    samples = [seconds for _ in range(plan.rounds) for seconds in bundle.seconds(image, each)]
    low, median, high = (float(value) * 1e3 for value in np.percentile(samples, (10, 50, 90)))
    return RemoteLatency(
        model=manifest.name,
        target=str(manifest.target["name"]),
        device=bundle.device,
        threads=bundle.threads,
        batch=len(image),
        runs=len(samples),
        median_ms=median,
        p10_ms=low,
        p90_ms=high,
        min_ms=min(samples) * 1e3,
        images_per_second=len(image) / median * 1e3,
        rel_l2=distance,
    )
