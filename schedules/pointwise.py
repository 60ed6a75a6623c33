"""1x1 convolutions (squeeze-excite's gate may be applied to their input), and dense layers, which are those of one
position an image: `effgen.kernels.matmul`.

The register tile comes from shape and registers. Chunks and bands share the work out: where all of the data stays
in cache and the weights are the larger operand, every core has its own columns and each weight is read once;
elsewhere a chunk of weights stays in the second-level cache while the rows of a band pass by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from effgen.kernels import tiles
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.matmul import MatmulPlan, matmul_primfunc
from effgen.kernels.packing import bias_shape
from effgen.machines.machine import Cpu
from effgen.schedules.common import (
    bands_for,
    bytes_of_weight,
    depth_axis,
    reduction_steps,
    rule,
    worth_a_launch,
    worth_prefetching,
)
from effgen.schedules.space import Decisions, Space


@rule(Conv2d, "pointwise", "dense")
def space(workload: Conv2d, machine: Cpu) -> Space:
    """The rule: pointwise and dense convolutions."""
    axes = _axes(workload, machine)
    return Space(
        rule="pointwise",
        axes=axes,
        default=_default(workload, machine, axes),
        build=lambda decisions: matmul_primfunc(workload, machine, _plan(decisions)),
        admits=partial(_admits, workload, machine),
        cycles=partial(_cycles, workload, machine),
    )


def _rows(workload: Conv2d) -> int:
    """Rows that tiles are made of: a gate differs from image to image."""
    return workload.rows // workload.batch if workload.gated else workload.rows


def _axes(workload: Conv2d, machine: Cpu) -> dict[str, tuple[int, ...]]:
    blocks = bias_shape(workload, machine)[0]
    widths = tuple(n for n in range(1, blocks + 1) if tiles.fits_registers(1, n, machine))
    heights = range(1, min(_rows(workload), machine.vector_registers) + 1)
    rows = tuple(h for h in heights if tiles.fits_registers(h, 1, machine))
    # A band of one tile each where there are fewer tiles than cores.
    single = (tiles.blocks(_rows(workload), h) for h in rows)
    axes = {
        "rows": rows,
        "vectors": widths,
        "chunks": tuple(sorted({*bands_for(blocks, machine), *(tiles.blocks(blocks, n) for n in widths)})),
        "bands": tuple(sorted({*bands_for(_rows(workload), machine), *(n for n in single if n <= machine.cores)})),
        "columns_inside": (0, 1),
        "prefetch": (0, 1),
        "parallel": (0, 1) if workload.family == "dense" else (1,),
    }
    return axes | depth_axis(workload, machine)


def _depth(decisions: Decisions) -> int:
    """Input channels of a row that are loaded at once."""
    return decisions.get("depth", 1)


def _admits(workload: Conv2d, machine: Cpu, decisions: Decisions) -> bool:
    rows, vectors, chunks, bands = (decisions[name] for name in ("rows", "vectors", "chunks", "bands"))
    column_tiles = tiles.blocks(bias_shape(workload, machine)[0], vectors)
    if not tiles.fits_registers(rows, vectors, machine, _depth(decisions)) or chunks > column_tiles:
        return False
    if bands > tiles.blocks(_rows(workload), rows):
        return False
    return not workload.gated or _panel_fits(workload, machine, vectors, tiles.blocks(column_tiles, chunks))


def _panel_fits(workload: Conv2d, machine: Cpu, vectors: int, column_tiles: int = 1) -> bool:
    """Whether the scaled weights of a chunk stay in the second-level cache (one vector must do in any case)."""
    count = vectors * column_tiles
    return count == 1 or _chunk_bytes(workload, machine, count) <= machine.l2_bytes * 3 // 4


def _is_near(workload: Conv2d, machine: Cpu, vectors: int) -> bool:
    """Whether the weights of a column tile stay in the first-level cache while rows pass by."""
    return _chunk_bytes(workload, machine, vectors) <= machine.l1_bytes


def _chunk_bytes(workload: Conv2d, machine: Cpu, vectors: int) -> int:
    return vectors * bias_shape(workload, machine)[1] * workload.in_channels * bytes_of_weight(workload)


def _plan(decisions: Decisions) -> MatmulPlan:
    return MatmulPlan(
        rows=decisions["rows"],
        vectors=decisions["vectors"],
        chunks=decisions["chunks"],
        bands=decisions["bands"],
        depth=_depth(decisions),
        columns_inside=bool(decisions["columns_inside"]),
        prefetch=bool(decisions["prefetch"]),
        parallel=bool(decisions["parallel"]),
    )


def _default(workload: Conv2d, machine: Cpu, axes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Register tile of least estimated time, then the shares of least idle time that suit the caches."""
    depth = max(axes.get("depth", (1,)))
    rows, vectors = _default_tile(workload, machine, axes, depth)
    weight_bytes = workload.input("weight").bytes
    shared = workload.family == "pointwise" or worth_a_launch(machine, workload.macs, weight_bytes)
    fetch = int(worth_prefetching(machine, workload))
    # A weight is asked for while the rows of the panel before it pass by.
    order = {"columns_inside": 1 - fetch, "prefetch": fetch}
    decisions = {"rows": rows, "vectors": vectors, "parallel": int(shared)} | order
    decisions |= {"depth": depth} if "depth" in axes else {}
    choices = [
        decisions | {"chunks": chunks, "bands": bands}
        for chunks in axes["chunks"]
        for bands in axes["bands"]
        if _admits(workload, machine, decisions | {"chunks": chunks, "bands": bands})
    ] or [decisions | {"chunks": tiles.blocks(bias_shape(workload, machine)[0], vectors), "bands": 1}]
    return min(choices, key=partial(_share_cost, workload, machine))


