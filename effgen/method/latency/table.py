"""The lookup table of measured kernels, completed: what is missing of some networks is measured, kernel by kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from effgen.compiler.blocks import kernel_counts
from effgen.errors import TuneError
from effgen.graph import Graph
from effgen.kernels.workload import Workload
from effgen.machines.abilities import of_this_family
from effgen.machines.machine import Cpu
from effgen.machines.processor import usable_cpus
from effgen.measure.protocol import Setup
from effgen.method.latency.predictor import machine_of, recorded_seconds
from effgen.method.latency.times import (
    KernelFailure,
    KernelSetting,
    KernelTime,
    Times,
    load_times,
    table_path,
    times_file,
)
from effgen.method.latency.work import work_of
from effgen.records.record import Status
from effgen.tuning.ledger import now
from effgen.tuning.request import measured_here_as

if TYPE_CHECKING:  # needs TVM
    from effgen.measure.carried.candidate import Outcome
    from effgen.records.choice import Choice, KernelChoices


@dataclass(frozen=True)
class TableProgress:
    """After a kernel: how many of `total` are done, and what became of it."""

    kernel: str
    done: int
    total: int
    status: Status


OnTableProgress = Callable[[TableProgress], None]


def complete_table(
    graphs: Sequence[Graph],
    target: str = "cpu",
    threads: int | None = None,
    database: Path | None = None,
    on_progress: OnTableProgress = lambda progress: None,
) -> int:
    """Measure the kernels of these networks that neither the table nor the tuning records have; returns how many.

    Each is built as the compiler would build it today and timed alone with cold caches, in a process of its own; it is
    in the table before the next one begins, and Ctrl-C loses none. One process at a time measures: another waits, then
    measures what is still missing. A kernel that fails is left to the estimate; that is in the table as well, and no
    other call tries it again.

    Raises TuneError where kernels of the target cannot be measured on this computer.
    """
    machine = machine_measured_here(target, threads)
    return complete_kernels(_kernels(graphs), machine, database, on_progress)


def missing_kernels(
    graphs: Sequence[Graph], target: str = "cpu", threads: int | None = None, database: Path | None = None
) -> list[Workload]:
    """What `complete_table` would measure now. Raises TuneError as it does."""
    from effgen.records.choice import KernelChoices

    machine = machine_measured_here(target, threads)
    times, choices = load_times(machine, database), KernelChoices(machine, database)
    return [workload for workload in _kernels(graphs) if _is_missing(workload, times, choices)]


def _kernels(graphs: Sequence[Graph]) -> list[Workload]:
    """The kernels of the networks, each once."""
    return [*dict.fromkeys(workload.without_ahead for graph in graphs for workload in kernel_counts(graph))]


def complete_kernels(
    workloads: Sequence[Workload],
    machine: Cpu,
    database: Path | None = None,
    on_progress: OnTableProgress = lambda progress: None,
    alone: bool = False,
) -> int:
    """`complete_table` for some kernels; `alone`: also those that are known from networks or records only."""
    from effgen.records.choice import KernelChoices

    times_file(database).check()
    choices = KernelChoices(machine, database)
    with measuring(database):
        times = load_times(machine, database)
        missing = [workload for workload in workloads if _is_missing(workload, times, choices, alone)]
        return _measure(missing, machine, choices, database, on_progress) if missing else 0


def machine_measured_here(target: str, threads: int | None) -> Cpu:
    """The target, whose kernels this computer can run. Raises TargetError, or TuneError where it cannot."""
    machine = machine_of(target, threads)
    if not of_this_family(machine):
        raise TuneError(
            f"--target {target}: its kernels cannot be measured on this computer; measure there with effgen tune "
            f"--target {target} (docs/tuning.md)"
        )
    most = len(usable_cpus())
    if threads is not None and threads > most:
        raise TuneError(f"--threads {threads}: expected from 1 to {most}, the CPUs that this process may use")
    return measured_here_as(target, machine, threads)


def measuring(database: Path | None) -> FileLock:
    """The lock that whoever measures for this table holds: two at a time would measure each other."""
    return FileLock(f"{table_path(database)}.measuring")


def _is_missing(workload: Workload, times: Times, choices: KernelChoices, alone: bool = False) -> bool:
    choice = choices.choice(workload)
    if times.failed(workload.name, choice.decisions):
        return False
    if times.seconds("alone", workload.name, choice.decisions) is not None:
        return False
    if alone:
        return True
    inside = times.seconds("network", workload.name, choice.decisions)
    return inside is None and recorded_seconds(choice, choices.machine) is None


def _measure(
    missing: Sequence[Workload],
    machine: Cpu,
    choices: KernelChoices,
    database: Path | None,
    on_progress: OnTableProgress,
) -> int:
    from effgen.measure.measurer import Measurer

    file, measured = times_file(database), 0
    with Measurer(Setup(machine)) as measurer:
        for done, workload in enumerate(missing, start=1):
            choice = choices.choice(workload)
            outcome = measurer.measure(workload, choice.decisions)
            file.append_lines(_line(workload, choice, outcome, machine))
            measured += outcome.timing is not None
            on_progress(TableProgress(workload.name, done, len(missing), outcome.status))
    return measured


def _line(workload: Workload, choice: Choice, outcome: Outcome, machine: Cpu) -> str:
    setting, facts = KernelSetting.of(machine), {"device": outcome.device, "date": now()}
    if outcome.timing is None:
        return KernelFailure(workload.name, choice.decisions, outcome.status, outcome.error, setting, **facts).line
    work = work_of(workload, machine, choice.cycles)
    return KernelTime(workload.name, choice.decisions, "alone", outcome.timing.seconds, work, setting, **facts).line
