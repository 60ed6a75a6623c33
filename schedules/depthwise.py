"""Depthwise convolutions, with the expansion before them and the row sums after them: `effgen.kernels.depthwise`.

A task is a band of rows of a group of channel vectors. Few bands repeat fewer rows; small groups read the input of
an expansion more often; there must be enough tasks for the cores, and the ring must stay near.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product
from math import prod

from effgen.kernels import tiles
from effgen.kernels.depthwise import BandPlan, depthwise_primfunc, is_apart, mixed_depthwise_primfunc, ring_bytes
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.mixed_depthwise import MixedDepthwise
from effgen.kernels.packing import bias_shape
from effgen.kernels.stem import window_shape
from effgen.kernels.workload import Activation, is_exponential
from effgen.machines.machine import Cpu
from effgen.machines.target_file import Costs
from effgen.schedules.common import bands_for, depth_axis, reduction_steps, rule, worth_prefetching
from effgen.schedules.space import Decisions, Space

_CACHE_LINE = 64


@rule(ExpandDepthwise)
def expanded(workload: ExpandDepthwise, machine: Cpu) -> Space:
    """The rule: depthwise convolutions, expanded by the kernel."""
    return _space(workload, workload.expand, workload.depthwise, machine)


@rule(Conv2d, "depthwise")
def space(workload: Conv2d, machine: Cpu) -> Space:
    """The rule: depthwise convolutions."""
    return _space(workload, None, workload, machine)


@rule(MixedDepthwise)
def mixed(workload: MixedDepthwise, machine: Cpu) -> Space:
    """The rule: depthwise convolutions side by side. Each part has its own default, and all of them as many bands where
    these are decided (0: its own)."""
    spaces = [_space(part, None, part, machine) for part in workload.parts]
    own = [dict(part.default) for part in spaces]
    bands = tuple(sorted({0} | set.intersection(*(set(part.axes["bands"]) for part in spaces))))

    def plans(decisions: Decisions) -> list[BandPlan]:
        asked = {"bands": decisions["bands"]} if decisions["bands"] else {}
        each = zip(workload.parts, own, strict=True)
        return [_plan(None, part, machine, {**default, **asked}) for part, default in each]

    return Space(
        rule="depthwise",
        axes={"bands": bands},
        default={"bands": 0},
        build=lambda decisions: mixed_depthwise_primfunc(workload, machine, plans(decisions)),
    )


def _space(workload: Conv2d | ExpandDepthwise, expand: Conv2d | None, conv: Conv2d, machine: Cpu) -> Space:
    axes = _axes(expand, conv, machine)
    admits = partial(_admits, expand, conv, machine)
    return Space(
        rule="depthwise",
        axes=axes,
        default=_default(expand, conv, machine, axes),
        build=lambda decisions: depthwise_primfunc(workload, machine, _plan(expand, conv, machine, decisions)),
        admits=admits,
        cycles=partial(_cost, expand, conv, machine),
        added={"write_ahead": int(machine.costs.write_ahead)},
    )


def _axes(expand: Conv2d | None, conv: Conv2d, machine: Cpu) -> dict[str, tuple[int, ...]]:
    blocks = bias_shape(conv, machine)[0]
    # Accumulators beside the taps of one row; what is left holds inputs that several outputs share.
    widest = min(conv.out_width, (machine.vector_registers - conv.kernel[1]) * 3 // 4)
    axes = {
        "bands": tuple(n for n in bands_for(conv.out_height, machine)),
        "vectors": tuple(d for d in tiles.divisors(blocks) if d <= 12),
        "columns": tuple(range(1, max(widest, 1) + 1)),
    }
    if machine.multiplies_by_lane:
        # NEON has no operands in memory: with all taps unrolled LLVM keeps their weights in registers, and spills.
        axes["unroll_taps"] = (0, 1)
    if any(is_exponential(each.activation) for each in (expand, conv) if each):
        axes["apart"] = (0, 1)
    axes["write_ahead"] = (0, 1)
    if expand is None:
        return axes
    columns = range(1, min(conv.width, machine.vector_registers) + 1)
    if expand.family == "pointwise":
        axes |= depth_axis(expand, machine)
    return axes | {
        "expand_columns": tuple(n for n in columns if tiles.fits_registers(n, 1, machine)),
        "expand_vectors": tuple(n for n in range(1, max(axes["vectors"]) + 1) if tiles.fits_registers(1, n, machine)),
        "prefetch": (0, 1) if expand.family == "pointwise" else (0,),
    }


def _admits(expand: Conv2d | None, conv: Conv2d, machine: Cpu, decisions: Decisions) -> bool:
    vectors = decisions["vectors"]
    if expand is None or not _ring_fits(conv, machine, vectors):
        return _ring_fits(conv, machine, vectors)
    columns, tile_vectors = decisions["expand_columns"], decisions["expand_vectors"]
    inner = min(conv.width, (conv.out_width - 1) * conv.stride[1] + conv.kernel[1] - conv.padding[1])
    fits = columns <= max(inner, 1) and tiles.fits_registers(columns, tile_vectors, machine, decisions.get("depth", 1))
    return fits and tile_vectors <= vectors


def _ring_fits(conv: Conv2d, machine: Cpu, vectors: int) -> bool:
    """Whether the ring leaves half of the second-level cache to the rest (one vector must do in any case)."""
    return vectors == 1 or ring_bytes(conv, vectors, bias_shape(conv, machine)[1]) <= machine.l2_bytes // 2


def _plan(expand: Conv2d | None, conv: Conv2d, machine: Cpu, decisions: Decisions) -> BandPlan:
    kept = ring_bytes(conv, decisions["vectors"], bias_shape(conv, machine)[1])
    kept += 4 * prod(window_shape(expand)) if expand else 0
    kept += 4 * conv.out_width * bias_shape(conv, machine)[1] if decisions.get("apart") else 0
    return BandPlan(
        rows=tiles.blocks(conv.out_height, decisions["bands"]),
        vectors=decisions["vectors"],
        columns=decisions["columns"],
        expand_columns=decisions.get("expand_columns", 1),
        expand_vectors=decisions.get("expand_vectors", 1),
        expand_depth=decisions.get("depth", 1),
        prefetch=bool(decisions.get("prefetch", 0)),
        unroll_taps=bool(decisions.get("unroll_taps", 1)),
        on_stack=tiles.fits_stack(kept, machine),
        apart=bool(decisions.get("apart", 0)),
        write_ahead=bool(decisions.get("write_ahead", machine.costs.write_ahead)),
    )


def _default(expand: Conv2d | None, conv: Conv2d, machine: Cpu, axes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Column tiles and where activations are computed by the cycles of a row, then bands and groups of least estimated
    time."""
    fixed = {"write_ahead": int(machine.costs.write_ahead)} | ({"unroll_taps": 0} if "unroll_taps" in axes else {})
    rows = [_row_tile(conv, machine, axes, apart) for apart in axes.get("apart", (None,))]
    choices = []
    for vectors in axes["vectors"]:
        if not _ring_fits(conv, machine, vectors):
            continue
        for bands, row in product(axes["bands"], rows):
            tile = {} if expand is None else _expand_tile(expand, conv, machine, axes, row | {"vectors": vectors})
            choices.append({"bands": bands, "vectors": vectors} | row | fixed | tile)
    return min(choices, key=partial(_cost, expand, conv, machine))


