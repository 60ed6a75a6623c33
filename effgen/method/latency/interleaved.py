"""Latencies of several networks that are to be compared: all compiled first, then timed in turn in one run.

Whatever else the machine does meanwhile hits all of them, so their ratios hold where the times themselves are noisy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from effgen.errors import TargetError
from effgen.judge.bench import Backend, load_to_time, result_from_samples
from effgen.judge.case import golden_pair
from effgen.judge.race import Here, run_race
from effgen.machines.abilities import running_here
from effgen.machines.host import describe_host, watch_other_work
from effgen.machines.target import load_target
from effgen.method.latency.measured import compiled
from effgen.network import Network
from effgen.results.provenance import facts_of, origin_of
from effgen.results.reports import DEFAULT_PLAN, OURS, BenchReport, Plan, Result
from effgen.runtime.library import prepare_tvm
from effgen.version import __version__
from effgen.words import OnPhase


def check_timed_here(target: str, threads: int | None = None) -> None:
    """Raise TargetError where code for `target` does not run here at its own speed, or not on so many threads."""
    prepare_tvm()
    machine = load_target(target)
    runs, reason = running_here(machine)
    if runs != "native":
        reason = reason or f"only an emulator runs {machine.architecture} here, whose times say nothing about it"
        raise TargetError(f"--target {target}: cannot be timed here: {reason}")
    most = machine.most_threads_here
    if threads is not None and not 1 <= threads <= most:
        raise TargetError(f"--threads {threads}: expected from 1 to {most}, the threads that a call can have here")


def measure_networks(
    networks: Mapping[str, Network],
    target: str = "cpu",
    threads: int | None = None,
    plan: Plan = DEFAULT_PLAN,
    database: Path | None = None,
    on_phase: OnPhase = lambda phase: None,
) -> dict[str, BenchReport]:
    """A report for each of `networks` by its name, all of one interleaved run: `results[0].median_ms` is its latency.

    Weights are random. `threads` None: all that the target has; `database` of tuning records as in `CompileRequest`.
    Raises an EffgenError where one cannot be compiled, or not be timed here; nothing is left on the disk.
    """
    check_timed_here(target, threads)
    with ExitStack() as stack:
        bundles: dict[str, Path] = {}
        for name, network in networks.items():
            on_phase(f"compile {name}")
            bundles[name] = stack.enter_context(compiled(network, target, threads, database)).bundle
        return _timed(bundles, target, threads, plan, on_phase)


def _timed(
    bundles: Mapping[str, Path], target: str, threads: int | None, plan: Plan, on_phase: OnPhase
) -> dict[str, BenchReport]:
    on_phase("look at the machine")
    host = describe_host()
    on_phase(f"load {len(bundles)} bundles")
    models = {name: load_to_time(path, threads) for name, path in bundles.items()}
    images = {name: golden_pair(path)[0] for name, path in bundles.items()}
    racers = {name: Here(partial(models[name], images[name])) for name in bundles}
    with watch_other_work() as other_work:
        samples = run_race(racers, plan, on_phase).samples
    return {
        name: BenchReport(
            origin=origin_of(model.manifest),
            model=facts_of(model.manifest, bundles[name]),
            target=target,
            threads=model.threads,
            plan=plan,
            results=(_result(samples[name], model.manifest.input["shape"][0]),),
            left_out=(),
            machine=host,
            other_cpus=other_work.cpus,
        )
        for name, model in models.items()
    }


def _result(seconds: Sequence[float], batch: int) -> Result:
    """As `bench` reports effgen's own row."""
    return result_from_samples(Backend(OURS, __version__), seconds, batch, float(np.median(seconds)) * 1e3)
