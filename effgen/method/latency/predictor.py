"""The latency of a network before it is compiled: the seconds of its kernels, added up.

A kernel's seconds are what the table or the tuning records have of it, as the compiler would build it today, else an
estimate. Times of kernels by themselves become times inside a network by what the two differ for kernels timed both
ways: there, weights come from further away. The sum becomes a network's time by the ratio of the two in the networks
that the machine was calibrated with.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from effgen.compiler.blocks import kernel_counts
from effgen.compiler.repertoire import kernels_for
from effgen.errors import TuneError
from effgen.graph import Graph
from effgen.kernels.kinds import workload_from_name
from effgen.kernels.workload import Workload
from effgen.machines.abilities import times_kernels_here
from effgen.machines.identity import device_name
from effgen.machines.machine import Machine
from effgen.machines.target import check_target, load_target
from effgen.method.latency.estimate import MIN_KERNELS, Estimator, TimedKernel, fitted_prices
from effgen.method.latency.times import Times, load_times
from effgen.method.latency.work import Work, work_of
from effgen.records.lookup import record_sources
from effgen.records.record import Record
from effgen.runtime.library import prepare_tvm
from effgen.tuning.ledger import measured_here

if TYPE_CHECKING:  # needs TVM
    from effgen.records.choice import Choice

#: Fewer measured kernels say nothing of others.
LEAST_KERNELS = 2 * MIN_KERNELS

Choose = Callable[[Workload], "Choice"]


@dataclass(frozen=True)
class LatencyPrediction:
    """`seconds` of one call of a network of so many `kernels` calls; `measured_share` is the share of them that comes
    from kernels measured as they are, the rest is estimated."""

    seconds: float
    measured_share: float
    kernels: int


@dataclass(frozen=True)
class KernelPrediction:
    """Seconds of one call of a kernel inside a network, and whether they were measured."""

    seconds: float
    measured: bool


class Predictor:
    """Predictions for one machine, from its `times`.

    `choose` says how a kernel would be built; `known` are kernels whose tuning records may say more.
    """

    def __init__(self, machine: Machine, times: Times, choose: Choose, known: Sequence[Workload] = ()) -> None:
        self.machine = machine
        self._times = times
        self._choose = choose
        self._inside = _Correction(times)
        self._overhead = statistics.median([time.seconds / time.kernels_s for time in times.networks] or [1.0])
        self._kernels: dict[Workload, KernelPrediction] = {}
        samples = list(self._samples(known))
        if len(samples) < LEAST_KERNELS:
            raise TuneError(nothing_known(machine, len(samples)))
        self._estimator = Estimator(samples)

    def predict(self, graph: Graph) -> LatencyPrediction:
        """Of a network with or without folded batch norms. Operators without a kernel of effgen's own count nothing."""
        counts = kernel_counts(graph, kernels_for(self.machine))
        found = [(self.kernel(workload), count) for workload, count in counts.items()]
        total = sum(kernel.seconds * count for kernel, count in found)
        measured = sum(kernel.seconds * count for kernel, count in found if kernel.measured)
        return LatencyPrediction(total * self._overhead, measured / total if total else 0.0, sum(counts.values()))

    def kernel(self, workload: Workload) -> KernelPrediction:
        """Of one call inside a network."""
        workload = workload.without_ahead
        if workload not in self._kernels:
            choice = self._choose(workload)
            work = work_of(workload, self.machine, choice.cycles)
            seconds = self._measured(workload, choice, work)
            estimated = self._estimator.seconds(work) if seconds is None else seconds
            self._kernels[workload] = KernelPrediction(estimated, seconds is not None)
        return self._kernels[workload]

    def _measured(self, workload: Workload, choice: Choice, work: Work) -> float | None:
        """Seconds inside a network: timed there; else timed alone, by this table or by the tuner."""
        inside = self._times.seconds("network", workload.name, choice.decisions)
        if inside is not None:
            return inside
        alone = self._times.seconds("alone", workload.name, choice.decisions)
        alone = recorded_seconds(choice, self.machine) if alone is None else alone
        return None if alone is None else self._inside.seconds(alone, work)

    def _samples(self, known: Sequence[Workload]) -> Iterator[TimedKernel]:
        timed: set[str] = set()
        for time in self._times.kernels("network"):
            timed.add(time.kernel)
            yield TimedKernel(time.work, time.seconds)
        for time in self._times.kernels("alone"):
            if time.kernel not in timed:
                timed.add(time.kernel)
                yield TimedKernel(time.work, self._inside.seconds(time.seconds, time.work))
        for workload in known:
            if workload.name not in timed:
                choice = self._choose(workload)
                seconds = recorded_seconds(choice, self.machine)
                work = work_of(workload, self.machine, choice.cycles)
                if seconds is not None:
                    yield TimedKernel(work, self._inside.seconds(seconds, work))


