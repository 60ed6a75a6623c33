"""The tuner's judge against the definitions written as loops, and against PyTorch."""

from itertools import product
from math import exp

import numpy as np
import pytest
from numpy.typing import NDArray

from effgen.kernels.packing import INPUT_SCALE, input_shapes, pack_bias, pack_weight
from effgen.kernels.reference import random_inputs, reference_outputs
from effgen.kernels.workload import (
    Activation,
    ChannelScale,
    Concat,
    Conv2d,
    ExpandDepthwise,
    GlobalAveragePool,
    Pool2d,
    SqueezeExcite,
    Workload,
)
from effgen.machines.target import Machine, load_target

MACHINE = load_target("x86-64-v3")

CONVOLUTIONS = [
    Conv2d(2, 3, 5, 7, 13, activation="silu", residual=True),
    Conv2d(2, 3, 5, 7, 13, activation="silu", residual=True, activation_last=True),
    Conv2d(2, 3, 5, 7, 16, gated=True, activation="hard_swish"),
    Conv2d(2, 1, 1, 9, 21, activation="sigmoid"),
    Conv2d(1, 7, 6, 3, 11, (3, 3), (2, 2), (1, 1, 0, 1), data_layout="NCHW", activation="relu6"),
    Conv2d(1, 7, 6, 5, 8, (3, 2), (1, 2), (0, 1, 1, 0), activation="relu", residual=True),
    Conv2d(2, 7, 5, 11, 11, (3, 5), (2, 1), (1, 2, 1, 2), groups=11, activation="hard_sigmoid", row_sums=True),
    Conv2d(1, 5, 4, 6, 4, (3, 3), (1, 1), (1, 1, 1, 1), groups=2),
    Conv2d(2, 3, 5, 7, 13, activation="relu", residual=True, activation_last=True),
    Conv2d(1, 9, 8, 5, 8, (3, 2), (1, 2), (2, 1, 1, 0), dilation=(2, 3), activation="relu6"),
    Conv2d(1, 7, 6, 6, 4, (3, 3), (1, 1), (2, 2, 2, 2), groups=2, dilation=(2, 2)),
    Conv2d(1, 7, 6, 5, 8, (3, 3), (1, 2), (2, 1, 2, 1), dilation=(2, 1)),
]
OTHERS: list[Workload] = [
    GlobalAveragePool(2, 3, 5, 7),
    ChannelScale(2, 3, 5, 7),
    Pool2d("max", 2, 7, 5, 3, (3, 2), (2, 1), (1, 1, 0, 0), dilation=(2, 1)),
    Pool2d("average", 2, 7, 5, 3, (3, 2), (2, 1), (1, 1, 2, 0)),
    Pool2d("average", 2, 7, 5, 3, (3, 2), (2, 1), (1, 1, 2, 0), (1, 1, 1, 0)),
    Concat(2, 3, 5, (7, 2, 2)),
    Concat(2, 3, 5, (7, 2), affine=True, activation="relu"),
    SqueezeExcite(2, 3, 5, 19, 5, "silu", "sigmoid"),
    ExpandDepthwise(
        Conv2d(1, 5, 6, 3, 13, activation="silu"),
        Conv2d(1, 5, 6, 13, 13, (3, 3), (2, 2), (1, 1, 1, 1), groups=13, activation="silu", row_sums=True),
    ),
    ExpandDepthwise(
        Conv2d(2, 7, 9, 3, 13, (3, 3), (2, 2), (0, 1, 1, 0), data_layout="NCHW", activation="silu"),
        Conv2d(2, 3, 4, 13, 13, (3, 3), (1, 1), (1, 1, 1, 1), groups=13, activation="relu", row_sums=True),
    ),
]


def inputs_of(workload: Workload, machine: Machine = MACHINE) -> dict[str, NDArray[np.float32]]:
    return random_inputs(workload, machine, np.random.default_rng(0))


def scalar(x: float, activation: Activation) -> float:
    sigmoid, hard = 1 / (1 + exp(-x)), min(max(x + 3, 0), 6) / 6
    return {
        "none": x,
        "silu": x * sigmoid,
        "sigmoid": sigmoid,
        "relu": max(x, 0),
        "relu6": min(max(x, 0), 6),
        "hard_sigmoid": hard,
        "hard_swish": x * hard,
    }[activation]


def packed_weight(workload: Conv2d, weight: NDArray[np.float32], n: int, k: int, y: int, x: int) -> float:
    if workload.family == "grouped":
        return float(weight[n, y, x, k])
    vector, lane = divmod(n, weight.shape[-1])
    return float(weight[vector, y, x, lane] if workload.family == "depthwise" else weight[vector, y, x, k, lane])


