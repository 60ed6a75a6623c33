"""Which schedule each kernel gets: a tuning record, else its rule's default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tvm.tirx import PrimFunc

from effgen.kernels.operator import operator_of
from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu, Machine
from effgen.records.lookup import find_record, measured_record, record_sources
from effgen.records.record import Record
from effgen.schedules import kernel_from_workload, schedule_operator, space_of
from effgen.schedules.space import TRACE, Decisions, Space


@dataclass(frozen=True)
class Choice:
    """Where a schedule comes from, as the manifest prints it, and its decisions.

    `cycles` is the rule's estimate of them, where it has one; `measured` is what the user's database says of them on
    this machine.
    """

    source: str
    decisions: Decisions
    cycles: float | None = None
    measured: Record | None = None

    @property
    def recorded(self) -> bool:
        """Whether a tuning record was taken, not the rule's default."""
        return self.source.startswith("record:")


class KernelChoices:
    """Chooses once for each workload and remembers. `database`: the user's records; None: where they are by default."""

    def __init__(self, machine: Machine, database: Path | None = None) -> None:
        self.machine = machine
        self._sources = record_sources(machine, database)
        self._choices: dict[Workload, Choice] = {}
        self.operators: dict[str, Choice] = {}

    def choice(self, workload: Workload) -> Choice:
        """What was or will be built for `workload`, whatever it asks for ahead."""
        workload = workload.without_ahead
        if workload not in self._choices:
            self._choices[workload] = self._choose(workload)
        return self._choices[workload]

    def kernel(self, workload: Workload) -> PrimFunc:
        """The scheduled kernel."""
        return kernel_from_workload(workload, self.machine, self.choice(workload).decisions)

    def operator(self, name: str, function: PrimFunc) -> PrimFunc:
        """The function called `name`, which no rule knows, scheduled: by a record of MetaSchedule's, else the fallback;
        `operators` has what was chosen."""
        workload = operator_of(function, name) if isinstance(self.machine, Cpu) else None
        choice = None if workload is None else self.choice(workload)
        if workload is None or choice is None or not choice.recorded:
            return schedule_operator(function, self.machine)
        self.operators[name] = choice
        scheduled = kernel_from_workload(workload, self.machine, choice.decisions)
        if "global_symbol" in function.attrs:
            return scheduled.with_attr("global_symbol", function.attrs["global_symbol"])
        return scheduled.without_attr("global_symbol")

    def _choose(self, workload: Workload) -> Choice:
        space = space_of(workload, self.machine)
        assert space is not None, workload
        found = find_record(workload, self.machine, space, self._sources)
        source = f"rule:{space.rule}" if found is None else f"record:{found[1].name}"
        decisions = space.default if found is None else found[0].decisions
        measured = measured_record(workload, self.machine, space, decisions, self._sources)
        return Choice(source, decisions, _cycles(space, decisions), measured)


def _cycles(space: Space, decisions: Decisions) -> float | None:
    return None if space.cycles is None or TRACE in decisions else space.cycles(decisions)
