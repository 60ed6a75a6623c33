"""Kernels on whole images on a GPU: the mean over height and width, and a factor for every channel."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx import PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import function
from effgen.kernels.cuda.builder import as_float, as_type, below, guarded, launch, registers, shared, synchronise
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.machines.machine import Gpu


def average_pool_primfunc(workload: GlobalAveragePool, machine: Gpu, width: int, slices: int) -> PrimFunc:
    """A block: `width` neighbouring channels; `slices` groups of threads share the positions, and add up in the end."""
    positions = workload.height * workload.width
    groups = tiles.blocks(workload.channels, width)
    # In a block: Relax looks into functions of one input, which may be reshapes, and expects one there.
    with function(workload, machine) as (builder, (data, out)):
        with tir.sblock("pool"), launch(workload.batch * groups, width * slices) as (block, thread):
            image, part = block // groups, thread // width
            channel = block % groups * width + thread % width
            shares, total = shared(slices, width), registers(1)
            real = below(channel, workload.channels, groups * width)
            tir.buffer_store(total, tirx.const(0.0, "float32"), [0])
            with guarded(real), tir.serial(0, tiles.blocks(positions, slices)) as step:
                position = step * slices + part
                with guarded(below(position, positions, tiles.blocks(positions, slices) * slices)):
                    value = data[image, position // workload.width, position % workload.width, channel]
                    tir.buffer_store(total, total[0] + as_float(value), [0])
            tir.buffer_store(shares, total[0], [part, thread % width])
            synchronise()
            with guarded([part.equal(0), *real]):
                tir.buffer_store(total, tirx.const(0.0, "float32"), [0])
                with tir.serial(0, slices) as step:
                    tir.buffer_store(total, total[0] + shares[step, thread % width], [0])
                mean = total[0] * tirx.const(1.0 / positions, "float32")
                tir.buffer_store(out, as_type(mean, workload.dtype), [image, 0, 0, channel])
    return builder.get().with_attr("tirx.is_scheduled", True)


def channel_scale_primfunc(workload: ChannelScale, machine: Gpu, threads: int) -> PrimFunc:
    """A thread computes one value: this kernel waits for memory."""
    batch, height, width, channels = workload.data_shape
    total = batch * height * width * channels
    blocks = tiles.blocks(total, threads)
    with function(workload, machine) as (builder, (data, gate, out)):
        with launch(blocks, threads) as (block, thread):
            number = block * threads + thread
            with guarded(below(number, total, blocks * threads)):
                c, x = number % channels, number // channels % width
                y, b = number // (channels * width) % height, number // (channels * width * height)
                value = as_float(data[b, y, x, c]) * gate[b, 0, 0, c]
                tir.buffer_store(out, as_type(value, workload.dtype), [b, y, x, c])
    return builder.get().with_attr("tirx.is_scheduled", True)
