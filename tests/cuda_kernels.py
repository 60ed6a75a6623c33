"""Small CUDA kernels in TVM's IR, each for something that the emulator has to get right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import PrimFunc
from tvm.tirx.script.builder import ir as tir

from effgen.kernels.cuda.builder import launch, synchronise


def functions() -> dict[str, PrimFunc]:
    """All of them, by name."""
    writers = [silu, matmul, warp_sums, tensor_cores, reverse, pipeline, diverge, out_of_bounds]
    return {write.__name__: _finished(write) for write in writers}


def _finished(write: Callable[[], None]) -> PrimFunc:
    with IRBuilder() as builder, tir.prim_func(s_tir=True):
        tir.func_name(write.__name__)
        tir.func_attr({"global_symbol": write.__name__, "tirx.noalias": True})
        write()
    return builder.get().with_attr("tirx.is_scheduled", True)


def _argument(name: str, *shape: int, dtype: str = "float32") -> Any:
    return tir.arg(name, tir.buffer(shape, dtype, layout=None))


def _array(scope: str, *shape: int, dtype: str = "float32") -> Any:
    return tir.alloc_buffer(shape, dtype, scope=scope, layout=None)


def _call(name: str, *arguments: Any, dtype: str = "handle") -> Any:
    return tirx.call_intrin(dtype, name, *arguments)


def silu() -> None:
    """x * sigmoid(x), four floats at a time, beside the sum in half precision."""
    data, out = _argument("data", 8192), _argument("out", 8192)
    with launch(8, 256) as (block, thread), tir.vectorized(0, 4) as lane:
        at = (block * 256 + thread) * 4 + lane
        half = tirx.Cast("float16", data[at])
        value = data[at] * tirx.sigmoid(data[at]) + tirx.Cast("float32", half + half)
        tir.buffer_store(out, value, [at])


def matmul() -> None:
    """[128, 64] x [64, 128]: tiles of 64 x 64 in shared memory, 4 x 4 results a thread."""
    a, b, out = _argument("a", 128, 64), _argument("b", 64, 128), _argument("out", 128, 128)
    step = 16
    with launch(4, 256) as (block, thread):
        by, bx, ty, tx = block // 2, block % 2, thread // 16, thread % 16
        a_tile, b_tile = _array("shared", 64, step), _array("shared", step, 64)
        acc = _array("local", 4, 4)
        with tir.unroll(0, 4) as i, tir.vectorized(0, 4) as j:
            tir.buffer_store(acc, tirx.const(0.0, "float32"), [i, j])
        with tir.serial(0, 64 // step) as k:
            synchronise()
            with tir.vectorized(0, 4) as v:
                row, column = thread // 4, thread % 4 * 4 + v
                tir.buffer_store(a_tile, a[by * 64 + row, k * step + column], [row, column])
            with tir.vectorized(0, 4) as v:
                row, column = thread // 16, thread % 16 * 4 + v
                tir.buffer_store(b_tile, b[k * step + row, bx * 64 + column], [row, column])
            synchronise()
            with tir.serial(0, step) as depth, tir.unroll(0, 4) as i, tir.unroll(0, 4) as j:
                product = a_tile[ty * 4 + i, depth] * b_tile[depth, tx * 4 + j]
                tir.buffer_store(acc, acc[i, j] + product, [i, j])
        with tir.unroll(0, 4) as i, tir.vectorized(0, 4) as j:
            tir.buffer_store(out, acc[i, j], [by * 64 + ty * 4 + i, bx * 64 + tx * 4 + j])


def warp_sums() -> None:
    """Sums of 32 neighbours by shuffles."""
    data, out = _argument("data", 1024), _argument("out", 32)
    with launch(4, 256) as (block, thread):
        value = _array("local", 1)
        tir.buffer_store(value, data[block * 256 + thread], [0])
        mask = _call("tirx.tvm_warp_activemask", dtype="uint32")
        for distance in (16, 8, 4, 2, 1):
            other = _call("tirx.tvm_warp_shuffle_down", mask, value[0], distance, 32, 32, dtype="float32")
            tir.buffer_store(value, value[0] + other, [0])
        with tir.If(thread % 32 == 0), tir.Then():
            tir.buffer_store(out, value[0], [block * 8 + thread // 32])


def tensor_cores() -> None:
    """[64, 64] x [64, 64] in half precision, a strip of 16 rows a block and 16 columns a warp."""
    a, b = _argument("a", 64, 64, dtype="float16"), _argument("b", 64, 64, dtype="float16")
    out = _argument("out", 64, 64)
    with launch(4, 128) as (block, thread):
        warp = thread // 32
        strip = _array("shared", 16, 64, dtype="float16")
        left, right = (_array(f"wmma.matrix_{name}", 256, dtype="float16") for name in "ab")
        acc = _array("wmma.accumulator", 256)
        with tir.vectorized(0, 8) as v:
            row, column = thread // 8, thread % 8 * 8 + v
            tir.buffer_store(strip, a[block * 16 + row, column], [row, column])
        synchronise()
        tile = (16, 16, 16, 0)
        tir.evaluate(_call("tirx.tvm_fill_fragment", acc.data, *tile, tirx.const(0.0, "float32")))
        with tir.serial(0, 4) as k:
            rows, columns = strip.access_ptr("r", offset=k * 16), b.access_ptr("r", offset=k * 16 * 64 + warp * 16)
            tir.evaluate(_call("tirx.tvm_load_matrix_sync", left.data, *tile, rows, 64, "row_major"))
            tir.evaluate(_call("tirx.tvm_load_matrix_sync", right.data, *tile, columns, 64, "row_major"))
            tir.evaluate(_call("tirx.tvm_mma_sync", acc.data, 0, left.data, 0, right.data, 0, acc.data, 0))
        where = out.access_ptr("w", offset=block * 16 * 64 + warp * 16)
        tir.evaluate(_call("tirx.tvm_store_matrix_sync", acc.data, *tile, where, 64, "row_major"))


# 48 KiB: all that a block gets unless it asks.
LARGE = 12288


def reverse() -> None:
    """Through shared memory. (Left out here, TVM would put the barrier in by itself.)"""
    data, out = _argument("data", LARGE), _argument("out", LARGE)
    with launch(1, 256) as (_, thread):
        array = _array("shared", LARGE)
        with tir.serial(0, LARGE // 256) as i:
            tir.buffer_store(array, data[i * 256 + thread], [i * 256 + thread])
        synchronise()
        with tir.serial(0, LARGE // 256) as i:
            tir.buffer_store(out, array[LARGE - 1 - (i * 256 + thread)], [i * 256 + thread])


def pipeline() -> None:
    """Sums over rows, copied to shared memory asynchronously while the row before is added."""
    data, out = _argument("data", 8, 1024), _argument("out", 1024)
    with launch(1, 256) as (_, thread):
        rows, acc = _array("shared", 2, 1024), _array("local", 4)

        def fetch(row: Any) -> None:
            target, source = tirx.address_of(rows[row % 2, thread * 4]), tirx.address_of(data[row, thread * 4])
            tir.evaluate(tir.ptx["cp.async.cg.shared.global"](target, source, 16))
            tir.evaluate(tir.ptx["cp.async.commit_group"]())

        with tir.vectorized(0, 4) as v:
            tir.buffer_store(acc, tirx.const(0.0, "float32"), [v])
        fetch(tirx.const(0, "int32"))
        with tir.serial(0, 7) as row:
            fetch(row + 1)
            tir.evaluate(tir.ptx["cp.async.wait_group"](1))
            synchronise()
            with tir.vectorized(0, 4) as v:
                tir.buffer_store(acc, acc[v] + rows[row % 2, 1020 - thread * 4 + v], [v])
            synchronise()
        tir.evaluate(tir.ptx["cp.async.wait_all"]())
        synchronise()
        with tir.vectorized(0, 4) as v:
            tir.buffer_store(out, acc[v] + rows[1, 1020 - thread * 4 + v], [thread * 4 + v])


def diverge() -> None:
    """Half of the threads go to a barrier."""
    data, out = _argument("data", 256), _argument("out", 256)
    with launch(1, 256) as (_, thread):
        array = _array("shared", 256)
        tir.buffer_store(array, data[thread], [thread])
        with tir.If(thread < 128), tir.Then():
            synchronise()
            tir.buffer_store(out, array[thread], [thread])


def out_of_bounds() -> None:
    """The last thread reads far beyond its input."""
    data, out = _argument("data", 256), _argument("out", 256)
    with launch(1, 256) as (_, thread):
        tir.buffer_store(out, data[thread * 64], [thread])
