"""Which tensors of a Graph hold whole-number codes, and parameters that are stored as such."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effgen.graph.ops import CODES, MOVES, Shape

#: Operators whose output holds codes where their first input does: they choose among numbers and compute none.
CARRIERS = frozenset(MOVES) | {"Clip", "Identity", "Max", "MaxPool", "Min", "Pad", "Relu"}


#: Types of codes that parameters are stored as; biases have to be sums of products of others.
STORED = {**CODES, "int32": (-(2**31), 2**31 - 1)}


@dataclass(frozen=True)
class Grid:
    """What a parameter's numbers are multiples of: (code - zero_point) * scale, `type` that of its codes.

    One scale for all, or one for each of `axis`, along which there are as many.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int
    type: str

    def codes_of(self, array: NDArray[np.float32]) -> NDArray[np.int32] | None:
        """The codes whose numbers these are, exactly; None where they are no such numbers any more."""
        scale, zero = (spread(values, self.axis, array.shape) for values in (self.scale, self.zero_point))
        with np.errstate(invalid="ignore", over="ignore"):
            steps = np.rint(array / scale)
        low, high = STORED[self.type]
        codes = steps + zero
        if not ((codes >= low) & (codes <= high)).all():
            return None
        again = steps.astype(np.float32) * scale.astype(np.float32)
        return codes.astype(np.int32) if np.array_equal(again, array) else None


def spread(values: Iterable[float], axis: int, shape: Shape) -> NDArray[np.float64]:
    """Numbers of an axis, or one for all, to be computed with beside a tensor of this shape."""
    found = np.array(tuple(values), np.float64)
    return found.reshape([-1 if each == axis and found.size > 1 else 1 for each in range(len(shape))])
