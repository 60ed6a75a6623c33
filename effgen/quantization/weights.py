"""The codes of a layer's weights: int8 around zero, with a scale for each output channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from effgen.graph.codes import Grid

#: -128 is left out: with it the sum of two products of int8 does not fit 16 bits.
_GREATEST = 127
#: Parts of the greatest weight that are tried as the greatest code.
_PARTS = np.linspace(1.0, 0.6, 21)
#: A bias as a code of the products' scale has to fit 32 bits, with room for what is summed up.
_MOST_BIAS = 2.0**30


def weight_grid(kernel: NDArray[np.float32], bias: NDArray[np.float32] | None, input_scale: float) -> Grid:
    """Of least squared error for each output channel, `kernel` [out, ...].

    The scale of a channel whose weights are next to nothing is raised until its bias, as others store it (as a whole
    number of `input_scale` times the channel's scale), fits 32 bits: batch norms that switch a channel off leave such.
    """
    flat = kernel.reshape(kernel.shape[0], -1).astype(np.float64)
    greatest = np.abs(flat).max(axis=1)
    least = np.zeros_like(greatest) if bias is None else np.abs(bias.astype(np.float64)) / (_MOST_BIAS * input_scale)
    best, errors = np.ones_like(greatest), np.full_like(greatest, np.inf)
    for part in _PARTS:
        scale = np.maximum(greatest * part / _GREATEST, least).astype(np.float32).astype(np.float64)
        scale[scale == 0] = 1.0
        steps = np.clip(np.rint(flat / scale[:, None]), -_GREATEST, _GREATEST)
        error = ((flat - steps * scale[:, None]) ** 2).sum(axis=1)
        better = error < errors
        best[better], errors[better] = scale[better], error[better]
    return Grid(tuple(map(float, best)), (0,) * len(best), 0, "int8")


def on_grid(kernel: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """The weights as their codes have them."""
    scale = np.array(grid.scale, np.float32).reshape(-1, *[1] * (kernel.ndim - 1))
    steps = np.clip(np.rint(kernel / scale), -_GREATEST, _GREATEST).astype(np.float32)
    numbers: NDArray[np.float32] = steps * scale
    return numbers
