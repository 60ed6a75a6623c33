"""Squeeze-excite on a GPU, from row sums to the gate, in one launch.

    block (image x share of the gate), threads:
        mean[c] = sums over the rows / pixels                             into shared memory
        squeezed[s] = activation(mean . weight[:, s] + bias)              slices of the channels, added up
        gate[c] = gate_activation(squeezed . weight[:, c] + bias)         the block's share of the channels

The first two steps are done again in every block: it costs less than another launch.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import function
from effgen.kernels.cuda.builder import as_float, for_share, launch, registers, shared, synchronise
from effgen.kernels.cuda.math import activate
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.packing import bias_shape
from effgen.machines.machine import Gpu


@dataclass(frozen=True)
class ExcitePlan:
    """`blocks` share the channels of an image's gate; each has `threads`."""

    blocks: int
    threads: int


def squeeze_excite_primfunc(workload: SqueezeExcite, machine: Gpu, plan: ExcitePlan) -> PrimFunc:
    """The finished kernel `workload.name`; its arguments are those of `kernel_arguments`."""
    with function(workload, machine) as (builder, arguments):
        _SqueezeExcite(workload, machine, plan, arguments).write()
    return builder.get().with_attr("tirx.is_scheduled", True)


class _SqueezeExcite:
    def __init__(self, workload: SqueezeExcite, machine: Gpu, plan: ExcitePlan, arguments: list[Buffer]) -> None:
        self.workload, self.plan = workload, plan
        self.sums, self.squeeze_weight, self.squeeze_bias, self.excite_weight, self.excite_bias, self.gate = arguments
        self.width = bias_shape(workload.squeeze, machine)[1]

    def write(self) -> None:
        work, plan = self.workload, self.plan
        with launch(work.batch * plan.blocks, plan.threads) as (block, thread):
            image, share = block // plan.blocks, block % plan.blocks
            mean, squeezed = shared(work.channels), shared(work.squeezed)
            self.average(image, thread, mean)
            synchronise()
            self.squeeze(thread, mean, squeezed)
            synchronise()
            self.excite(image, share, thread, squeezed)

    def average(self, image: Expr, thread: Expr, mean: Buffer) -> None:
        work, total = self.workload, registers(1)
        with for_share(work.channels, thread, self.plan.threads) as (_, c):
            tir.buffer_store(total, tirx.const(0.0, "float32"), [0])
            with tir.serial(0, work.height) as row:
                tir.buffer_store(total, total[0] + self.sums[image, row, c], [0])
            scale = tirx.const(1.0 / (work.height * work.width), "float32")
            tir.buffer_store(mean, total[0] * scale, [c])

    def squeeze(self, thread: Expr, mean: Buffer, squeezed: Buffer) -> None:
        """Neighbouring threads take neighbouring outputs; groups of threads take slices of the channels."""
        work, total = self.workload, registers(1)
        width = min(tiles.blocks(work.squeezed, 8) * 8, self.plan.threads)
        slices = self.plan.threads // width
        partial = shared(slices, width)
        s, part = thread % width, thread // width
        with tir.serial(0, tiles.blocks(work.squeezed, width)) as turn:
            output = turn * width + s
            with tir.If(tirx.all(part < slices, output < work.squeezed)), tir.Then():
                tir.buffer_store(total, tirx.const(0.0, "float32"), [0])
                with tir.serial(0, tiles.blocks(work.channels, slices)) as step:
                    c = step * slices + part
                    with tir.If(c < work.channels), tir.Then():
                        weight = as_float(self.squeeze_weight[0, 0, 0, c, output])
                        tir.buffer_store(total, total[0] + mean[c] * weight, [0])
                tir.buffer_store(partial, total[0], [part, s])
            synchronise()
            with tir.If(tirx.all(part.equal(0), output < work.squeezed)), tir.Then():
                tir.buffer_store(total, self.squeeze_bias[0, output], [0])
                with tir.serial(0, slices) as step:
                    tir.buffer_store(total, total[0] + partial[step, s], [0])
                tir.buffer_store(squeezed, activate(total[0], work.activation), [output])
            synchronise()

    def excite(self, image: Expr, share: Expr, thread: Expr, squeezed: Buffer) -> None:
        work, total = self.workload, registers(1)
        each = tiles.blocks(work.channels, self.plan.blocks)
        with for_share(each, thread, self.plan.threads) as (_, piece):
            c = share * each + piece
            with tir.If(c < work.channels), tir.Then():
                tir.buffer_store(total, self.excite_bias[0, c], [0])
                with tir.serial(0, work.squeezed) as s:
                    weight = as_float(self.excite_weight[0, 0, 0, s, c])
                    tir.buffer_store(total, total[0] + squeezed[s] * weight, [0])
                tir.buffer_store(self.gate, activate(total[0], work.gate_activation), [image, 0, 0, c])
