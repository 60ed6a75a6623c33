"""What a machine can do at most, as data: bandwidths by size, and the multiply-add peak."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bandwidth:
    """GB/s (10^9 bytes) at a working set of `working_set` bytes, all threads together.

    `read` sums a buffer up; `update` is a = a / 2 + b, two reads and a write. Nothing is written that was not read,
    so its bytes are the same whether or not the caches fetch a line before they write it.
    """

    level: str
    working_set: int
    read: float
    update: float

    @property
    def best(self) -> float:
        """GB/s of the faster of the two."""
        return max(self.read, self.update)


@dataclass(frozen=True)
class Ceilings:
    """The best that was measured with `threads` threads: float32 GFLOP/s (a multiply-add is two), and GB/s by level."""

    threads: int
    peak_gflops: float
    bandwidths: tuple[Bandwidth, ...]

    def bandwidth(self, level: str) -> float:
        """GB/s of this level, the faster way. KeyError where it was not measured."""
        return {bandwidth.level: bandwidth.best for bandwidth in self.bandwidths}[level]
