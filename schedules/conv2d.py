"""Dense windows: `effgen.kernels.window`. A stem that no depthwise convolution follows, 3x3 layers, strided 1x1.

The register tile comes from shape and registers. Many bands fetch the weights more often and copy shared rows twice,
many chunks copy the band more often; there must be enough of both for the cores, and the band must stay near.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product

from effgen.kernels import tiles
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.packing import bias_shape
from effgen.kernels.window import Geometry, WindowPlan, window_primfunc
from effgen.machines.machine import Cpu
from effgen.schedules.common import bands_for, depth_axis, rule
from effgen.schedules.space import Decisions, Space

# What is shared out, and how; tried with so many of the best register tiles.
_SHARES = ("bands", "chunks", "copied")
_TILES_TRIED = 8


@rule(Conv2d, "conv2d")
def space(workload: Conv2d, machine: Cpu) -> Space:
    """The rule: convolutions of one group that are no plain matrix product."""
    axes = _axes(workload, machine)
    return Space(
        rule="conv2d",
        axes=axes,
        default=_default(workload, machine, axes),
        build=lambda decisions: window_primfunc(workload, machine, _plan(workload, decisions)),
        admits=partial(_admits, workload, machine),
        cycles=partial(_cost, workload, machine),
    )


def _axes(workload: Conv2d, machine: Cpu) -> dict[str, tuple[int, ...]]:
    blocks = bias_shape(workload, machine)[0]
    most = workload.out_width * workload.out_height if workload.kernel == (1, 1) else workload.out_width
    columns = range(1, min(most, machine.vector_registers) + 1)
    widths = tuple(n for n in range(1, blocks + 1) if tiles.fits_registers(1, n, machine))
    axes = {
        "bands": tuple(sorted({*bands_for(workload.out_height, machine), workload.out_height})),
        "columns": tuple(n for n in columns if tiles.fits_registers(n, 1, machine)),
        "vectors": widths,
        "chunks": tuple(sorted({*bands_for(blocks, machine), *(tiles.blocks(blocks, n) for n in widths)})),
        "slice": _slices(workload, machine),
        "copied": (1,) if any(workload.padding) else (0, 1),
        "prefetch": (0, 1),
    }
    return axes | (depth_axis(workload, machine) if workload.data_layout == "NHWC" else {})


def _slices(workload: Conv2d, machine: Cpu) -> tuple[int, ...]:
    """All channels, and what divides them into whole vectors."""
    channels = workload.in_channels
    shorter = (n for n in tiles.divisors(channels) if n % machine.lanes == 0)
    return tuple(sorted({*shorter, channels}))


def _admits(workload: Conv2d, machine: Cpu, decisions: Decisions) -> bool:
    columns, vectors = decisions["columns"], decisions["vectors"]
    if not tiles.fits_registers(columns, vectors, machine, decisions.get("depth", 1)):
        return False
    if decisions["chunks"] > tiles.blocks(bias_shape(workload, machine)[0], vectors):
        return False
    return columns <= _geometry(workload, decisions).lines[1]


def _geometry(workload: Conv2d, decisions: Decisions) -> Geometry:
    rows = tiles.blocks(workload.out_height, decisions["bands"])
    return Geometry(workload, rows, bool(decisions["copied"]))


def _plan(workload: Conv2d, decisions: Decisions) -> WindowPlan:
    return WindowPlan(
        rows=tiles.blocks(workload.out_height, decisions["bands"]),
        columns=decisions["columns"],
        vectors=decisions["vectors"],
        chunks=decisions["chunks"],
        slice=decisions["slice"],
        depth=decisions.get("depth", 1),
        copied=bool(decisions["copied"]),
        prefetch=bool(decisions["prefetch"]),
    )


def _default(workload: Conv2d, machine: Cpu, axes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Everything of least estimated time but the slice, which the caches decide."""
    fixed = {"depth": max(axes["depth"])} if "depth" in axes else {}
    fixed |= {"prefetch": int(_sliced(workload, machine))}
    tiles_of = (
        fixed | {"columns": columns, "vectors": vectors}
        for columns, vectors in product(axes["columns"], axes["vectors"])
        if tiles.fits_registers(columns, vectors, machine, fixed.get("depth", 1))
    )
    best_tiles = sorted(tiles_of, key=partial(_image_cycles, workload, machine))[:_TILES_TRIED]
    shares = [dict(zip(_SHARES, values, strict=True)) for values in product(*(axes[name] for name in _SHARES))]
    # A slice of an image that is not copied would be a few floats here and there.
    shares = [share for share in shares if share["copied"] or not fixed["prefetch"]]
    points = (tile | share for tile in best_tiles for share in shares)
    best = min((p for p in points if _admits(workload, machine, p)), key=partial(_cost, workload, machine))
    return best | {"slice": _near_slice(workload, machine, axes["slice"], best["vectors"])}


