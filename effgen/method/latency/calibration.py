"""What a machine's predictions start from: a standard set of kernels, timed once where it counts.

Random networks are compiled, and each of their kernels is timed in the running network: dozens at a time, each with
the caches as its neighbours leave them. A few are timed by themselves as well, which tells what the difference is.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from effgen.compiler.blocks import kernel_calls, kernel_counts
from effgen.compiler.calls import KernelCall
from effgen.files.temporary import temporary_folder
from effgen.graph import Graph
from effgen.graph.passes.fold_batchnorm import folded_graph
from effgen.judge.bench import load_to_time
from effgen.judge.bench_layers import plain_and_traced
from effgen.judge.case import golden_pair
from effgen.kernels.workload import Workload
from effgen.machines.host import watch_other_work
from effgen.machines.identity import device_name
from effgen.machines.machine import Cpu, Machine
from effgen.method.latency.samples import sample_networks
from effgen.method.latency.table import TableProgress, complete_kernels, machine_measured_here, measuring
from effgen.method.latency.times import KernelSetting, KernelTime, NetworkTime, load_times, times_file
from effgen.method.latency.work import work_of
from effgen.network import Network, network_from_spec
from effgen.network.spec import NetworkSpec
from effgen.results.reports import DISTURBING_CPUS, Plan
from effgen.runtime.profile import profile_from_traces
from effgen.tuning.ledger import now
from effgen.words import OnPhase

if TYPE_CHECKING:  # needs TVM
    from effgen.records.choice import KernelChoices
    from effgen.runtime.profile import Profile

#: Networks of the standard set, by these names, and kernels that are timed by themselves as well.
NETWORKS, ALONE = 12, 24
SEED = "calibration"

#: Of each network: so long without and with clocks.
PLAN = Plan(rounds=4, min_time_s=0.4)


def calibrate(
    target: str = "cpu",
    threads: int | None = None,
    database: Path | None = None,
    on_phase: OnPhase = lambda phase: None,
) -> int:
    """Measure the standard set where the table lacks it; returns how many kernels that were, 0 where all was known.

    Takes about 90 seconds, once for a machine, a number of threads and a version of the kernels. What is measured is in
    the table before the next network begins: stopped, it goes on there.

    Raises TuneError where kernels of the target cannot be measured on this computer.
    """
    machine = machine_measured_here(target, threads)
    file = times_file(database)
    file.check()

    def tell(progress: TableProgress) -> None:
        if progress.done == 1:
            on_phase(f"calibrate {machine.name}: {progress.total} kernels by themselves")

    with watch_other_work() as other_work:
        measured = _measure_networks(machine, target, database, on_phase)
        measured += complete_kernels(_spanning(), machine, database, tell, alone=True)
    if measured and other_work.cpus is not None and other_work.cpus > DISTURBING_CPUS:
        on_phase(
            f"calibrated beside {other_work.cpus:.1f} CPUs of other work: predictions may be too long; remove "
            f"{file.path} to calibrate again"
        )
    return measured


def _measure_networks(machine: Cpu, target: str, database: Path | None, on_phase: OnPhase) -> int:
    """Time the standard set's networks that the table lacks; returns how many kernels of theirs were timed."""
    from effgen.records.choice import KernelChoices

    choices, measured = KernelChoices(machine, database), 0
    with measuring(database):
        known = {time.network for time in load_times(machine, database).networks}
        for index, spec in enumerate(sample_networks(NETWORKS, SEED), start=1):
            if identity(spec) not in known:
                on_phase(f"calibrate {machine.name}: network {index} of {NETWORKS}")
                lines = list(_network_lines(network_from_spec(spec), target, choices, database))
                times_file(database).append_lines(*lines)
                measured += len(lines) - 1
    return measured


def identity(spec: NetworkSpec) -> str:
    """What the table calls a network: its name, and a digest of all that its spec says."""
    return f"{spec.name}-{hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:12]}"


def _network_lines(network: Network, target: str, choices: KernelChoices, database: Path | None) -> Iterator[str]:
    """The lines of one network, its own first."""
    machine, device, date = choices.machine, device_name(), now()
    setting = KernelSetting.of(machine)
    seconds, profile = _profiled(network, target, machine, database)
    kernels_s = sum(call.seconds for call in profile.calls)
    yield NetworkTime(identity(network.spec), seconds, kernels_s, setting, device, date).line
    for workload, kernel_s in kernel_seconds(network.graph, profile).items():
        choice = choices.choice(workload)
        work = work_of(workload, machine, choice.cycles)
        yield KernelTime(workload.name, choice.decisions, "network", kernel_s, work, setting, device, date).line


def _profiled(network: Network, target: str, machine: Machine, database: Path | None) -> tuple[float, Profile]:
    """Median seconds of a run, and of each of its kernels."""
    from effgen.driver import CompileRequest, compile_bundle

    with temporary_folder("calibrate") as folder:
        bundle = folder / "bundle"
        request = CompileRequest(network.request, bundle, target, threads=machine.threads, database=database)
        compile_bundle(request, network=network)
        model = load_to_time(bundle, machine.threads)
        plain, traces = plain_and_traced(model, golden_pair(bundle)[0], PLAN)
    return statistics.median(plain), profile_from_traces(traces)


def kernel_seconds(graph: Graph, profile: Profile) -> dict[Workload, float]:
    """Seconds of a call of each kernel of `graph`, the median of its calls in the profile; what TVM computes between
    them (sums of branches) is nobody's."""
    calls = [call for call in kernel_calls(folded_graph(graph)) if isinstance(call, KernelCall)]
    found: dict[Workload, list[float]] = {}
    timed = iter(profile.calls)
    for call in calls:
        workload = call.workload.without_ahead
        own = next((each for each in timed if each.name.startswith(workload.name)), None)
        assert own is not None, f"{workload.name}: not timed, or in another order"
        found.setdefault(workload, []).append(own.seconds)
    return {workload: statistics.median(seconds) for workload, seconds in found.items()}


def _spanning() -> Sequence[Workload]:
    """Some of the standard set's kernels, from the middle of them to those with most to do: small ones, which many
    are, tell little of what networks spend their time on."""
    graphs = (network_from_spec(spec).graph for spec in sample_networks(NETWORKS, SEED))
    workloads = dict.fromkeys(workload.without_ahead for graph in graphs for workload in kernel_counts(graph))
    by_work = sorted(workloads, key=lambda workload: (workload.macs, workload.name))
    larger = by_work[len(by_work) // 2 :]
    return larger[:: len(larger) // ALONE][:ALONE]
