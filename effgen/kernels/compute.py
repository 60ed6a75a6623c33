"""Definitions of kernels, block by block, still without any schedule: the rules in `schedules/` transform them."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx import PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import block, channel_of, function, if_real, or_zero, temporary
from effgen.kernels.codes import codes_of, number_of
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.packing import input_shapes
from effgen.machines.machine import Cpu


def average_pool_primfunc(workload: GlobalAveragePool, machine: Cpu) -> PrimFunc:
    """Blocks `row_sum`, `total`, `store`: short chains of additions keep the rounding error small."""
    batch, height, columns, channels = workload.data_shape
    width = machine.lanes_of(channels)
    vectors = tiles.blocks(channels, width)
    with function(workload, machine) as (builder, (data, out)):
        row_sum, total = temporary(batch, height, vectors, width), temporary(batch, vectors, width)
        with block("row_sum", row_sum.shape, [columns]) as (b, y, c, lane, x):
            with tir.init():
                tir.buffer_store(row_sum, tirx.const(0.0, "float32"), [b, y, c, lane])
            channel = channel_of(c, lane, channels, width)
            value = or_zero([channel < channels] if channels < width else [], data[b, y, x, channel])
            tir.buffer_store(row_sum, row_sum[b, y, c, lane] + value, [b, y, c, lane])
        with block("total", total.shape, [height]) as (b, c, lane, y):
            with tir.init():
                tir.buffer_store(total, tirx.const(0.0, "float32"), [b, c, lane])
            tir.buffer_store(total, total[b, c, lane] + row_sum[b, y, c, lane], [b, c, lane])
        with block("store", total.shape) as (b, c, lane):
            channel = channel_of(c, lane, channels, width)
            with if_real(channel, channels, width):
                mean = total[b, c, lane] * tirx.const(1.0 / (height * columns), "float32")
                tir.buffer_store(out, mean, [b, 0, 0, channel])
    return builder.get()


def channel_scale_primfunc(workload: ChannelScale, machine: Cpu) -> PrimFunc:
    with function(workload, machine) as (builder, arguments), block("store", workload.data_shape) as position:
        named = dict(zip(input_shapes(workload, machine), arguments, strict=False))
        b, channel = position[0], position[3]
        value = named["data"][tuple(position)]
        value = number_of(value, named["data_grid"]) if workload.reads_codes else value
        value = value * named["gate"][b, 0, 0, channel]
        value = value if workload.code_type is None else codes_of(value, workload.code_type, named["grid"])
        tir.buffer_store(arguments[-1], value, position)
    return builder.get()