class _Correction:
    """From a kernel's time by itself to its time inside a network, fitted to the kernels timed both ways."""

    def __init__(self, times: Times) -> None:
        both = [(time, times.seconds("alone", time.kernel, time.decisions)) for time in times.kernels("network")]
        pairs = [(time, alone) for time, alone in both if alone is not None]
        self._prices = np.array([1.0, 0.0, 0.0, 0.0])
        if len(pairs) >= MIN_KERNELS:
            amounts = np.array([_amounts(alone, time.work) for time, alone in pairs])
            self._prices = fitted_prices(amounts, np.array([time.seconds for time, _ in pairs]))

    def seconds(self, alone: float, work: Work) -> float:
        return float(np.array(_amounts(alone, work)) @ self._prices)


def _amounts(alone: float, work: Work) -> tuple[float, ...]:
    return alone, work.weight_bytes, work.far_bytes, 1.0


def recorded_seconds(choice: Choice, machine: Machine) -> float | None:
    """What the tuner measured of a kernel built so, on this very machine and number of cores; None where it did not.

    Only the user's own records say that: those that ship were measured elsewhere, whatever target they are for.
    """
    record = choice.measured
    return record.seconds if record is not None and _is_of(record, machine) else None


def _is_of(record: Record, machine: Machine) -> bool:
    """Whether one of the user's own records is a measurement of the machine, not of another that fits its target."""
    if not measured_here(record, machine):
        return False
    return not (record.device and times_kernels_here(machine)) or record.device == _this_device()


@cache
def _this_device() -> str:
    return device_name()


def open_predictor(target: str = "cpu", threads: int | None = None, database: Path | None = None) -> Predictor:
    """The predictor for a target with `threads` (None: all that it has), from the table and the tuning records of
    `database` (None: the user's own). Of what ships it has the schedules, not the times.

    Raises TargetError for an unknown target, TuneError where nothing is known of the machine.
    """
    machine = machine_of(target, threads)
    from effgen.records.choice import KernelChoices

    choices = KernelChoices(machine, database)
    return Predictor(machine, load_times(machine, database), choices.choice, recorded_workloads(machine, database))


def machine_of(target: str, threads: int | None) -> Machine:
    """The target with so many threads. Raises TargetError, or TuneError for a number that makes no sense."""
    check_target(target)
    if threads is not None and not 1 <= threads <= 1024:
        raise TuneError(f"--threads {threads}: expected from 1 to 1024")
    prepare_tvm()  # which detection of this machine loads
    return load_target(target).with_threads(threads)


def recorded_workloads(machine: Machine, database: Path | None = None) -> list[Workload]:
    """The kernels of which the user has a record of this very machine."""
    names = dict.fromkeys(
        record.kernel
        for source in record_sources(machine, database)
        for record in source.records
        if source.own and record.status == "ok" and _is_of(record, machine)
    )
    return [workload for name in names if (workload := workload_from_name(name)) is not None]


def nothing_known(machine: Machine, known: int) -> str:
    """The one line for a machine of which too little was measured."""
    return (
        f"--target {machine.name}: {known} kernels are measured of {machine.processor} with {machine.threads} threads, "
        f"expected {LEAST_KERNELS} or more to predict a latency from; calibrate it where effgen runs on it, or measure "
        f"there with effgen tune --target {machine.name} (docs/tuning.md)"
    )
