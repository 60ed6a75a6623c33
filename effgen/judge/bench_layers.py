"""Time every kernel inside the running network.

Kernels are not timed one by one in a loop, where their data would stay in the caches, but where they stand: between
the kernels before and after them. Calls with clocks take turns with calls without, and the machine's ceilings are
measured before and after both.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effgen.judge.bench import load_to_time
from effgen.judge.case import golden_pair
from effgen.judge.profile import NETWORK, report_from_profile, work_from_kernels
from effgen.judge.roofline import Probes, best_ceilings, working_sets
from effgen.judge.timing import REST_S, SLOW_CALL_S, WAKE_S, burst, warm_up
from effgen.kernels.workload import NUMBER_TYPES
from effgen.machines.host import describe_host, watch_other_work
from effgen.results.provenance import facts_of, origin_of
from effgen.results.reports import LayersReport, Plan
from effgen.runtime import LoadedModel, Manifest
from effgen.runtime.cuda import CudaModel
from effgen.runtime.manifest import refuse_gpu
from effgen.runtime.profile import Trace, profile_from_traces, trace
from effgen.words import OnPhase


def layers_of_bundle(
    path: Path, threads: int | None, plan: Plan, on_phase: OnPhase = lambda phase: None
) -> LayersReport:
    """Time every kernel of the bundle at `path` with `threads` threads (None: the CPUs of the affinity mask).

    Needs the TVM compiler, for the ceilings. Raises BundleError where the bundle cannot be loaded or does not say
    what its kernels compute.
    """
    on_phase("look at the machine")
    host = describe_host()
    on_phase("load the bundle")
    model = load_to_time(path, threads)
    refuse_gpu(path, model.manifest, "--layers measures this CPU's ceilings; leave --layers out")
    work_from_kernels(model.manifest.kernels, path)
    on_phase("compile the probes of peak and bandwidth")
    sizes = working_sets(host.caches, model.threads, host.memory_bytes)
    probes = Probes(model.threads, {**sizes, NETWORK: working_set(model.manifest)})
    with watch_other_work() as other_work:
        on_phase("measure peak and bandwidth")
        before = probes.measure()
        on_phase(f"measure {plan.rounds} rounds without and with clocks")
        plain, traces = plain_and_traced(model, golden_pair(path)[0], plan)
        on_phase("measure peak and bandwidth again")
        ceilings = best_ceilings(before, probes.measure())
    latency_s = float(np.median(plain))
    manifest, profile = model.manifest, profile_from_traces(traces)
    facts, origin = facts_of(manifest, path), origin_of(manifest)
    return report_from_profile(manifest, facts, origin, profile, latency_s, ceilings, plan, host, other_work.cpus)


def working_set(manifest: Manifest) -> int:
    """Bytes of weights and activations that a run goes through."""
    return NUMBER_TYPES[manifest.dtype].bytes * manifest.parameters + manifest.workspace_bytes


def plain_and_traced(
    model: LoadedModel | CudaModel, image: NDArray[np.float32], plan: Plan
) -> tuple[list[float], list[Trace]]:
    """Seconds of plain calls, and traces, in turn: `plan.min_time_s` of each over all rounds."""
    plain: list[float] = []
    kept: list[Trace] = []
    time_s = plan.min_time_s / plan.rounds
    wake_s = 0.0 if warm_up(lambda: model(image)) > SLOW_CALL_S else WAKE_S
    for _ in range(plan.rounds):
        time.sleep(REST_S)
        plain += burst(lambda: model(image), time_s, wake_s)
        kept += _traced_burst(model, image, time_s, wake_s)
    return plain, kept


def _traced_burst(
    model: LoadedModel | CudaModel, image: NDArray[np.float32], time_s: float, wake_s: float
) -> list[Trace]:
    traces: list[Trace] = []
    counted = burst(lambda: traces.append(trace(model, image)), time_s, wake_s)
    return traces[-len(counted) :]  # those before were to wake caches and threads up
