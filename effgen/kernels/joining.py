"""Images joined along their channels, on the way scaled, shifted and activated.

for task in parallel(bands of positions): for position: for image: for channel vectors:
    out = activation(image [* factor + summand])
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import Index, function, tile_start
from effgen.kernels.kinds.concat import Concat
from effgen.kernels.math import activate, constant
from effgen.kernels.packing import INPUT_SCALE
from effgen.kernels.pooling import vector_lanes
from effgen.machines.machine import Cpu

#: Vectors of one image that are copied without a loop.
_UNROLLED = 4


@dataclass(frozen=True)
class ConcatPlan:
    """How many bands the positions are shared out to; one is not shared."""

    bands: int


def concat_primfunc(workload: Concat, machine: Cpu, plan: ConcatPlan) -> PrimFunc:
    """The finished kernel `workload.name`: images, factor and summand where there are, out."""
    with function(workload, machine) as (builder, arguments):
        _Concat(workload, machine, arguments).write(plan)
    return builder.get().with_attr("tirx.is_scheduled", True)


class _Concat:
    def __init__(self, workload: Concat, machine: Cpu, arguments: list[Buffer]) -> None:
        self.workload, self.machine = workload, machine
        count = len(workload.parts)
        self.images, self.affine, self.out = arguments[:count], arguments[count:-1], arguments[-1]

    def write(self, plan: ConcatPlan) -> None:
        workload = self.workload
        positions = workload.batch * workload.height * workload.width
        each = tiles.blocks(positions, plan.bands)
        bands = tiles.blocks(positions, each)
        loop = tir.parallel if bands > 1 else tir.serial
        with loop(0, bands) as band:
            count = each if positions % each == 0 else tirx.min(each, positions - band * each)
            with tir.serial(0, count) as index:
                position = band * each + index
                row, column = position // workload.width, position % workload.width
                first = 0
                for image, channels in zip(self.images, workload.parts, strict=True):
                    self.copy(image, channels, first, (row // workload.height, row % workload.height, column))
                    first += channels

    def copy(self, image: Buffer, channels: int, first: int, place: tuple[Expr, Expr, Expr]) -> None:
        lanes = vector_lanes(channels, self.machine)
        vectors = tiles.blocks(channels, lanes)
        unrolled = tiles.largest_divisor(vectors, _UNROLLED)
        with tir.serial(0, vectors // unrolled) as outer, tir.unroll(0, unrolled) as inner:
            start = tile_start(outer * unrolled + inner, channels, lanes)
            with tir.vectorized(0, lanes) as lane:
                channel: Index = start + lane
                value = image[(*place, channel)]
                if self.affine:
                    value = value * self.affine[0][first + channel] + self.affine[1][first + channel]
                # Nothing before it makes the argument that some activations want.
                value = value * constant(INPUT_SCALE.get(self.workload.activation, 1.0))
                tir.buffer_store(self.out, activate(value, self.workload.activation), [*place, first + channel])
