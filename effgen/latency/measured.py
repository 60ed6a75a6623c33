"""The latency of a network that is only a spec yet: compiled into a folder of its own, timed, and thrown away."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from effgen.bench import bench_bundle
from effgen.bench_remote import bench_over_rpc
from effgen.driver import CompileRequest, compile_bundle
from effgen.measure.protocol import Remote
from effgen.network import Network
from effgen.results import DEFAULT_PLAN, BenchReport, Plan

OnPhase = Callable[[str], None]


def measure_network(
    network: Network,
    target: str = "cpu",
    threads: int | None = None,
    plan: Plan = DEFAULT_PLAN,
    database: Path | None = None,
    remote: Remote | None = None,
    on_phase: OnPhase = lambda phase: None,
) -> BenchReport:
    """Compile `network` with random weights and time it alone; `results[0].median_ms` is its latency.

    `threads` None: all that the target has; `database` of tuning records as in `CompileRequest`; `remote`: a device
    behind TVM's RPC, None: here. Raises an EffgenError where it cannot be compiled, or not run where it is to be timed.
    """
    with tempfile.TemporaryDirectory(prefix="effgen-latency-") as folder:
        bundle = Path(folder) / "bundle"
        request = CompileRequest(network.request, bundle, target, threads=threads, database=database)
        compile_bundle(request, on_phase, network)
        if remote is not None:
            return bench_over_rpc(bundle, remote, threads, plan, on_phase)
        return bench_bundle(bundle, (), threads, plan, on_phase)
