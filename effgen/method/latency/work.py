"""What a kernel has to do, in the few numbers that its time depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from effgen.kernels.workload import EXPONENTIALS, Workload
from effgen.machines.machine import Machine

#: Share of the second-level caches that a kernel's data may take to be found there by the next one.
_STAYS_NEAR = 0.5


@dataclass(frozen=True)
class Work:
    """A call's work.

    `group`: kernels of one group are alike; `half`: its channels come in vectors of half a register, which costs some
    processors as much as whole ones; `cycles`: the schedule rule's own estimate for the busiest core, 0 where it has
    none; `data_bytes` and `weight_bytes` are read or written once, `far_bytes` those of the data where it does not stay
    in the second-level caches; `exponentials`: values that go through an activation with an exponential, many times as
    dear as the others.
    """

    group: str
    half: bool
    cycles: float
    macs: int
    data_bytes: int
    far_bytes: int
    weight_bytes: int
    exponentials: int

    @property
    def amounts(self) -> tuple[float, ...]:
        """What takes time, and 1 for what every call takes. The first two are cycles, of whole and of half vectors."""
        whole, half = (not self.half, self.half)
        computed = (self.cycles * whole, self.cycles * half, self.macs * whole, self.macs * half)
        return (*computed, self.data_bytes, self.far_bytes, self.weight_bytes, self.exponentials, 1.0)

    @property
    def facts(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: object) -> Self | None:
        """The work that `facts` was made of; None for anything else."""
        if not isinstance(facts, dict) or facts.keys() != {item.name for item in fields(cls)}:
            return None
        if not isinstance(facts["group"], str) or not isinstance(facts["half"], bool):
            return None
        amounts = [value for name, value in facts.items() if name not in ("group", "half")]
        return cls(**facts) if all(_is_amount(amount) for amount in amounts) else None


#: No machine does so much in a call: beyond it are lines that nobody measured.
_MOST = 1e30


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST


def work_of(workload: Workload, machine: Machine, cycles: float | None) -> Work:
    """The work of one call of a kernel; `cycles` as estimated for the schedule that it has."""
    data = workload.bytes - workload.weight_bytes
    return Work(
        group=workload.group,
        half=machine.packed_lanes(workload.out_shape[3]) < machine.lanes,
        cycles=cycles or 0.0,
        macs=workload.macs,
        data_bytes=data,
        far_bytes=data if data > machine.second_level_bytes * _STAYS_NEAR else 0,
        weight_bytes=workload.weight_bytes,
        exponentials=workload.activated(*EXPONENTIALS),
    )
