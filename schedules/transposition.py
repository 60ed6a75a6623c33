"""What moves the fastest axis, an image that leaves the network as NCHW say: by tiles, so that every cache line that is
read or written is done with at once.

    for others, tiles of pixels, tiles of channels in parallel: for channel in tile: for pixel vectors: out = data

Row by row each line would be fetched once for every number in it, from memory where the image is large.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tvm.s_tir import Schedule
from tvm.tirx import IntImm

from effgen.machines.machine import Cpu
from effgen.schedules.common import DATA_PARALLEL, Handle, split, worth_a_launch

#: Pixels and channels of a tile: as many floats as a cache line of 64 bytes holds.
_TILE = 16
#: Below so many pixels or channels a line is used up soon anyway.
_WORTH_A_TILE = 4


def is_transposition(schedule: Schedule, name: str) -> bool:
    """Whether the block of this name reads something along another axis than it writes."""
    return _axes(schedule, schedule.get_sblock(name)) is not None


def tile(schedule: Schedule, name: str, machine: Cpu) -> None:
    """Schedule the block of this name, which is a transposition."""
    block = schedule.get_sblock(name)
    axes = _axes(schedule, block)
    assert axes is not None
    channel, pixels = axes
    loops = list(schedule.get_loops(block))
    others = [loop for axis, loop in enumerate(loops) if axis != channel and axis not in pixels]
    pixel = schedule.fuse(*(loops[axis] for axis in pixels)) if len(pixels) > 1 else loops[pixels[0]]
    count, lanes = _extent(schedule, pixel), machine.lanes
    work = count * prod(_extent(schedule, loop) for loop in (loops[channel], *others))
    pixel_tile = _tile_of(count)
    outer_pixel, inner_pixel = split(schedule, pixel, pixel_tile)
    outer_channel, inner_channel = split(schedule, loops[channel], _tile_of(_extent(schedule, loops[channel])))
    schedule.reorder(*others, outer_pixel, outer_channel, inner_channel, inner_pixel)
    outer = schedule.fuse(*others, outer_pixel, outer_channel)
    if worth_a_launch(machine, 0, 8 * work):
        schedule.parallel(outer)
    width = next((width for width in (lanes, lanes // 2) if pixel_tile % width == 0 and count % width == 0), 1)
    if width > 1:
        schedule.vectorize(split(schedule, inner_pixel, width)[1])


def _tile_of(extent: int) -> int:
    """The largest tile without a rest, where it is not much smaller than what is wanted; else with one."""
    even = max(size for size in range(1, min(_TILE, extent) + 1) if extent % size == 0)
    return even if 2 * even > min(_TILE, extent) else min(_TILE, extent)


def _extent(schedule: Schedule, loop: Handle) -> int:
    return int(schedule.get(loop).extent)


def _axes(schedule: Schedule, block: Handle) -> tuple[int, list[int]] | None:
    """The axis of the block that is the fastest of what it reads, and those at its end that run in the same order in
    what it reads as in what it writes; None where that is one axis, or few are moved."""
    statement, loops = schedule.get(block), schedule.get_loops(block)
    variables = [variable.var for variable in statement.iter_vars]
    fixed = all(isinstance(schedule.get(loop).extent, IntImm) for loop in loops)
    kinds = {variable.iter_type for variable in statement.iter_vars}
    if len(variables) != len(loops) or not fixed or kinds != {DATA_PARALLEL} or len(statement.writes) != 1:
        return None
    if _order(statement.writes[0], variables) != list(range(len(variables))):
        return None
    for read in statement.reads:
        order = _order(read, variables)
        if order is not None and len(order) == len(variables) and order[-1] != len(variables) - 1:
            channel, pixels = order[-1], _run_at_end(order)
            extents = [_extent(schedule, loop) for loop in loops]
            large = min(extents[channel], prod(extents[axis] for axis in pixels)) >= _WORTH_A_TILE
            return (channel, pixels) if large else None
    return None


def _order(region: Handle, variables: Sequence[Handle]) -> list[int] | None:
    """Which axis of the block each axis of a region is; None where one is something else."""
    found = []
    for axis in region.region:
        place = next((index for index, variable in enumerate(variables) if variable.same_as(axis.min)), None)
        if place is None or place in found:
            return None
        found.append(place)
    return found


def _run_at_end(order: Sequence[int]) -> list[int]:
    """The last axes of the block that stand side by side in `order`, too."""
    run = [len(order) - 1]
    while order.index(run[0]) > 0 and order[order.index(run[0]) - 1] == run[0] - 1:
        run.insert(0, run[0] - 1)
    return run