def _image_cycles(workload: Conv2d, machine: Cpu, tile: Decisions) -> float:
    """Estimated cycles of the tiles of a whole image, in rows as they are or, strided 1x1, in one run."""
    blocks, (_, height, width, _) = bias_shape(workload, machine)[0], workload.out_shape
    lines, positions = (1, height * width) if workload.kernel == (1, 1) else (height, width)
    count = lines * tiles.blocks(positions, tile["columns"]) * tiles.blocks(blocks, tile["vectors"])
    return count * _tile_cycles(workload, machine, tile)


def _tile_cycles(workload: Conv2d, machine: Cpu, tile: Decisions) -> float:
    half, at_once = bias_shape(workload, machine)[1] < machine.lanes, tile.get("depth", 1)
    costs = machine.costs
    depth = workload.in_channels * workload.kernel[0] * workload.kernel[1]
    columns, vectors = tile["columns"], tile["vectors"]
    # As many loads start in a cycle as multiply-adds: a tile of few vectors waits for them.
    waiting = max(0.0, costs.window_loads * (columns + vectors) - columns * vectors)
    further = costs.window_operand * columns + costs.window_weight * vectors + waiting
    return tiles.tile_cycles(columns, vectors, depth, workload.activation, costs, half, at_once) + depth * further


def _near_slice(workload: Conv2d, machine: Cpu, choices: tuple[int, ...], vectors: int) -> int:
    """The most channels whose weights stay in the second-level cache from tile to tile. Where shorter slices pay, those
    whose weights leave half of the nearest cache to the image: what comes from memory is asked for by way of that
    cache's own buffers, and those must not be busy with the second level's weights."""
    taps, lanes = workload.kernel[0] * workload.kernel[1], bias_shape(workload, machine)[1]
    most = machine.l1_bytes // 2 if _sliced(workload, machine) else machine.l2_bytes
    return max((n for n in choices if 4 * n * taps * vectors * lanes < most), default=min(choices))


def _sliced(workload: Conv2d, machine: Cpu) -> bool:
    """Whether slices that stay in the nearest cache pay, and asking for the next one ahead."""
    return machine.costs.window_slices and _from_memory(workload, machine)


def _from_memory(workload: Conv2d, machine: Cpu) -> bool:
    """Whether the weights come from beyond the second-level cache and that shows: they do not fit, or few rows use
    what the rest of the network has driven out."""
    blocks, lanes = bias_shape(workload, machine)
    size = 4 * blocks * lanes * workload.in_channels * workload.kernel[0] * workload.kernel[1]
    few = workload.rows // workload.batch < machine.costs.hiding_rows
    return size > machine.l2_bytes // (16 if few else 2)


def _cost(workload: Conv2d, machine: Cpu, decisions: Decisions) -> float:
    """Estimated cycles of the busiest core."""
    (blocks, lanes), vectors, costs = bias_shape(workload, machine), decisions["vectors"], machine.costs
    geometry = _geometry(workload, decisions)
    lines, positions = geometry.lines
    vector_tiles = tiles.blocks(blocks, vectors)
    per_chunk = tiles.blocks(vector_tiles, decisions["chunks"])
    bands = tiles.blocks(workload.out_height, geometry.rows)
    tasks = workload.batch * tiles.blocks(vector_tiles, per_chunk) * bands
    tiles_of_panel = lines * tiles.blocks(positions, decisions["columns"])
    depth = workload.in_channels * workload.kernel[0] * workload.kernel[1]
    cycles = _tile_cycles(workload, machine, decisions)
    panel = depth * vectors * lanes * 4 / machine.vector_bytes
    band = geometry.bytes / machine.vector_bytes
    near = geometry.bytes <= machine.l2_bytes // 2
    # A panel comes again for every tile, the band for every panel; all weights of a chunk once.
    levels, prices = (machine.l1_bytes // 2, machine.l2_bytes // 2), (0.0, costs.panel_second, costs.panel_beyond)
    fetched = panel * tiles.level_price(4 * panel * machine.lanes, levels, prices) * tiles_of_panel
    read = band * (costs.panel_second if near else costs.image_beyond)
    stays = bands == 1 or per_chunk * panel * machine.vector_bytes <= machine.l2_bytes // 2
    once = panel if stays else costs.panel_beyond * panel
    task = per_chunk * (tiles_of_panel * cycles + fetched + read + once) + 200
    if decisions["copied"]:
        task += tiles.copy_cycles(geometry.bytes, machine)
    return tiles.turns(tasks, machine) * task
