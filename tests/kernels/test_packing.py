"""Packed weights hold every weight in the stated place, scaled as its activation wants it; zeros elsewhere."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from effgen.kernels.kinds.concat import Concat
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.packing import (
    INPUT_SCALE,
    bias_shape,
    input_shapes,
    kernel_arguments,
    pack_bias,
    pack_weight,
    summands,
    taps,
    weight_shape,
)
from effgen.kernels.workload import Workload
from effgen.machines.target import load_target

MACHINE = load_target("x86-64-v4")


@pytest.mark.parametrize(
    ("channels", "lanes", "vectors"),
    [(32, 16, 2), (24, 8, 3), (40, 8, 5), (1000, 8, 125), (13, 16, 1), (6, 16, 1), (21, 16, 2), (50, 16, 4)],
)
def test_channels_become_vectors(channels: int, lanes: int, vectors: int) -> None:
    workload = Conv2d(1, 9, 9, 5, channels, (3, 2))
    weight = np.random.default_rng(0).standard_normal((channels, 5, 3, 2), dtype=np.float32)
    packed = pack_weight(workload, weight, MACHINE)
    assert packed.shape == weight_shape(workload, MACHINE) == (vectors, 3, 2, 5, lanes)
    assert packed.flags.c_contiguous
    starts = starts_of(channels, lanes, vectors)
    for vector, start in zip(packed.transpose(0, 4, 3, 1, 2), starts, strict=True):
        filled = min(lanes, channels)
        np.testing.assert_array_equal(vector[:filled], weight[start : start + lanes])
        assert not vector[filled:].any()
    bias = weight[:, 0, 0, 0]
    packed_bias = pack_bias(workload, bias, MACHINE)
    assert packed_bias.shape == bias_shape(workload, MACHINE) == (vectors, lanes)
    for row, start in zip(packed_bias, starts, strict=True):
        np.testing.assert_array_equal(row[: min(lanes, channels)], bias[start : start + lanes])
        assert not row[channels:].any()
    np.testing.assert_array_equal(summands(workload.input("bias"), packed_bias.astype(np.float64)), bias)
    unpacked = taps(workload.input("weight"), packed.astype(np.float64))
    np.testing.assert_array_equal(unpacked, weight.transpose(2, 3, 1, 0))


def starts_of(channels: int, lanes: int, vectors: int) -> list[int]:
    """First channels one vector after the other, up to the channels' end."""
    starts = [min(index * lanes, max(0, channels - lanes)) for index in range(vectors)]
    assert starts[-1] + lanes >= channels and all(0 < b - a <= lanes for a, b in pairwise(starts))
    return starts


@pytest.mark.parametrize(
    ("half_product", "channels", "lanes"),
    [
        (0.5, 24, 8),
        (1.0, 24, 16),  # two whole vectors beside three half ones
        (1.0, 8, 8),
        (0.8, 24, 16),
        (0.6, 24, 8),
        (0.6, 264, 16),
        (1.0, 23, 16),
        (1.0, 5, 16),
    ],
)
def test_half_vectors_where_they_take_fewer_cycles(half_product: float, channels: int, lanes: int) -> None:
    costs = MACHINE.costs.model_copy(update={"half_product": half_product})
    assert replace(MACHINE, costs=costs).packed_lanes(channels) == lanes


def test_depthwise_has_no_depth_axis() -> None:
    workload = Conv2d(1, 9, 9, 48, 48, (3, 3), groups=48)
    weight = np.arange(48 * 9, dtype=np.float32).reshape(48, 1, 3, 3)
    packed = pack_weight(workload, weight, MACHINE)
    assert packed.shape == (3, 3, 3, 16)
    assert packed[2, 1, 0, 5] == weight[37, 0, 1, 0]


