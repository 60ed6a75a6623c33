"""Machine code taken apart: classes of instructions, loops, spills, and how often an emulator's log says each ran."""

import pytest
from arm.emulated_kernels import Layer, count_kernel, count_untuned, cut
from arm.instructions import Mix, executions, innermost_loops, instructions_from_text, mix_of

from effgen.errors import BuildError
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.machines.target import load_target

LISTING = """
lib.so:     file format elf64-littleaarch64

0000000000001000 <kernel>:
    1000:\t3dc00008 \tldr\tq8, [x0]
    1004:\t52800089 \tmov\tw9, #0x4                   \t// #4
    1008:\tad400400 \tldp\tq0, q1, [x1]
    100c:\t3dc003e2 \tldr\tq2, [sp, #16]
    1010:\t4f801028 \tfmla\tv8.4s, v1.4s, v0.s[0]
    1014:\t0e20cc48 \tfmla\tv8.2s, v2.2s, v0.2s
    1018:\t71000529 \tsubs\tw9, w9, #0x1
    101c:\t54ffff61 \tb.ne\t1008 <kernel+0x8>  // b.any
    1020:\t6e28dd08 \tfmul\tv8.4s, v8.4s, v8.4s
    1024:\tf100054a \tsubs\tx10, x10, #0x1
    1028:\t54fffec1 \tb.ne\t1000 <kernel>  // b.any
    102c:\tfd000008 \tstr\td8, [x0]
    1030:\td65f03c0 \tret

0000000000001040 <other>:
    1040:\t1f000820 \tfmadd\ts0, s1, s0, s2
    1044:\t17ffffef \tb\t1000 <kernel>
"""

LOG = """----------------
IN: kernel
0x5500001000:  3dc00008  ldr      q8, [x0]
0x5500001004:  52800089  movz     w9, #0x4

Trace 0: 0x7f97ac8b1140 [0000000001009b31/0000005500001000/00000001/00000200] kernel
Trace 0: 0x7f97ac8b1140 [0000000001009b31/0000005500001000/00000001/00000200] kernel
----------------
IN:
0x5500001010:  4f801028  fmla     v8.4s, v1.4s, v0.s[0]

Trace 0: 0x7f97ac8b1540 [0000000001009b31/0000005500001010/00000001/00000200]
"""


def test_classes() -> None:
    mix = mix_of((instruction, 1) for instruction in instructions_from_text(LISTING))
    # The scalar ones: mov, two subs, two b.ne, ret, b, and a multiply-add of single values.
    assert mix == Mix(multiply_adds=2, arithmetic=1, loads=3, stores=1, scalar=8)
    assert (mix.vector, mix.all, mix.share, mix.share_of_arithmetic) == (7, 15, 2 / 7, 2 / 3)
    assert (Mix().share, Mix().share_of_arithmetic) == (0, 0)


def test_innermost_loops_and_spills() -> None:
    (loop,) = innermost_loops(instructions_from_text(LISTING))  # a jump into another function is no loop
    assert [hex(instruction.address) for instruction in (loop.instructions[0], loop.instructions[-1])] == [
        "0x1008",
        "0x101c",
    ]
    assert loop.mix == Mix(multiply_adds=2, loads=2, scalar=2)
    assert loop.spills == 1 and loop.multiplies


def test_executions() -> None:
    instructions = instructions_from_text(LISTING)
    ran = executions(LOG.splitlines(), 0x5500000000, instructions)
    assert {instruction.address: count for instruction, count in ran.items()} == {0x1000: 2, 0x1004: 2, 0x1010: 1}
    assert mix_of(ran.items()) == Mix(multiply_adds=1, loads=2, scalar=2)


def test_log_of_another_library_is_refused() -> None:
    instructions = instructions_from_text(LISTING)
    for base in (0x5500000010, 0x6600000000):
        with pytest.raises(BuildError, match="the emulator's log: 0x5500001000 is not the library's"):
            executions(LOG.splitlines(), base, instructions)
    block_missing = [line for line in LOG.splitlines() if line.startswith("Trace")]
    with pytest.raises(BuildError, match="is not the library's"):
        executions(block_missing, 0x5500000000, instructions)


def test_cut() -> None:
    pointwise = Conv2d(1, 56, 56, 96, 24)
    assert cut(pointwise, 10**9) == pointwise
    assert cut(pointwise, 10**6).data_shape == (1, 8, 56, 96)
    depthwise = Conv2d(1, 112, 112, 32, 32, (3, 3), (2, 2), (1, 1, 1, 1), groups=32)
    stem = Conv2d(1, 224, 224, 3, 32, (3, 3), (2, 2), (1, 1, 1, 1), data_layout="NCHW")
    smaller = cut(ExpandDepthwise(stem, depthwise), 10**6)
    assert isinstance(smaller, ExpandDepthwise) and smaller.macs < 2 * 10**6
    assert (smaller.expand.height, smaller.depthwise.height) == (20, 10)


# Under the emulator.

GATED = Conv2d(1, 28, 28, 240, 40, gated=True, residual=True)
FEW_ROWS = Conv2d(1, 7, 7, 1152, 320, gated=True)


def expanded(size: int, channels: int, factor: int, kernel: int, stride: int) -> Layer:
    """An expansion inside a depthwise kernel, as EfficientNets have it."""
    wide, pad = channels * factor, kernel // 2
    expand = Conv2d(1, size, size, channels, wide, activation="silu")
    window = {"kernel": (kernel, kernel), "stride": (stride, stride), "padding": (pad, pad, pad, pad)}
    return ExpandDepthwise(
        expand, Conv2d(1, size, size, wide, wide, groups=wide, activation="silu", row_sums=True, **window)
    )


@pytest.mark.arm
@pytest.mark.parametrize("target", ["rpi4", "graviton3"])
@pytest.mark.parametrize("layer", [Conv2d(1, 56, 56, 96, 24, gated=True), GATED, Conv2d(1, 14, 14, 672, 112)])
def test_pointwise_kernels_mostly_multiply_and_add(layer: Conv2d, target: str) -> None:
    counted = count_kernel(layer, load_target(target))
    # Without types of buffers (effgen.kernels.lowering) LLVM loads a little more: 0.797 on graviton3.
    assert counted.mix.share >= 0.79 and counted.mix.share_of_arithmetic >= 0.95
    assert counted.busiest.mix.share >= 0.8 and counted.spills == 0
    # Each multiply-add instruction is one of four lanes; tiles that overlap compute a little twice.
    assert layer.macs <= 4 * counted.mix.multiply_adds <= 1.1 * layer.macs


@pytest.mark.arm
@pytest.mark.parametrize(
    "layer", [FEW_ROWS, expanded(14, 112, 6, 5, 1), expanded(14, 80, 6, 3, 1), expanded(56, 24, 6, 5, 2)]
)
def test_busiest_loops_do_not_spill(layer: Layer) -> None:
    counted = count_kernel(layer, load_target("rpi4"))
    assert counted.busiest.mix.share >= 0.8 and counted.spills == 0


@pytest.mark.arm
def test_untuned_takes_more_instructions() -> None:
    machine = load_target("rpi4")
    layer = cut(GATED, 500_000)
    ours, untuned = count_kernel(layer, machine), count_untuned(layer, machine)
    assert ours.macs == untuned.macs and 2 * ours.per_mac < untuned.per_mac
