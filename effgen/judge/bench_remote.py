"""Latency of a bundle on a device behind TVM's RPC, from the desk: no peers there, and nothing of the link is timed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from effgen.judge.bench import Backend, result_from_samples
from effgen.judge.case import golden_pair, relative_l2
from effgen.measure.protocol import Remote
from effgen.results.provenance import facts_of, origin_of
from effgen.results.reports import DEFAULT_PLAN, OURS, BenchReport, Plan
from effgen.runtime import read_manifest
from effgen.runtime.library import prepare_tvm
from effgen.version import __version__
from effgen.words import OnPhase

#: Runs by which it is estimated how many fill a round.
_FIRST_RUNS = 3


def bench_over_rpc(
    path: Path,
    remote: Remote,
    threads: int | None = None,
    plan: Plan = DEFAULT_PLAN,
    on_phase: OnPhase = lambda phase: None,
) -> BenchReport:
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
    backend = Backend(OURS, __version__, distance)
    median_ms = float(np.median(samples)) * 1e3
    return BenchReport(
        origin=origin_of(manifest, "rpc"),
        model=facts_of(manifest, path),
        target=str(manifest.target["name"]),
        threads=bundle.threads,
        plan=plan,
        results=(result_from_samples(backend, samples, len(image), median_ms),),
        left_out=(),
        machine=bundle.host(),
        other_cpus=None,
    )
