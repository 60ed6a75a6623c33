"""Rows of the stem's output, one at a time, for a kernel that uses them at once.

    window[channels][kernel rows][padded columns]        what one row needs of the image, copied with its border
    for register tiles: acc = bias; for ky, kx, k: acc += window[..] * weight[..];  ring[..] = activation(acc)

The image is NCHW: its rows are copied by vectors, and the products take one float for all lanes from any address.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm.ir import Expr
from tvm.tirx import Buffer
from tvm.tirx.script.builder import ir as tir

from effgen.kernels import tiles
from effgen.kernels.builder import Index, local, or_zero, register_tile, tile_start, zero
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.math import activate
from effgen.kernels.workload import Activation

# Floats copied at once; LLVM makes whole vectors of them.
_COPIED = 16


def window_shape(stem: Conv2d) -> tuple[int, int, int]:
    """Channels, rows and padded columns of the input that one row of the output needs."""
    return stem.in_channels, stem.kernel[0], (stem.out_width - 1) * stem.stride[1] + stem.kernel[1]


class StemRows:
    """Writes rows into a ring [vectors][slots][columns][lanes].

    `arguments` are image, packed weight and bias; `tile` the ring's vectors, and columns and vectors of a register
    tile; `columns` where the row's wanted columns, from its first on, stand in the ring; `activation` what is
    applied to a tile (the stem's, or none where that is done elsewhere).
    """

    window: Buffer

    def __init__(
        self,
        stem: Conv2d,
        arguments: Sequence[Buffer],
        tile: tuple[int, int, int],
        columns: range,
        activation: Activation,
    ) -> None:
        self.stem, self.activation = stem, activation
        self.image, self.weight, self.bias = arguments
        self.ring_vectors, self.tile_columns, self.tile_vectors = tile
        self.columns = columns
        self.lanes = int(self.bias.shape[-1])
        self.left = stem.padding[1]
        # Columns of the image that some window reads.
        self.inner = min(stem.width, window_shape(stem)[2] - self.left)

    def begin(self, scope: str) -> None:
        """Once for each task, before its rows: the window, its left and right border zero from here on."""
        self.window = tir.alloc_buffer(window_shape(self.stem), "float32", scope=scope, layout=None)
        channels, rows, columns = window_shape(self.stem)
        right = self.left + self.inner
        with tir.grid(channels, rows) as (channel, y):
            for start, count in ((0, self.left), (right, columns - right)):
                if count:
                    with tir.vectorized(0, count) as x:
                        tir.buffer_store(self.window, zero(), [channel, y, start + x])

    def write_row(self, image: Index, row: Expr, first_vector: Index, ring: Buffer, slot: Expr) -> None:
        """Row `row` of the output of one image, the ring's vectors from `first_vector` on."""
        self.fill_window(image, row)
        (kh, kw), depth = self.stem.kernel, self.stem.in_channels
        columns, vectors = self.tile_columns, self.tile_vectors
        with tir.serial(0, tiles.blocks(self.ring_vectors, vectors)) as outer:
            with tir.serial(0, tiles.blocks(len(self.columns), columns)) as index:
                x0 = tile_start(index, len(self.columns), columns)
                kept = tile_start(outer, self.ring_vectors, vectors)
                first = first_vector + kept
                acc = local(columns, vectors, self.lanes)
                with register_tile(columns, vectors, self.lanes) as (i, v, lane):
                    tir.buffer_store(acc, self.bias[first + v, lane], [i, v, lane])
                with (
                    tir.grid(kh, kw, depth) as (ky, kx, k),
                    register_tile(columns, vectors, self.lanes) as (i, v, lane),
                ):
                    pixel = self.window[k, ky, (x0 + i) * self.stem.stride[1] + kx]
                    product = pixel * self.weight[first + v, ky, kx, k, lane]
                    tir.buffer_store(acc, acc[i, v, lane] + product, [i, v, lane])
                with register_tile(columns, vectors, self.lanes) as (i, v, lane):
                    value = activate(acc[i, v, lane], self.activation)
                    tir.buffer_store(ring, value, [kept + v, slot, self.columns.start + x0 + i, lane])

    def fill_window(self, image: Index, row: Expr) -> None:
        """The image's rows under row `row` of the output, zeros for those above and below the image."""
        channels, rows, _ = window_shape(self.stem)
        top, _, bottom, _ = self.stem.padding
        step = min(_COPIED, self.inner)
        with tir.grid(channels, rows, tiles.blocks(self.inner, step)) as (channel, y, index):
            source, x0 = row * self.stem.stride[0] + y - top, tile_start(index, self.inner, step)
            inside = [source >= 0, source < self.stem.height] if top or bottom else []
            with tir.vectorized(0, step) as x:
                value = or_zero(inside, self.image[image, channel, source, x0 + x])
                tir.buffer_store(self.window, value, [channel, y, self.left + x0 + x])
