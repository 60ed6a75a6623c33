"""The latency of a network that is only a spec yet: compiled into a folder of its own, timed, and thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from effgen.driver import CompileRequest, compile_bundle
from effgen.files.temporary import temporary_folder
from effgen.judge.bench import bench_bundle
from effgen.judge.bench_remote import bench_over_rpc
from effgen.measure.protocol import Remote
from effgen.network import Network
from effgen.results.provenance import facts_of
from effgen.results.reports import DEFAULT_PLAN, BenchReport, ModelFacts, Plan
from effgen.runtime import Manifest
from effgen.words import OnPhase


@dataclass(frozen=True)
class Compiled:
    """A network's bundle in a folder that goes with the block, and its manifest."""

    bundle: Path
    manifest: Manifest
    threads: int | None

    @property
    def facts(self) -> ModelFacts:
        """Its counts, and the bytes of its files."""
        return facts_of(self.manifest, self.bundle)

    def time(
        self, plan: Plan = DEFAULT_PLAN, remote: Remote | None = None, on_phase: OnPhase = lambda phase: None
    ) -> BenchReport:
        """Time it alone, as `measure_network` says."""
        if remote is not None:
            return bench_over_rpc(self.bundle, remote, self.threads, plan, on_phase)
        return bench_bundle(self.bundle, (), self.threads, plan, on_phase)


@contextmanager
def compiled(
    network: Network,
    target: str = "cpu",
    threads: int | None = None,
    database: Path | None = None,
    on_phase: OnPhase = lambda phase: None,
) -> Iterator[Compiled]:
    """Compile `network` with random weights for as long as the block runs. Raises an EffgenError where it cannot be."""
    with temporary_folder("latency") as folder:
        bundle = folder / "bundle"
        request = CompileRequest(network.request, bundle, target, threads=threads, database=database)
        yield Compiled(bundle, compile_bundle(request, on_phase, network), threads)


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
    with compiled(network, target, threads, database, on_phase) as made:
        return made.time(plan, remote, on_phase)
