"""Squeeze-excite in one kernel: row sums -> mean -> two dense layers -> gate.

    for image:
        mean[channels] = sum over rows / (height * width)
        squeezed       = activation(mean x squeeze_weight + bias)          vectors of outputs, shared out to the cores
        gate           = gate_activation(squeezed x excite_weight + bias)  likewise

Each output vector is summed in several chains: in one alone every addition would wait for the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import channel_of, function, if_real, local, pairwise, zero
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.math import activate
from effgen.kernels.packing import bias_shape
from effgen.machines.machine import Cpu

# Takes a channel and its value.
_Store = Callable[[Expr, Expr], None]


@dataclass(frozen=True)
class SqueezeExcitePlan:
    """Chains that a sum is split into, output vectors side by side in the second layer, and what cores share: the
    output vectors of a layer, or the images of the batch, or nothing."""

    chains: int
    vectors: int
    parallel_vectors: bool
    parallel_images: bool


def squeeze_excite_primfunc(workload: SqueezeExcite, machine: Cpu, plan: SqueezeExcitePlan) -> PrimFunc:
    """The finished kernel `workload.name`; its arguments are those of `kernel_arguments`."""
    assert not (plan.parallel_vectors and plan.parallel_images), plan
    with function(workload, machine) as (builder, arguments):
        with (tir.parallel if plan.parallel_images else tir.serial)(0, workload.batch) as image:
            _Gate(workload, machine, plan, arguments, image).write()
    return builder.get().with_attr("tirx.is_scheduled", True)


class _Gate:
    def __init__(
        self, workload: SqueezeExcite, machine: Cpu, plan: SqueezeExcitePlan, arguments: list[Buffer], image: Expr
    ) -> None:
        self.workload, self.machine, self.plan, self.image = workload, machine, plan, image
        self.sums, *self.squeeze_parameters, self.excite_weight, self.excite_bias, self.gate = arguments

    def write(self) -> None:
        workload = self.workload
        mean = self.vector_array(workload.excite)
        self.mean(mean)
        squeezed = self.vector_array(workload.squeeze)
        weight, bias = self.squeeze_parameters
        self.dense(workload.squeeze, 1, mean, weight, bias, lambda c, value: tir.buffer_store(squeezed, value, [c]))
        vectors = max(d for d in tiles.divisors(self.blocks(workload.excite)) if d <= self.plan.vectors)
        self.dense(workload.excite, vectors, squeezed, self.excite_weight, self.excite_bias, self.store_gate)

    def blocks(self, layer: Conv2d) -> int:
        return bias_shape(layer, self.machine)[0]

    def vector_array(self, layer: Conv2d) -> Buffer:
        """Room for the layer's outputs, in whole vectors. Of scope "global": all cores read it."""
        blocks, lanes = bias_shape(layer, self.machine)
        return tir.alloc_buffer((blocks * lanes,), "float32", scope="global", layout=None)

    def mean(self, mean: Buffer) -> None:
        """Short: one core does it, before the others wake."""
        workload = self.workload
        blocks, lanes = bias_shape(workload.excite, self.machine)
        share = tirx.const(1.0 / (workload.height * workload.width), "float32")
        with tir.serial(0, blocks) as block:
            total = local(1, lanes)
            with tir.vectorized(0, lanes) as lane:
                tir.buffer_store(total, zero(), [0, lane])
            with tir.serial(0, workload.height) as row, tir.vectorized(0, lanes) as lane:
                channel = channel_of(block, lane, workload.channels, lanes)
                # A channel added to fill a vector is never read; it may hold another one's value.
                known = channel if workload.channels >= lanes else tirx.min(channel, workload.channels - 1)
                tir.buffer_store(total, total[0, lane] + self.sums[self.image, row, known], [0, lane])
            with tir.vectorized(0, lanes) as lane:
                place = channel_of(block, lane, workload.channels, lanes)
                tir.buffer_store(mean, total[0, lane] * share, [place])

    def dense(self, layer: Conv2d, vectors: int, data: Buffer, weight: Buffer, bias: Buffer, store: _Store) -> None:
        """`layer` of one image, `vectors` output vectors at a time."""
        blocks, lanes = bias_shape(layer, self.machine)
        depth = layer.in_channels
        chains = max(d for d in tiles.divisors(depth) if d <= max(1, self.plan.chains // vectors))
        with (tir.parallel if self.plan.parallel_vectors else tir.serial)(0, blocks // vectors) as task:
            acc = local(chains, vectors, lanes)
            with tir.unroll(0, chains) as i, tir.unroll(0, vectors) as v, tir.vectorized(0, lanes) as lane:
                tir.buffer_store(acc, zero(), [i, v, lane])
            with tir.serial(0, depth // chains) as k, tir.unroll(0, chains) as i, tir.unroll(0, vectors) as v:
                with tir.vectorized(0, lanes) as lane:
                    product = data[k * chains + i] * weight[task * vectors + v, 0, 0, k * chains + i, lane]
                    tir.buffer_store(acc, acc[i, v, lane] + product, [i, v, lane])
            with tir.unroll(0, vectors) as v, tir.vectorized(0, lanes) as lane:
                total = pairwise([acc[i, v, lane] for i in range(chains)]) + bias[task * vectors + v, lane]
                store(
                    channel_of(task * vectors + v, lane, layer.out_channels, lanes), activate(total, layer.activation)
                )

    def store_gate(self, channel: Expr, value: Expr) -> None:
        lanes = bias_shape(self.workload.excite, self.machine)[1]
        with if_real(channel, self.workload.channels, lanes):
            tir.buffer_store(self.gate, value, [self.image, 0, 0, channel])
