"""A tuning record: one candidate's outcome on one machine, and the line of JSON that holds it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # a Space needs TVM
    from effgen.machines.target import Machine


Status = Literal["ok", "wrong", "crashed", "timeout", "build_error"]


STATUSES: tuple[Status, ...] = ("ok", "wrong", "crashed", "timeout", "build_error")


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


@dataclass(frozen=True)
class Record:
    """One candidate's outcome.

    `seconds` is the time of a call where the status is ok (`effgen.measure.carried.timing`). Candidates of a kernel are
    timed in turn with the best one known, and `seconds` is that one's times the measured ratio: so the records of a
    kernel compare among themselves although a machine is faster today than tomorrow. `kept` marks those that were the
    best known when they were measured, better than the one before beyond the noise; only they are ever chosen. `device`
    is what the machine calls itself; lines of earlier versions lack it.
    """

    kernel: str
    rule: str
    decisions: Mapping[str, int]
    status: Status
    cores: int
    mcpu: str
    lanes: int
    seconds: float | None = None
    kept: bool = False
    error: str = ""
    tvm: str = ""
    date: str = ""
    device: str = ""

    @property
    def machine(self) -> MachineKey:
        """Where it was measured."""
        return MachineKey(self.mcpu, self.lanes)

    @property
    def chosen(self) -> bool:
        """Whether it may be chosen for a kernel."""
        return self.kept and self.status == "ok"

    @property
    def line(self) -> str:
        """The record as one line of JSON, without the line's end."""
        return json.dumps(asdict(self) | {"decisions": dict(self.decisions)}, sort_keys=False, allow_nan=False)


def record_from_line(line: str | bytes) -> Record | None:
    """The record that a line of a database holds; None where it holds none: torn, foreign, or not of this version."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not _well_formed(data):
        return None
    return Record(**data)


def _well_formed(data: dict[str, Any]) -> bool:
    known = {item.name: item for item in fields(Record)}
    required = ("kernel", "rule", "decisions", "status", "cores", "mcpu", "lanes")
    texts = ("kernel", "rule", "status", "mcpu", "error", "tvm", "date", "device")
    if not data.keys() <= known.keys() or not all(name in data for name in required):
        return False
    if not all(isinstance(data.get(name, ""), str) for name in texts) or data["status"] not in STATUSES:
        return False
    if not (_is_int(data["cores"]) and _is_int(data["lanes"]) and isinstance(data.get("kept", False), bool)):
        return False
    decisions = data["decisions"]
    if not isinstance(decisions, dict) or not all(_is_int(value) for value in decisions.values()):
        return False
    seconds = data.get("seconds")
    if data["status"] != "ok":
        return seconds is None
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < math.inf


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