def naive(workload: Conv2d, inputs: dict[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    data = inputs["data"] if workload.data_layout == "NHWC" else inputs["data"].transpose(0, 2, 3, 1)
    depth, wide = workload.in_channels // workload.groups, workload.out_channels // workload.groups
    out = np.zeros(workload.out_shape)
    for b, oy, ox, n in product(*map(range, workload.out_shape)):
        total = float(inputs["bias"].reshape(-1)[n])
        for ky, kx, k in product(*map(range, workload.kernel), range(depth)):
            y = oy * workload.stride[0] + ky * workload.dilation[0] - workload.padding[0]
            x = ox * workload.stride[1] + kx * workload.dilation[1] - workload.padding[1]
            if 0 <= y < workload.height and 0 <= x < workload.width:
                channel = n // wide * depth + k
                gate = float(inputs["gate"][b, 0, 0, channel]) if workload.gated else 1.0
                weight = packed_weight(workload, inputs["weight"], n, k, ky, kx)
                total += float(data[b, y, x, channel]) * gate * weight
        total /= INPUT_SCALE.get(workload.activation, 1.0)
        residual = float(inputs["residual"][b, oy, ox, n]) if workload.residual else 0.0
        if workload.activation_last:
            out[b, oy, ox, n] = scalar(total + residual, workload.activation)
        else:
            out[b, oy, ox, n] = scalar(total, workload.activation) + residual
    return out


@pytest.mark.parametrize("workload", CONVOLUTIONS, ids=lambda workload: workload.name)
def test_convolutions_against_loops(workload: Conv2d) -> None:
    inputs = inputs_of(workload)
    found, expected = reference_outputs(workload, inputs, MACHINE), naive(workload, inputs)
    np.testing.assert_allclose(found[0], expected, rtol=1e-12, atol=1e-12)
    if workload.row_sums:
        np.testing.assert_allclose(found[1], expected.sum(2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("workload", [other for other in OTHERS if isinstance(other, ExpandDepthwise)])
def test_expand_depthwise_is_both_in_turn(workload: ExpandDepthwise) -> None:
    """The padding is of zeros after the first activation, not before it."""
    inputs = inputs_of(workload)
    layers = (
        {name.removeprefix(prefix): array for name, array in inputs.items()} for prefix in ("expand_", "depthwise_")
    )
    first, second = layers
    expected = naive(workload.depthwise, {**second, "data": naive(workload.expand, first)})  # type: ignore[dict-item]
    out, sums = reference_outputs(workload, inputs, MACHINE)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(sums, expected.sum(2), rtol=1e-12, atol=1e-12)


def test_squeeze_excite_from_row_sums() -> None:
    workload = SqueezeExcite(2, 3, 5, 19, 5, "silu", "sigmoid")
    inputs = inputs_of(workload)
    mean = inputs["sums"].astype(np.float64).sum(1) / 15
    first = {"data": mean[:, None, None], "weight": inputs["squeeze_weight"], "bias": inputs["squeeze_bias"]}
    squeezed = naive(workload.squeeze, first)  # type: ignore[arg-type]
    second = {"data": squeezed, "weight": inputs["excite_weight"], "bias": inputs["excite_bias"]}
    expected = naive(workload.excite, second)  # type: ignore[arg-type]
    np.testing.assert_allclose(reference_outputs(workload, inputs, MACHINE)[0], expected, rtol=1e-12)


def test_pool_and_scale() -> None:
    pool, scale = GlobalAveragePool(2, 3, 5, 7), ChannelScale(2, 3, 5, 7)
    data = inputs_of(pool)["data"].astype(np.float64)
    np.testing.assert_allclose(reference_outputs(pool, inputs_of(pool), MACHINE)[0][:, 0, 0], data.mean(1).mean(1))
    inputs = inputs_of(scale)
    expected = inputs["data"].astype(np.float64) * inputs["gate"].reshape(2, 1, 1, 7)
    np.testing.assert_array_equal(reference_outputs(scale, inputs, MACHINE)[0], expected)


@pytest.mark.parametrize("workload", [other for other in OTHERS if isinstance(other, Pool2d)])
def test_windows_against_torch(workload: Pool2d) -> None:
    functional = pytest.importorskip("torch").nn.functional
    torch = pytest.importorskip("torch")
    inputs = inputs_of(workload)
    image = torch.from_numpy(inputs["data"]).double().permute(0, 3, 1, 2)
    top, left, bottom, right = workload.padding
    if workload.mode == "max":
        padded = functional.pad(image, (left, right, top, bottom), value=-torch.inf)
        expected = functional.max_pool2d(padded, workload.kernel, workload.stride, dilation=workload.dilation)
    else:
        marks = functional.pad(torch.ones_like(image), _torch_pads(workload.counted), value=1.0)
        rest = tuple(a - b for a, b in zip(workload.padding, workload.counted, strict=True))
        marks, image = functional.pad(marks, _torch_pads(rest)), functional.pad(image, (left, right, top, bottom))
        sums, counts = (
            functional.avg_pool2d(x, workload.kernel, workload.stride, divisor_override=1) for x in (image, marks)
        )
        expected = sums / counts
    found = reference_outputs(workload, inputs, MACHINE)[0]
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), rtol=1e-12, atol=1e-12)


def _torch_pads(pads: tuple[int, ...]) -> tuple[int, ...]:
    top, left, bottom, right = pads
    return (left, right, top, bottom)


def test_joined_images() -> None:
    workload = Concat(2, 3, 5, (7, 2), affine=True, activation="relu")
    inputs = inputs_of(workload)
    joined = np.concatenate([inputs["data0"], inputs["data1"]], 3).astype(np.float64)
    expected = np.maximum(joined * inputs["factor"] + inputs["summand"], 0)
    np.testing.assert_array_equal(reference_outputs(workload, inputs, MACHINE)[0], expected)


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("workload", [*CONVOLUTIONS, *OTHERS], ids=lambda workload: workload.name)
def test_shapes_scale_and_filling_lanes(workload: Workload, target: str) -> None:
    machine = load_target(target)
    inputs = inputs_of(workload, machine)
    assert {name: array.shape for name, array in inputs.items()} == input_shapes(workload, machine)
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in inputs.values())
    outputs = reference_outputs(workload, inputs, machine)
    assert tuple(out.shape for out in outputs) == workload.out_shapes
    assert all(out.dtype == np.float64 and 0.05 < np.sqrt((out**2).mean()) < 50 for out in outputs)
    if workload.family == "grouped":  # its weights have no vectors to fill up
        return
    # Zeros fill the last vector up; whatever else stands there changes nothing.
    poisoned = {name: poison(array) if "weight" in name or "bias" in name else array for name, array in inputs.items()}
    for found, expected in zip(reference_outputs(workload, poisoned, machine), outputs, strict=True):
        np.testing.assert_array_equal(found, expected)


def poison(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """NaN in every lane of the last block that is zero throughout, that is, in those that only fill it up."""
    copy = array.copy()
    lanes = ~copy[-1].reshape(-1, copy.shape[-1]).any(0)
    copy[-1][..., lanes] = np.nan
    return copy


@pytest.mark.parametrize("workload", CONVOLUTIONS, ids=lambda workload: workload.name)
def test_convolutions_against_torch(workload: Conv2d) -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(1)
    shape = (workload.out_channels, workload.in_channels // workload.groups, *workload.kernel)
    weight = generator.standard_normal(shape, dtype=np.float32)
    bias = generator.standard_normal(workload.out_channels, dtype=np.float32)
    inputs = inputs_of(workload)
    inputs |= {"weight": pack_weight(workload, weight, MACHINE), "bias": pack_bias(workload, bias, MACHINE)}
    image = torch.from_numpy(inputs["data"]).double()
    image = image if workload.data_layout == "NCHW" else image.permute(0, 3, 1, 2)
    if workload.gated:
        image = image * torch.from_numpy(inputs["gate"]).permute(0, 3, 1, 2)
    top, left, bottom, right = workload.padding
    image = torch.nn.functional.pad(image, (left, right, top, bottom))
    parameters = (torch.from_numpy(weight).double(), torch.from_numpy(bias).double())
    out = torch.nn.functional.conv2d(
        image, *parameters, stride=workload.stride, groups=workload.groups, dilation=workload.dilation
    )
    sums = out.permute(0, 2, 3, 1).numpy()
    sums = sums + inputs["residual"] if workload.activation_last else sums
    expected = np.vectorize(scalar, otypes=[float])(sums, workload.activation)
    if workload.residual and not workload.activation_last:
        expected = expected + inputs["residual"]
    # Packed weights are float32 once more after they were scaled for the activation.
    tolerance = 1e-6 if workload.activation in INPUT_SCALE else 1e-12
    np.testing.assert_allclose(
        reference_outputs(workload, inputs, MACHINE)[0], expected, rtol=tolerance, atol=5 * tolerance
    )
