"""Pooling by windows, several channel vectors of one output at a time.

    for task in parallel(batch x output rows x chunks of channel vectors):
        for column: for tiles of channel vectors:
            acc[vectors, lanes] = -infinity or 0                    in registers
            for ky, kx of the window that lie in the image: acc = max(acc, data[..])  or  acc + data[..]
            out = acc                                               a mean: times 1 / pixels that count

Rows and columns of the window beyond the image are left out by the loops' bounds. A last vector that the channels do
not fill is moved back until it fits; what it shares with its neighbour is written twice, with equal values.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import Index, function, local, tile_start, zero
from effgen.kernels.kinds.pool2d import Pool2d
from effgen.machines.machine import Cpu


@dataclass(frozen=True)
class PoolPlan:
    """Channel vectors of a tile, tasks that the vectors of a row are shared out to, whether cores share the tasks."""

    vectors: int
    chunks: int
    parallel: bool = True


def vector_lanes(channels: int, machine: Cpu) -> int:
    """Lanes of the vectors that the channels are covered with, which may overlap: never more than there are."""
    return min(machine.lanes_of(channels), channels)


def pool2d_primfunc(workload: Pool2d, machine: Cpu, plan: PoolPlan) -> PrimFunc:
    """The finished kernel `workload.name`: image in, image out."""
    # TVM asks of every function of one input and one output whether it is a reshape, and looks for a block then.
    with function(workload, machine) as (builder, (data, out)), tir.sblock("root"):
        _Pool(workload, machine, plan, data, out).write()
    return builder.get().with_attr("tirx.is_scheduled", True)


class _Pool:
    def __init__(self, workload: Pool2d, machine: Cpu, plan: PoolPlan, data: Buffer, out: Buffer) -> None:
        self.workload, self.plan, self.data, self.out = workload, plan, data, out
        self.lanes = vector_lanes(workload.channels, machine)
        self.vectors = tiles.blocks(workload.channels, self.lanes)

    def write(self) -> None:
        _, rows, columns, _ = self.workload.out_shape
        column_tiles = tiles.blocks(self.vectors, self.plan.vectors)
        per_chunk = tiles.blocks(column_tiles, self.plan.chunks)
        chunks = tiles.blocks(column_tiles, per_chunk)
        loop = tir.parallel if self.plan.parallel else tir.serial
        with loop(0, self.workload.batch * rows * chunks) as task:
            image, row, chunk = task // (rows * chunks), task // chunks % rows, task % chunks
            with tir.serial(0, columns) as column, tir.serial(0, per_chunk) as index:
                tile = tirx.min(chunk * per_chunk + index, column_tiles - 1)
                self.window(image, row, column, tile_start(tile, self.vectors, self.plan.vectors))

    def channel(self, vector: Index, lane: Index) -> Index:
        return tile_start(vector, self.workload.channels, self.lanes) + lane

    def window(self, image: Expr, row: Expr, column: Expr, first: Index) -> None:
        workload, lanes = self.workload, self.lanes
        acc = local(self.plan.vectors, lanes)
        start = -tirx.infinity("float32") if workload.mode == "max" else zero()
        with tir.unroll(0, self.plan.vectors) as v, tir.vectorized(0, lanes) as lane:
            tir.buffer_store(acc, start, [v, lane])
        (first_y, rows), (first_x, columns) = self.inside(0, row), self.inside(1, column)
        (dy, dx) = workload.dilation
        with tir.serial(0, rows) as y, tir.serial(0, columns) as x, tir.unroll(0, self.plan.vectors) as v:
            with tir.vectorized(0, lanes) as lane:
                value = self.data[image, first_y + y * dy, first_x + x * dx, self.channel(first + v, lane)]
                kept = acc[v, lane]
                joined = tirx.max(kept, value) if workload.mode == "max" else kept + value
                tir.buffer_store(acc, joined, [v, lane])
        scale = None if workload.mode == "max" else local(1)
        if scale is not None:
            pixels = tirx.Cast("float32", self.pixels(0, row) * self.pixels(1, column))
            tir.buffer_store(scale, tirx.const(1.0, "float32") / pixels, [0])
        with tir.unroll(0, self.plan.vectors) as v, tir.vectorized(0, lanes) as lane:
            result = acc[v, lane] if scale is None else acc[v, lane] * scale[0]
            tir.buffer_store(self.out, result, [image, row, column, self.channel(first + v, lane)])

    def inside(self, axis: int, position: Expr) -> tuple[Expr, Expr]:
        """First pixel of the image in a window along one axis, and how many of its taps lie in the image."""
        workload, size = self.workload, (self.workload.height, self.workload.width)[axis]
        step, kernel = workload.dilation[axis], workload.kernel[axis]
        start = position * workload.stride[axis] - workload.padding[axis]
        if not workload.padding[axis] and not workload.padding[axis + 2]:
            return start, tirx.const(kernel, "int32")
        skipped = tirx.max(0, (step - 1 - start) // step) if workload.padding[axis] else 0
        end = tirx.min(kernel, (size - 1 - start) // step + 1) if workload.padding[axis + 2] else kernel
        return start + skipped * step, end - skipped

    def pixels(self, axis: int, position: Expr) -> Expr:
        """Pixels that count along one axis: of the image, and of what of its padding is counted."""
        workload, size = self.workload, (self.workload.height, self.workload.width)[axis]
        start = position * workload.stride[axis] - workload.padding[axis]
        low, high = -workload.counted[axis], size + workload.counted[axis + 2]
        return tirx.min(start + workload.kernel[axis], high) - tirx.max(start, low)
