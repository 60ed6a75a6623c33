"""Between which numbers the codes of a tensor lie.

Of all ranges that are tried, each a part of what was seen, that of least squared error: what lies beyond is cut off,
which pays where it is rare. Zero always has a code of its own, since borders are filled with it. What is seen is
counted, and so the order of the images does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from effgen.graph.codes import Grid
from effgen.graph.ops import CODES

#: Codes of activations: SiLU, ReLU and the like have one long side, which signed codes would waste half of.
ACTIVATIONS = "uint8"

_BINS = 4096
#: Parts of a side that are tried as its end.
_PARTS = np.linspace(1.0, 0.4, 25)


@dataclass
class Extent:
    """The least and the greatest number seen; zero counts as seen."""

    low: float = 0.0
    high: float = 0.0

    def see(self, low: float, high: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)


@dataclass
class Histogram:
    """How often numbers of `extent` were seen, by bins of one width."""

    extent: Extent
    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))

    def see(self, counts: NDArray[np.float64]) -> None:
        """More of them, by the same bins."""
        self.counts = self.counts + counts

    @property
    def centres(self) -> NDArray[np.float64]:
        """Of the bins."""
        edges = np.linspace(self.extent.low, self.extent.high, _BINS + 1)
        return (edges[:-1] + edges[1:]) / 2


def bins() -> int:
    """How many a `Histogram` has."""
    return _BINS


def grid_between(low: float, high: float, kind: str = ACTIVATIONS) -> Grid:
    """Codes of numbers from `low` (at most 0) to `high` (at least 0); zero has a code exactly."""
    least, greatest = CODES[kind]
    scale = np.float32((high - low) / (greatest - least))
    if not scale > 0:  # nothing but zeros was seen
        scale = np.float32(1.0)
    zero = int(np.clip(least - np.rint(low / scale), least, greatest))
    return Grid((float(scale),), (zero,), 0, kind)


def best_grid(seen: Histogram, kind: str = ACTIVATIONS) -> Grid:
    """The codes of least squared error, as the bins tell it."""
    used = seen.counts > 0
    centres, counts = seen.centres[used], seen.counts[used]
    lows = _PARTS * seen.extent.low if seen.extent.low < 0 else np.zeros(1)
    highs = _PARTS * seen.extent.high if seen.extent.high > 0 else np.zeros(1)
    grids = [grid_between(low, high, kind) for low in lows for high in highs]
    return min(grids, key=lambda grid: squared_error(grid, centres, counts))


def squared_error(grid: Grid, values: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """Sum over all numbers of what their code is away from them, squared."""
    least, greatest = CODES[grid.type]
    (scale,), (zero,) = grid.scale, grid.zero_point
    steps = np.clip(np.rint(values / scale), least - zero, greatest - zero)
    return float(np.sum(counts * (values - steps * scale) ** 2))