@pytest.mark.parametrize(
    ("groups", "width", "starts", "lanes"),
    [
        (2, 32, (0, 16, 32, 48), 16),
        (2, 24, (0, 8, 16, 24, 32, 40), 8),  # half vectors leave no rest
        (3, 20, (0, 4, 20, 24, 40, 44), 16),  # the second of each group is moved back
        (3, 8, (0, 8, 16), 8),
        (9, 4, (0, 16, 20), 16),  # four groups a vector
        (2, 6, (0,), 12),  # no more lanes than channels
    ],
)
def test_grouped_channels_become_vectors(groups: int, width: int, starts: tuple[int, ...], lanes: int) -> None:
    channels = groups * width
    workload = Conv2d(1, 9, 9, 5 * groups, channels, (3, 2), groups=groups)
    weight = np.random.default_rng(0).standard_normal((channels, 5, 3, 2), dtype=np.float32)
    packed, bias = pack_weight(workload, weight, MACHINE), pack_bias(workload, weight[:, 1, 2, 0], MACHINE)
    assert packed.shape == weight_shape(workload, MACHINE) == (len(starts), 3, 2, 5, lanes)
    assert bias.shape == bias_shape(workload, MACHINE) == (len(starts), lanes)
    for vector, start in enumerate(starts):
        own = weight[start : start + lanes]
        np.testing.assert_array_equal(packed[vector], own.transpose(2, 3, 1, 0))
        np.testing.assert_array_equal(bias[vector], own[:, 1, 2, 0])
    np.testing.assert_array_equal(taps(workload.input("weight"), packed.astype("f8")), weight.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(summands(workload.input("bias"), bias.astype("f8")), weight[:, 1, 2, 0])


def test_grouped_channels_fill_one_vector_of_a_gpu_up() -> None:
    workload = Conv2d(1, 9, 9, 6, 9, (3, 3), groups=3)
    weight = np.arange(9 * 2 * 9, dtype=np.float32).reshape(9, 2, 3, 3)
    packed = pack_weight(workload, weight, load_target("cuda-sm90"))
    np.testing.assert_array_equal(packed[0, ..., :9], weight.transpose(2, 3, 1, 0))
    assert packed.shape == (1, 3, 3, 2, 16) and not packed[..., 9:].any()


@pytest.mark.parametrize("activation", ["silu", "sigmoid"])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_parameters_make_the_scaled_argument(activation: str, groups: int) -> None:
    workload = Conv2d(1, 9, 9, 8, 8, (3, 3), groups=groups, activation=activation)  # type: ignore[arg-type]
    plain = replace(workload, activation="none")
    weight = np.random.default_rng(0).standard_normal((8, 8 // groups, 3, 3), dtype=np.float32)
    bias = weight[:, 0, 0, 0]
    scale = INPUT_SCALE[workload.activation]
    for pack, array in ((pack_weight, weight), (pack_bias, bias)):
        packed = pack(workload, array, MACHINE)
        assert packed.dtype == np.float32
        np.testing.assert_array_equal(packed, (pack(plain, array, MACHINE).astype(np.float64) * scale).astype("f4"))


def outputs_of(workload: Workload) -> dict[str, tuple[int, ...]]:
    return {output.name: output.shape for output in workload.outputs}


def test_arguments_in_order() -> None:
    gated = Conv2d(2, 5, 6, 24, 40, gated=True, residual=True)
    assert input_shapes(gated, MACHINE) == {
        "data": (2, 5, 6, 24),
        "weight": (5, 1, 1, 24, 8),
        "bias": (5, 8),
        "gate": (2, 1, 1, 24),
        "residual": (2, 5, 6, 40),
    }
    assert list(input_shapes(gated, MACHINE)) == ["data", "weight", "bias", "gate", "residual"]
    assert outputs_of(gated) == {"out": (2, 5, 6, 40)}
    depthwise = Conv2d(2, 5, 6, 40, 40, (3, 3), padding=(1, 1, 1, 1), groups=40, row_sums=True)
    assert list(input_shapes(depthwise, MACHINE)) == ["data", "weight", "bias"]
    assert outputs_of(depthwise) == {"out": (2, 5, 6, 40), "sums_out": (2, 5, 40)}
    whole = ExpandDepthwise(Conv2d(2, 5, 6, 24, 40), depthwise)
    names = ["data", "expand_weight", "expand_bias", "depthwise_weight", "depthwise_bias"]
    assert list(input_shapes(whole, MACHINE)) == names
    assert outputs_of(whole) == outputs_of(depthwise)
    gate = SqueezeExcite(2, 5, 6, 40, 10, "silu", "sigmoid")
    assert input_shapes(gate, MACHINE) == {
        "sums": (2, 5, 40),
        "squeeze_weight": (1, 1, 1, 40, 16),
        "squeeze_bias": (1, 16),
        "excite_weight": (5, 1, 1, 10, 8),
        "excite_bias": (5, 8),
    }
    assert outputs_of(gate) == {"out": (2, 1, 1, 40)}


def test_small_arguments_and_images_of_the_user_are_float32() -> None:
    def types(workload: Workload) -> dict[str, str]:
        typed = workload.with_dtype("float16")
        return {argument.name: argument.dtype for argument in kernel_arguments(typed, MACHINE)}

    half, single = "float16", "float32"
    gated = Conv2d(2, 5, 6, 24, 40, gated=True, residual=True, ahead=((5, 1, 1, 24, 8),))
    names = ["data", "weight", "bias", "gate", "residual", "ahead0", "out"]
    assert types(gated) == dict(zip(names, (half, half, single, single, half, half, half), strict=True))
    stem = Conv2d(1, 8, 8, 3, 16, (3, 3), data_layout="NCHW")
    assert types(stem) == {"data": single, "weight": half, "bias": single, "out": half}
    depthwise = Conv2d(1, 6, 6, 16, 16, (3, 3), padding=(1, 1, 1, 1), groups=16, row_sums=True)
    assert types(ExpandDepthwise(stem, depthwise)) == {
        "data": single,
        "expand_weight": half,
        "expand_bias": single,
        "depthwise_weight": half,
        "depthwise_bias": single,
        "out": half,
        "sums_out": single,
    }
    gate = types(SqueezeExcite(2, 5, 6, 40, 10, "silu", "sigmoid"))
    assert [name for name, dtype in gate.items() if dtype == half] == ["squeeze_weight", "excite_weight"]
    joined = types(Concat(1, 5, 6, (8, 8), affine=True))
    assert [name for name, dtype in joined.items() if dtype == single] == ["factor", "summand"]