def _row_tile(conv: Conv2d, machine: Cpu, axes: Mapping[str, tuple[int, ...]], apart: int | None) -> dict[str, int]:
    """The column tile of least estimated time, and `apart` where that is to be decided."""
    # LLVM hoists loads that windows share; beyond this it spills (5x5, 19 columns: a quarter slower than 10).
    # Windows that do not overlap share less: without operands in memory each of them needs a register more.
    share = 3 if machine.multiplies_by_lane and conv.stride[1] > 1 else 2
    most = (machine.vector_registers - conv.kernel[1]) // share
    # Fewer than keep the units busy are slower than what spills (AVX2, 7 and 8 columns beside 4 to 6: up to a tenth);
    # on NEON nobody measured it.
    busy = min(machine.costs.chain, machine.vector_registers // 2)
    most = max(1, most, 1 if machine.multiplies_by_lane else busy)
    decided = {} if apart is None else {"apart": apart}
    tiles_of = [{"columns": columns} | decided for columns in axes["columns"] if columns <= most]
    return min(tiles_of, key=partial(_row_cycles, conv, machine.costs))


def _expand_tile(
    expand: Conv2d, conv: Conv2d, machine: Cpu, axes: Mapping[str, tuple[int, ...]], decided: Decisions
) -> dict[str, int]:
    """The expansion's register tile of least estimated time, where `vectors` and the like are decided."""
    prefetch = int(1 in axes["prefetch"] and worth_prefetching(machine, expand))
    depth = {"depth": max(axes["depth"])} if "depth" in axes else {}
    tiles_of = [
        {**decided, "expand_columns": columns, "expand_vectors": width, "prefetch": prefetch} | depth
        for columns in axes["expand_columns"]
        for width in axes["expand_vectors"]
    ]
    fitting = [tile for tile in tiles_of if _admits(expand, conv, machine, tile)]
    return min(fitting, key=lambda tile: _expand_cycles(expand, machine, tile))


def _expand_cycles(expand: Conv2d, machine: Cpu, decisions: Decisions) -> float:
    """Estimated cycles of one expanded row of a group."""
    columns, vectors = decisions["expand_columns"], decisions["expand_vectors"]
    lanes = bias_shape(expand, machine)[1]
    count = tiles.blocks(expand.out_width, columns) * tiles.blocks(decisions["vectors"], vectors)
    depth = reduction_steps(expand, machine) * expand.kernel[0] * expand.kernel[1]
    half, costs = lanes < machine.lanes, machine.costs
    at_once = decisions.get("depth", 1)
    apart = is_apart(expand.activation, bool(decisions.get("apart")))
    in_tile: Activation = "none" if apart else expand.activation
    later = expand.out_width * decisions["vectors"] * costs.exponential_apart if apart else 0.0
    return count * tiles.tile_cycles(columns, vectors, depth, in_tile, costs, half, at_once) + later


def _row_cycles(conv: Conv2d, costs: Costs, decisions: Decisions) -> float:
    """Estimated cycles of one output row of one channel vector."""
    (kh, kw), sw, columns = conv.kernel, conv.stride[1], decisions["columns"]
    loads = kh * ((columns - 1) * sw + kw)
    one = kh * kw * max(columns, costs.chain // 2) + costs.shared_load * loads + 10
    count = tiles.blocks(conv.out_width, columns)
    if is_apart(conv.activation, bool(decisions.get("apart"))):
        return count * (one + columns * costs.store) + conv.out_width * costs.exponential_apart
    return count * (one + columns * tiles.activation_cycles(conv.activation, costs))


def _cost(expand: Conv2d | None, conv: Conv2d, machine: Cpu, decisions: Decisions) -> float:
    """Estimated cycles of the busiest core."""
    blocks, width = bias_shape(conv, machine)
    vectors, plan = decisions["vectors"], _plan(expand, conv, machine, decisions)
    tasks = conv.batch * tiles.blocks(conv.out_height, plan.rows) * (blocks // vectors)
    made = min(conv.padded_rows(plan.rows), conv.height)
    row_bytes = vectors * conv.padded_row_bytes(width)
    ring, costs = ring_bytes(conv, vectors, width), machine.costs
    prices = (costs.ring_first, costs.ring_second, costs.ring_beyond)
    price = tiles.level_price(ring, (machine.l1_bytes // 2, machine.l2_bytes // 4), prices)
    filled = price * made * row_bytes / machine.vector_bytes
    # A group whose channels do not fill cache lines has its neighbours' bytes carried as well.
    line_share = min(1.0, vectors * width * 4 / _CACHE_LINE)
    filled += plan.rows * conv.out_width * vectors * width * 4 / machine.vector_bytes / line_share
    if expand is None:
        # Read from beyond the near caches.
        filled += costs.image * made * row_bytes / machine.vector_bytes / line_share
    else:
        filled += made * _expand_cycles(expand, machine, decisions)
        if is_apart(expand.activation, plan.apart):
            # A row is read again and written: at once, but it may not be in the nearest cache any more.
            further = (0.0, costs.copy_second, costs.copy_beyond)
            again = tiles.level_price(row_bytes, (machine.l1_bytes // 2, machine.l2_bytes // 4), further)
            filled += again * made * row_bytes / machine.vector_bytes
        # The expansion's input comes once for every group, to the stem by way of a copy.
        filled += made * prod(window_shape(expand)) * 4 / machine.vector_bytes
    return tiles.turns(tasks, machine) * (filled + vectors * plan.rows * _row_cycles(conv, costs, decisions) + 200)
