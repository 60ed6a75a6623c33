"""A tuning record: one candidate's outcome on one machine, and the line of JSON that holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, PositiveFloat, TypeAdapter, with_config

from effgen.files.lines import read_lines
from effgen.files.strict import STRICT, Int64
from effgen.machines.microarchitecture import UNKNOWN

if TYPE_CHECKING:
    from effgen.machines.machine import Machine


Status = Literal["ok", "wrong", "crashed", "timeout", "build_error"]
STATUSES: tuple[Status, ...] = ("ok", "wrong", "crashed", "timeout", "build_error")

DecisionKey: TypeAlias = frozenset[tuple[str, int]]


@dataclass(frozen=True)
class MachineKey:
    """Machines for which times and decisions are the same: LLVM's name of the processor, or a GPU's architecture, and
    the float32 lanes of a vector."""

    mcpu: str
    lanes: int

    @staticmethod
    def of(machine: Machine) -> MachineKey:
        """The key of a machine."""
        return MachineKey(machine.processor, machine.lanes)


@with_config(STRICT)
@dataclass(frozen=True)
class Record:
    """One candidate's outcome.

    `seconds` is the time of a call where the status is ok (`effgen.measure.carried.timing`). Candidates of a kernel are
    timed in turn with the best one known, and `seconds` is that one's times the measured ratio: so the records of a
    kernel compare among themselves although a machine is faster today than tomorrow. `led` marks those that were the
    best known when they were measured, better than the one before beyond the noise: the search stands on them. `kept`
    marks those that were confirmed to be better than what was chosen before (decision 0018); only they are ever chosen.
    The last line of a candidate is what is known of it. `device` is what the machine calls itself,
    `microarchitecture` what its processor is (`effgen.machines.microarchitecture`); lines of earlier versions lack
    them, and `led`.
    """

    kernel: str
    rule: str
    decisions: Mapping[str, Int64]
    status: Status
    cores: Annotated[Int64, Field(ge=1)]
    mcpu: str
    lanes: Annotated[Int64, Field(ge=1)]
    seconds: PositiveFloat | None = None
    kept: bool = False
    led: bool = False
    error: str = ""
    tvm: str = ""
    date: str = ""
    device: str = ""
    microarchitecture: str = UNKNOWN

    @property
    def machine(self) -> MachineKey:
        """Where it was measured."""
        return MachineKey(self.mcpu, self.lanes)

    def is_of(self, machine: Machine) -> bool:
        """Whether it was measured on such a processor; where nobody says which micro-architecture that, or the
        machine's, is, the other names decide alone."""
        alike = UNKNOWN in (self.microarchitecture, machine.microarchitecture)
        same = alike or self.microarchitecture == machine.microarchitecture
        return same and self.machine == MachineKey.of(machine)

    @property
    def time_s(self) -> float:
        """`seconds` of a record whose status is ok."""
        assert self.seconds is not None, self
        return self.seconds

    @property
    def chosen(self) -> bool:
        """Whether it may be chosen for a kernel."""
        return self.kept and self.status == "ok"

    @property
    def leads(self) -> bool:
        """Whether others are to be compared with it."""
        return (self.led or self.kept) and self.status == "ok"

    @property
    def line(self) -> str:
        """The record as one line of JSON, without the line's end."""
        return json.dumps(asdict(self) | {"decisions": dict(self.decisions)}, sort_keys=False, allow_nan=False)


def _consistent(record: Record) -> Record:
    if (record.status == "ok") != (record.seconds is not None):
        raise ValueError("only ok goes with a time")
    return record


_RECORD = TypeAdapter(Annotated[Record, AfterValidator(_consistent)])


def records_from_text(text: bytes) -> tuple[list[Record], int]:
    """The records among the lines of `text`, and how many of them are no records."""
    return read_lines(_RECORD, text)


def decision_key(decisions: Mapping[str, int]) -> DecisionKey:
    """What dictionaries know decisions by."""
    return frozenset(decisions.items())
