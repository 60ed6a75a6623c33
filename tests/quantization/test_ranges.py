"""Ranges of activations and scales of weights: least error, zero exact, channels that are next to nothing."""

import numpy as np
import pytest
from numpy.typing import NDArray

from effgen.graph.codes import Grid
from effgen.graph.ops import CODES
from effgen.quantization.ranges import Extent, Histogram, best_grid, bins, grid_between, squared_error
from effgen.quantization.weights import on_grid, weight_grid


def histogram(*parts: NDArray[np.float64]) -> Histogram:
    extent = Extent()
    for part in parts:
        extent.see(float(part.min()), float(part.max()))
    found = Histogram(extent)
    for part in parts:
        found.see(np.histogram(part, bins(), (extent.low, extent.high))[0].astype(np.float64))
    return found


def rounded(values: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    low, high = CODES[grid.type]
    (scale,), (zero,) = grid.scale, grid.zero_point
    return (np.clip(np.rint(values / scale) + zero, low, high) - zero) * scale


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-0.28, 11.3), (-3.0, 0.0), (-1e-6, 1e6), (0.0, 0.0)])
def test_zero_has_a_code(low: float, high: float, kind: str) -> None:
    grid = grid_between(low, high, kind)
    least, greatest = CODES[kind]
    assert least <= grid.zero_point[0] <= greatest and grid.scale[0] > 0
    assert rounded(np.zeros(1), grid)[0] == 0.0
    ends = rounded(np.array([low, high]), grid)
    assert np.abs(ends - [low, high]).max() <= grid.scale[0]


def test_what_is_rare_is_cut_off() -> None:
    """One number of a million far out: all others are worth more digits. Evenly spread ones are all kept."""
    values = np.append(np.random.default_rng(0).standard_normal(1_000_000), 60.0)
    seen = histogram(values)
    grid = best_grid(seen)
    whole = grid_between(seen.extent.low, seen.extent.high)
    assert grid.scale[0] < 0.8 * whole.scale[0]
    assert np.square(values - rounded(values, grid)).sum() < 0.8 * np.square(values - rounded(values, whole)).sum()
    even = histogram(np.linspace(-1, 5, 100_000))
    assert best_grid(even).scale[0] == pytest.approx(6 / 255, rel=0.01)


def test_the_estimate_is_the_error() -> None:
    values = np.abs(np.random.default_rng(1).standard_normal(200_000)) * 2
    seen = histogram(values)
    grid = grid_between(0.0, 4.0)
    exact = np.square(values - rounded(values, grid)).sum()
    assert squared_error(grid, seen.centres, seen.counts) == pytest.approx(exact, rel=0.02)


def test_the_order_of_images_does_not_matter() -> None:
    parts = [np.random.default_rng(seed).standard_normal(1000) * (1 + seed) for seed in range(5)]
    assert best_grid(histogram(*parts)) == best_grid(histogram(*parts[::-1]))


def test_weights_have_a_scale_for_each_output_channel() -> None:
    kernel = np.random.default_rng(2).standard_normal((6, 5, 3, 3)).astype(np.float32)
    kernel *= np.float32([1, 1e-3, 50, 1, 1, 1]).reshape(6, 1, 1, 1)
    grid = weight_grid(kernel, None, 0.05)
    stored = on_grid(kernel, grid)
    codes = grid.codes_of(stored)
    assert codes is not None and np.abs(codes).max() == 127 and grid.type == "int8"
    errors = np.linalg.norm((stored - kernel).reshape(6, -1), axis=1) / np.linalg.norm(kernel.reshape(6, -1), axis=1)
    assert errors.max() < 0.01
    at_the_greatest = np.abs(kernel).reshape(6, -1).max(axis=1) / 127
    assert (np.array(grid.scale) <= at_the_greatest * 1.0001).all()


def test_channels_that_are_next_to_nothing() -> None:
    """Their bias fits 32 bits in what others store it in; all zeros have some scale."""
    kernel = np.full((3, 4, 1, 1), 1e-9, np.float32)
    kernel[2] = 0
    bias = np.array([1.0, -0.25, 0.0], np.float32)
    grid = weight_grid(kernel, bias, 6 / 255)
    scale = np.array(grid.scale)
    assert (np.abs(bias / (scale * 6 / 255)) < 2**31).all() and (scale > 0).all()
    assert np.isfinite(on_grid(kernel, grid)).all() and grid.codes_of(on_grid(kernel, grid)) is not None
