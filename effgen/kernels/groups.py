"""How vectors lie over the output channels of a convolution in groups. Plain arithmetic.

    wide groups      vectors lie inside a group; where they leave a rest the last one is moved back until it fits
    narrow groups    a vector lies across several groups; the last one of all is moved back

Channels that two vectors share are computed twice, with equal values. No lane is without a channel, but on a GPU, whose
one vector of all channels is filled up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from effgen.machines.machine import Cpu, Gpu, Machine

#: Half registers of fewer lanes leave too much of a multiply-add unused.
_WORTH_HALVING = 16


@dataclass(frozen=True)
class GroupVectors:
    """Vectors of `lanes` channels over `channels` output channels in groups of `width`."""

    channels: int
    width: int
    lanes: int

    @property
    def wide(self) -> bool:
        """Whether each vector lies inside one group."""
        return self.lanes <= self.width

    @property
    def per_group(self) -> int:
        """Vectors of a wide group."""
        return -(-self.width // self.lanes)

    @property
    def count(self) -> int:
        """All of them."""
        return self.channels // self.width * self.per_group if self.wide else -(-self.channels // self.lanes)

    @property
    def starts(self) -> tuple[int, ...]:
        """The first channel of each vector."""
        if not self.wide:
            return tuple(max(0, min(v * self.lanes, self.channels - self.lanes)) for v in range(self.count))
        inside = [min(v * self.lanes, self.width - self.lanes) for v in range(self.per_group)]
        return tuple(first + start for first in range(0, self.channels, self.width) for start in inside)

    @property
    def indices(self) -> NDArray[np.intp]:
        """The channel of each lane: [vectors][lanes]; beyond the channels where a lane only fills up."""
        return np.add.outer(np.array(self.starts, np.intp), np.arange(self.lanes))


def group_vectors(channels: int, width: int, machine: Machine) -> GroupVectors:
    """The vectors that a machine covers `channels` output channels in groups of `width` with."""
    match machine:
        case Cpu():
            return GroupVectors(channels, width, _lanes(channels, width, machine))
        case Gpu():
            return GroupVectors(channels, width, machine.lanes_of(channels))
        case _:
            assert_never(machine)


def _lanes(channels: int, width: int, machine: Cpu) -> int:
    halves = machine.lanes >= _WORTH_HALVING
    if width >= machine.lanes:
        return machine.lanes_of(width) if halves else machine.lanes
    if halves and width >= machine.lanes // 2:
        return machine.lanes // 2
    return min(machine.lanes, channels)
