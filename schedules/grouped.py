"""Convolutions in groups: `effgen.kernels.grouped`. Every one that is not depthwise, and dilated depthwise ones.

The register tile comes from shape and registers. Many bands copy shared rows twice; many chunks leave little to each;
there must be enough of both for the cores, and what a band reads must stay near: each group takes its part of the
pixels' cache lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product

from effgen.kernels import tiles
from effgen.kernels.grouped import GroupedPlan, grouped_primfunc, ring_shape
from effgen.kernels.groups import GroupVectors, group_vectors
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.window import Geometry
from effgen.machines.machine import Cpu
from effgen.schedules.common import bands_for, rule
from effgen.schedules.space import Decisions, Space


@rule(Conv2d, "grouped")
def space(workload: Conv2d, machine: Cpu) -> Space:
    """The rule: convolutions in groups."""
    axes = _axes(workload, machine)
    return Space(
        rule="grouped",
        axes=axes,
        default=_default(workload, machine, axes),
        build=lambda decisions: grouped_primfunc(workload, machine, _plan(workload, decisions)),
        admits=partial(_admits, workload, machine),
        cycles=partial(_cost, workload, machine),
    )


def _over(workload: Conv2d, machine: Cpu) -> GroupVectors:
    return group_vectors(workload.out_channels, workload.out_channels // workload.groups, machine)


def _axes(workload: Conv2d, machine: Cpu) -> dict[str, tuple[int, ...]]:
    over, depth = _over(workload, machine), workload.in_channels // workload.groups
    columns = range(1, min(workload.out_width, machine.vector_registers) + 1)
    vectors = tiles.divisors(over.per_group) if over.wide else [1]
    axes = {
        "bands": tuple(sorted({*bands_for(workload.out_height, machine), workload.out_height})),
        "columns": tuple(n for n in columns if tiles.fits_registers(n, 1, machine)),
        "vectors": tuple(n for n in vectors if tiles.fits_registers(1, n, machine)),
        "chunks": tuple(sorted({*bands_for(over.count, machine), *(over.count // n for n in vectors)})),
    }
    by_lane = machine.multiplies_by_lane and over.wide and depth % machine.lanes == 0
    return axes | ({"depth": (1, machine.lanes)} if by_lane else {})


def _admits(workload: Conv2d, machine: Cpu, decisions: Decisions) -> bool:
    vectors = decisions["vectors"]
    if not tiles.fits_registers(decisions["columns"], vectors, machine, decisions.get("depth", 1)):
        return False
    return decisions["chunks"] <= _over(workload, machine).count // vectors


def _plan(workload: Conv2d, decisions: Decisions) -> GroupedPlan:
    return GroupedPlan(
        rows=tiles.blocks(workload.out_height, decisions["bands"]),
        columns=decisions["columns"],
        vectors=decisions["vectors"],
        chunks=decisions["chunks"],
        depth=decisions.get("depth", 1),
    )


def _default(workload: Conv2d, machine: Cpu, axes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Everything of least estimated time."""
    fixed = {"depth": max(axes["depth"])} if "depth" in axes else {}
    tiles_of = (
        fixed | {"columns": columns, "vectors": vectors}
        for columns, vectors in product(axes["columns"], axes["vectors"])
        if tiles.fits_registers(columns, vectors, machine, fixed.get("depth", 1))
    )
    best = min(tiles_of, key=partial(_row_cycles, workload, machine))
    shares = ({"bands": bands, "chunks": chunks} for bands, chunks in product(axes["bands"], axes["chunks"]))
    points = (best | share for share in shares)
    return min((p for p in points if _admits(workload, machine, p)), key=partial(_cost, workload, machine))


def _row_cycles(workload: Conv2d, machine: Cpu, decisions: Decisions) -> float:
    """Estimated cycles of all channels of one output row, its input copied."""
    over, (columns, vectors) = _over(workload, machine), (decisions["columns"], decisions["vectors"])
    count = tiles.blocks(workload.out_width, columns) * (over.count // vectors)
    depth = workload.in_channels // workload.groups * workload.kernel[0] * workload.kernel[1]
    half, at_once = over.lanes < machine.lanes, decisions.get("depth", 1)
    return count * tiles.tile_cycles(columns, vectors, depth, workload.activation, machine.costs, half, at_once)


def _copied_row_cycles(workload: Conv2d, machine: Cpu) -> float:
    """Estimated cycles of one row of a vector tile's ring."""
    _, width, floats = ring_shape(workload, machine)
    return width * (machine.costs.image + machine.costs.copy_first * tiles.blocks(floats, machine.lanes))


def _cost(workload: Conv2d, machine: Cpu, decisions: Decisions) -> float:
    """Estimated cycles of the busiest core."""
    over, vectors, costs = _over(workload, machine), decisions["vectors"], machine.costs
    rows = tiles.blocks(workload.out_height, decisions["bands"])
    vector_tiles = over.count // vectors
    per_chunk = tiles.blocks(vector_tiles, decisions["chunks"])
    tasks = workload.batch * tiles.blocks(vector_tiles, per_chunk) * tiles.blocks(workload.out_height, rows)
    share = per_chunk / vector_tiles
    geometry = Geometry(workload, rows, copied=True)
    copied = per_chunk * geometry.height * _copied_row_cycles(workload, machine)
    # Beyond the near caches every group fetches whole lines for its part of them.
    read = geometry.height * geometry.width * workload.in_channels * 4 * share
    if read > machine.l2_bytes // 2:
        copied += costs.image * costs.ring_beyond * per_chunk * geometry.height * geometry.width
    return tiles.turns(tasks, machine) * (share * rows * _row_cycles(workload, machine, decisions) + copied + 200)
