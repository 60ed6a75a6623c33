"""Images whose channels are dealt out in turn.

for task in parallel(bands of positions): for position: for output: for vectors of its share of each image:
    out = shuffle(a vector of each image)
"""

from __future__ import annotations

from tvm import tirx
from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import function, tile_start
from effgen.kernels.kinds.interleave import Interleave
from effgen.machines.machine import Cpu


def interleave_primfunc(workload: Interleave, machine: Cpu, bands: int) -> PrimFunc:
    """The finished kernel `workload.name`: images, outputs; positions are shared out to so many bands."""
    positions = workload.batch * workload.height * workload.width
    each = tiles.blocks(positions, bands)
    with function(workload, machine) as (builder, arguments):
        images, outputs = arguments[: workload.count], arguments[workload.count :]
        loop = tir.parallel if bands > 1 else tir.serial
        with loop(0, tiles.blocks(positions, each)) as band:
            with tir.serial(0, tirx.min(each, positions - band * each)) as index:
                position, first = band * each + index, 0
                for out, cut in zip(outputs, workload.cuts, strict=True):
                    share = cut // workload.count
                    _deal(images, out, position, range(first, first + share), min(machine.lanes, share))
                    first += share
    return builder.get().with_attr("tirx.is_scheduled", True)


def _deal(images: list[Buffer], out: Buffer, position: Expr, channels: range, lanes: int) -> None:
    """These channels of every image, in turn; the last vector is moved back until it fits."""
    count = len(images)
    with tir.serial(0, tiles.blocks(len(channels), lanes)) as index:
        start = tile_start(index, len(channels), lanes)
        if lanes == 1:  # no vector at all
            for number, image in enumerate(images):
                value = image[0, 0, position, channels.start + start]
                tir.buffer_store(out, value, [0, 0, position, start * count + number])
            return
        vectors = [image[0, 0, position, tirx.Ramp(channels.start + start, 1, lanes)] for image in images]
        picked = [number * lanes + lane for lane in range(lanes) for number in range(count)]
        place = [0, 0, position, tirx.Ramp(start * count, 1, lanes * count)]
        tir.buffer_store(out, tirx.Shuffle(vectors, picked), place)
