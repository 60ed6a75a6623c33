"""How much of a kernel is computed at once in vector registers. Plain arithmetic on shapes and a machine.

A tile that does not divide its extent is not padded: the last tile is moved back until it fits, and what
it shares with its neighbour is computed twice, with the same result (see `effgen.kernels.compute`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from effgen.kernels.workload import Conv2d
from effgen.target import Machine

# A fused multiply-add depends on the one before it for about 4 cycles; two of half the width start per cycle.
_CHAIN = 8
# Threads get 8 MiB of stack on Linux, but a caller of the library may have made its own with less.
_STACK_BYTES = 256 * 1024


@dataclass(frozen=True)
class RegisterTile:
    """`rows` output positions times `vectors` vectors of output channels, accumulated in registers."""

    rows: int
    vectors: int


@dataclass(frozen=True)
class WindowTile:
    """`columns` x `vectors` accumulated in registers, within bands of `rows` output rows.

    The padded input of a band is copied once, just before its outputs are computed.
    """

    rows: int
    columns: int
    vectors: int


def lanes(channels: int, machine: Machine) -> int:
    """Lanes of the vectors that `channels` are cut into: full or half registers, whichever leaves no rest."""
    full = machine.lanes
    fits = (width for width in (full, full // 2) if channels % width == 0)
    return next(fits, full)


def blocks(extent: int, tile: int) -> int:
    """Tiles needed to cover `extent`."""
    return -(-extent // tile)


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def row_tile(workload: Conv2d, machine: Machine) -> RegisterTile:
    """Register tile of a convolution that is a matrix product (pointwise and dense), of least estimated time."""
    vectors = blocks(workload.out_channels, lanes(workload.out_channels, machine))
    rows, depth = workload.rows, workload.in_channels

    def cost(tile: RegisterTile) -> float:
        tiles = blocks(rows, tile.rows) * (vectors // tile.vectors)
        return blocks(tiles, machine.cores) * _tile_cycles(tile, depth)

    return min(_register_tiles(rows, vectors, machine), key=cost)


def window_tile(workload: Conv2d, machine: Machine) -> WindowTile:
    """Register tile and band of a convolution that slides a window (conv2d and depthwise)."""
    if workload.family == "depthwise":
        return _depthwise_tile(workload, machine)
    return _conv2d_tile(workload, machine)


def padded_row_bytes(workload: Conv2d, channels: int) -> int:
    """Bytes of `channels` of one padded row."""
    return ((workload.out_width - 1) * workload.stride[1] + workload.kernel[1]) * channels * 4


def padded_rows(workload: Conv2d, rows: int) -> int:
    """Padded input rows that `rows` output rows read."""
    return (rows - 1) * workload.stride[0] + workload.kernel[0]


def fits_stack(size: int, machine: Machine) -> bool:
    """Whether an array of so many bytes may live on a thread's stack: a share of the cache, and never a lot."""
    return size <= min(machine.l2_bytes // 4, _STACK_BYTES)


def _register_tiles(rows: int, vectors: int, machine: Machine) -> Iterator[RegisterTile]:
    for width in divisors(vectors):
        for height in range(1, rows + 1):
            # Accumulators, one vector of weights each, and one register for the broadcast input; LLVM begins to
            # spill when fewer than four registers are left beside the accumulators.
            accumulators = height * width
            if accumulators + max(width + 1, 4) > machine.vector_registers:
                break
            yield RegisterTile(height, width)


def _tile_cycles(tile: RegisterTile, depth: int) -> float:
    """Estimated cycles of one tile: multiply-adds, what does not hide behind them, and the epilogue."""
    arithmetic = tile.rows * tile.vectors
    step = max(arithmetic, _CHAIN) + 0.15 * (tile.rows + tile.vectors)
    return depth * step + 2 * arithmetic + 20


def _conv2d_tile(workload: Conv2d, machine: Machine) -> WindowTile:
    vectors = blocks(workload.out_channels, lanes(workload.out_channels, machine))
    depth = workload.in_channels * workload.kernel[0] * workload.kernel[1]
    row_bytes = padded_row_bytes(workload, workload.in_channels)

    def columns_cost(tile: RegisterTile) -> float:
        return blocks(workload.out_width, tile.rows) * (vectors // tile.vectors) * _tile_cycles(tile, depth)

    tile = min(_register_tiles(workload.out_width, vectors, machine), key=columns_cost)
    row_cycles = columns_cost(tile)

    def band_cost(rows: int) -> float:
        tasks = workload.batch * blocks(workload.out_height, rows)
        copied = padded_rows(workload, rows) * row_bytes
        return blocks(tasks, machine.cores) * (rows * row_cycles + _copy_cycles(copied, machine))

    return WindowTile(min(range(1, workload.out_height + 1), key=band_cost), tile.rows, tile.vectors)


def _depthwise_tile(workload: Conv2d, machine: Machine) -> WindowTile:
    width = lanes(workload.out_channels, machine)
    vectors = blocks(workload.out_channels, width)
    (kh, kw), sw = workload.kernel, workload.stride[1]

    def columns_cost(columns: int) -> float:
        loads = kh * ((columns - 1) * sw + kw)
        one = kh * kw * max(columns, _CHAIN // 2) + 0.5 * loads + 10
        return blocks(workload.out_width, columns) * one

    # Accumulators beside the taps of one row; what is left holds inputs that several outputs share.
    widest = min(workload.out_width, (machine.vector_registers - kw) * 3 // 4)
    columns = min(range(1, widest + 1), key=columns_cost)

    def band_cost(rows: int) -> float:
        tasks = workload.batch * vectors * blocks(workload.out_height, rows)
        copied = padded_rows(workload, rows) * padded_row_bytes(workload, width)
        return blocks(tasks, machine.cores) * (rows * columns_cost(columns) + _copy_cycles(copied, machine))

    return WindowTile(min(range(1, workload.out_height + 1), key=band_cost), columns, 1)


def _copy_cycles(size: int, machine: Machine) -> float:
    """Estimated cycles of copying `size` bytes and reading them back, dearer where they leave a cache level."""
    price = 1.5 if size <= machine.l1_bytes else 2.5 if size <= machine.l2_bytes // 4 else 8.0
    return 100 + price * size / machine.vector_bytes
