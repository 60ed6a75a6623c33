"""What a kernel has to do, in the few numbers that its time depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any, Self

from effgen.kernels.workload import Conv2d, ExpandDepthwise, SqueezeExcite, Workload


@dataclass(frozen=True)
class Work:
    """A call's work. `group`: kernels of one group are alike; `cycles`: the schedule rule's own estimate for the busiest
    core, 0 where it has none; bytes read or written once, weights apart."""

    group: str
    cycles: float
    macs: int
    data_bytes: int
    weight_bytes: int
    exponentials: int

    @property
    def amounts(self) -> tuple[float, ...]:
        """What takes time, and 1 for what every call takes."""
        return (self.cycles, self.macs, self.data_bytes, self.weight_bytes, self.exponentials, 1.0)

    @property
    def facts(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: object) -> Self | None:
        """What `facts` gave; None for anything else."""
        names = [item.name for item in fields(cls)]
        if not isinstance(facts, dict) or list(facts) != names or not isinstance(facts["group"], str):
            return None
        numbers = [facts[name] for name in names[1:]]
        if any(isinstance(n, bool) or not isinstance(n, int | float) or not 0 <= n < 1e300 for n in numbers):
            return None
        return cls(**facts)


def work_of(workload: Workload, cycles: float | None) -> Work:
    """The work of one call of a kernel; `cycles` as estimated for the schedule that it has."""
    weights = weight_bytes(workload)
    return Work(_group(workload), cycles or 0.0, workload.macs, workload.bytes - weights, weights, exponentials(workload))


def exponentials(workload: Workload) -> int:
    """Values that go through an activation with an exponential: many times as dear as the others."""
    if isinstance(workload, ExpandDepthwise):
        return exponentials(workload.expand) + exponentials(workload.depthwise)
    if isinstance(workload, Conv2d) and workload.activation in ("silu", "sigmoid"):
        return prod(workload.out_shape)
    return 0


def weight_bytes(workload: Workload) -> int:
    """Bytes of a kernel's weights, biases left out."""
    if isinstance(workload, ExpandDepthwise):
        return weight_bytes(workload.expand) + weight_bytes(workload.depthwise)
    if isinstance(workload, SqueezeExcite):
        return weight_bytes(workload.squeeze) + weight_bytes(workload.excite)
    if isinstance(workload, Conv2d):
        per_output = workload.in_channels // workload.groups * workload.kernel[0] * workload.kernel[1]
        return 4 * workload.out_channels * per_output
    return 0


def _group(workload: Workload) -> str:
    """The family; expansions and stems are groups of their own."""
    if isinstance(workload, ExpandDepthwise):
        return "stem_depthwise" if workload.expand.is_stem else "expand_depthwise"
    if isinstance(workload, Conv2d) and workload.is_stem:
        return "stem"
    if isinstance(workload, Conv2d) and workload.gated:
        return "gated_pointwise"
    return workload.family
