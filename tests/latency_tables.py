"""Tables of kernels' times for the tests of predictions: of a made-up machine, without any measuring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from effgen.graph import Graph
from effgen.kernels.workload import Workload
from effgen.machines.target import load_target
from effgen.method.latency.samples import sample_networks
from effgen.method.latency.times import KernelSetting, KernelTime, NetworkTime, Surroundings, Times
from effgen.method.latency.work import Work, work_of
from effgen.network import network_from_spec
from effgen.records.record import Record

MACHINE = replace(load_target("x86-64-v3"), cores=2)
SETTING = KernelSetting(MACHINE.processor, MACHINE.lanes, MACHINE.cores, "code", "1.0")
DECISIONS: Mapping[str, int] = {"rows": 4}


@dataclass(frozen=True)
class ToyChoice:
    """As much of a Choice as predicting needs, without TVM."""

    decisions: Mapping[str, int]
    cycles: float | None = None
    measured: Record | None = None


def choose(workload: Workload) -> ToyChoice:
    """The same decisions for everything; estimated cycles: one for eight multiply-adds."""
    return ToyChoice(DECISIONS, workload.macs / 8 + 100)


def toy_work(workload: Workload) -> Work:
    """The work of a kernel built so."""
    return work_of(workload, MACHINE, choose(workload).cycles)


def law(work: Work) -> float:
    """The machine's true speed, seconds."""
    return work.cycles / 3e9 + work.data_bytes / 20e9 + work.weight_bytes / 10e9 + 2e-6


def line(workload: Workload, seconds: float, how: Surroundings = "network", setting: KernelSetting = SETTING) -> str:
    """A table's line."""
    return KernelTime(workload.name, DECISIONS, how, seconds, toy_work(workload), setting).line


def network_line(seconds: float, kernels_s: float) -> str:
    """A table's line of a network."""
    return NetworkTime("calibration", seconds, kernels_s, SETTING).line


def times_of(lines: Iterable[str]) -> Times:
    """What a table with these lines says."""
    return Times("\n".join(lines).encode(), SETTING)


def sample_graphs(count: int, seed: str = "tests") -> list[Graph]:
    """Graphs of random networks."""
    return [network_from_spec(spec).graph for spec in sample_networks(count, seed)]
