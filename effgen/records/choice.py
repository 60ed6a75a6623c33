"""Which schedule each kernel gets: a tuning record, else its rule's default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tvm.tirx import PrimFunc

from effgen.kernels.operator import operator_of
from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu, Machine
from effgen.records.lookup import find_record, record_sources
from effgen.records.record import Record
from effgen.schedules import kernel_from_workload, schedule_operator, space_of
from effgen.schedules.space import TRACE, Decisions, Space


@dataclass(frozen=True)
class Choice:
    """Where a schedule comes from, as the manifest prints it, and its decisions.

    `cycles` is the rule's estimate of them, where it has one; `record` is the record that they come from, `own` whether
    that is of the user's database.
    """

    source: str
    decisions: Decisions
    cycles: float | None = None
    record: Record | None = None
    own: bool = False


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
        if workload is None or choice is None or choice.record is None:
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
        if found is None:
            return Choice(f"rule:{space.rule}", space.default, _cycles(space, space.default))
        record, source = found
        return Choice(f"record:{source.name}", record.decisions, _cycles(space, record.decisions), record, source.own)


def _cycles(space: Space, decisions: Decisions) -> float | None:
    return None if space.cycles is None or TRACE in decisions else space.cycles(decisions)