def _default_tile(workload: Conv2d, machine: Cpu, axes: Mapping[str, tuple[int, ...]], depth: int) -> tuple[int, int]:
    (blocks, lanes), rows = bias_shape(workload, machine), _rows(workload)

    def cost(tile: tuple[int, int]) -> float:
        count = tiles.blocks(rows, tile[0]) * tiles.blocks(blocks, tile[1])
        half = lanes < machine.lanes
        near = _is_near(workload, machine, tile[1])
        steps = reduction_steps(workload, machine)
        cycles = tiles.tile_cycles(*tile, steps, workload.activation, machine.costs, half, depth, near)
        return tiles.turns(count, machine) * cycles

    fitting = [(r, v) for v in axes["vectors"] for r in axes["rows"] if tiles.fits_registers(r, v, machine, depth)]
    return min((t for t in fitting if not workload.gated or _panel_fits(workload, machine, t[1])), key=cost)


def _cycles(workload: Conv2d, machine: Cpu, decisions: Decisions) -> float:
    """Estimated cycles of the busiest core, whose tiles wait, unlike in `_share_cost`, for what they load."""
    (blocks, lanes), rows, vectors = bias_shape(workload, machine), decisions["rows"], decisions["vectors"]
    cores = machine.cores if decisions["parallel"] else 1
    tiles_of = tiles.blocks(_rows(workload), rows) * tiles.blocks(blocks, vectors)
    images = workload.batch if workload.gated else 1
    half = lanes < machine.lanes
    depth, at_once = reduction_steps(workload, machine), _depth(decisions)
    near = _is_near(workload, machine, vectors)
    cycles = tiles.tile_cycles(rows, vectors, depth, workload.activation, machine.costs, half, at_once, near)
    gate = machine.costs.gate * _chunk_bytes(workload, machine, blocks) / machine.vector_bytes
    return images * (tiles.blocks(tiles_of, cores) * cycles + (gate if workload.gated else 0.0))


def _share_cost(workload: Conv2d, machine: Cpu, decisions: Decisions) -> tuple[float, int]:
    """Estimated cycles of the busiest core, and the number of tasks to decide between equals."""
    rows, vectors = decisions["rows"], decisions["vectors"]
    row_tiles = tiles.blocks(_rows(workload), rows)
    column_tiles = tiles.blocks(bias_shape(workload, machine)[0], vectors)
    per_band, per_chunk = tiles.blocks(row_tiles, decisions["bands"]), tiles.blocks(column_tiles, decisions["chunks"])
    images = workload.batch if workload.gated else 1
    tasks = images * tiles.blocks(column_tiles, per_chunk) * tiles.blocks(row_tiles, per_band)
    width = per_chunk * vectors
    product = per_band * rows * width * reduction_steps(workload, machine)
    panel = _chunk_bytes(workload, machine, width)
    # Weights are fetched once a task where the chunk stays in cache, else once a row tile.
    fetches = 1 if panel <= machine.l2_bytes // 2 else per_band
    traffic = fetches * panel / machine.vector_bytes
    data = per_band * rows * workload.in_channels * bytes_of_weight(workload) / machine.vector_bytes
    gate = machine.costs.gate * panel / machine.vector_bytes if workload.gated else 0.0
    return tiles.turns(tasks, machine) * (product + traffic + data + gate + 100), tasks
