"""The judge is judged: each operator against a few lines of numpy that follow ONNX's definition."""

from typing import Any

import numpy as np
import pytest
import torch
from networks import lively_weights, noise, relative_error, tiny_graph
from numpy.typing import NDArray

from effgen.graph import Graph, GraphBuilder, Value
from effgen.graph.ops import OPS
from effgen.graph.reference import GraphModule, run_reference

Array = NDArray[Any]


def run_one(op_type: str, shapes: list[tuple[int, ...]], **attributes: Any) -> tuple[list[Array], Array]:
    """Random operands of the shapes (the first is the image) and what the reference makes of them."""
    b = GraphBuilder("one", Value("x", shapes[0]))
    roles: Any = ("norm_scale", "norm_bias", "norm_mean", "norm_var") if len(shapes) == 5 else ("kernel", "bias")
    names = [b.parameter(f"p{i}", shape, roles[i]) for i, shape in enumerate(shapes[1:])]
    graph = b.finish(b.add(op_type, ["x", *names], "y", **attributes))
    weights = (
        lively_weights(graph)
        if op_type == "BatchNormalization"
        else {n: noise(graph.parameters[n].shape) for n in names}
    )
    image = 3 * noise(shapes[0], seed=1)
    return [image, *(weights[name] for name in names)], run_reference(graph, weights, image)


def conv_by_hand(x: Array, w: Array, b: Array, pads: tuple[int, ...], strides: tuple[int, ...], group: int) -> Array:
    top, left, bottom, right = pads
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows = (x.shape[2] - w.shape[2]) // strides[0] + 1
    columns = (x.shape[3] - w.shape[3]) // strides[1] + 1
    out = np.zeros((x.shape[0], w.shape[0], rows, columns))
    share_in, share_out = w.shape[1], w.shape[0] // group
    for o in range(w.shape[0]):
        first = o // share_out * share_in
        for r in range(rows):
            for c in range(columns):
                i, j = r * strides[0], c * strides[1]
                window = x[:, first : first + share_in, i : i + w.shape[2], j : j + w.shape[3]]
                out[:, o, r, c] = (window * w[o]).sum((1, 2, 3)) + b[o]
    return out


@pytest.mark.parametrize(
    ("pads", "strides", "group", "kernel"),
    [
        ((1, 1, 1, 1), (1, 1), 1, (6, 4, 3, 3)),
        ((0, 0, 1, 1), (2, 2), 1, (6, 4, 3, 3)),
        ((1, 0, 2, 1), (2, 1), 2, (6, 2, 5, 3)),
        ((2, 2, 2, 2), (1, 1), 4, (4, 1, 5, 5)),
        ((0, 0, 0, 0), (1, 1), 1, (3, 4, 1, 1)),
    ],
)
def test_conv(pads: tuple[int, ...], strides: tuple[int, ...], group: int, kernel: tuple[int, ...]) -> None:
    shapes = [(2, 4, 7, 9), kernel, (kernel[0],)]
    operands, found = run_one("Conv", shapes, pads=pads, strides=strides, group=group)
    x, w, b = operands
    expected = conv_by_hand(x, w, b, pads, strides, group)
    assert found.shape == expected.shape
    assert relative_error(found, expected) < 1e-6


def test_batch_normalization() -> None:
    (x, *parameters), found = run_one("BatchNormalization", [(2, 3, 4, 5), *[(3,)] * 4], epsilon=0.05)
    scale, shift, mean, var = (p.reshape(1, 3, 1, 1) for p in parameters)
    assert relative_error(found, (x - mean) / np.sqrt(var + 0.05) * scale + shift) < 1e-6


def test_gemm() -> None:
    (x, weight, bias), found = run_one("Gemm", [(2, 8), (5, 8), (5,)], transB=1)
    assert relative_error(found, x @ weight.T + bias) < 1e-6


def test_pool_and_flatten() -> None:
    (x,), found = run_one("GlobalAveragePool", [(2, 3, 4, 5)])
    assert relative_error(found, x.mean((2, 3), keepdims=True)) < 1e-6
    (x,), found = run_one("Flatten", [(2, 3, 4, 1)], axis=1)
    np.testing.assert_array_equal(found, x.reshape(2, 12))


@pytest.mark.parametrize(
    ("op_type", "attributes", "by_hand"),
    [
        ("Sigmoid", {}, lambda x: 1 / (1 + np.exp(-x))),
        ("Swish", {}, lambda x: x / (1 + np.exp(-x))),
        ("Relu", {}, lambda x: np.maximum(x, 0)),
        ("Identity", {}, lambda x: x),
        ("Clip", {"min": 0.0, "max": 6.0}, lambda x: np.clip(x, 0, 6)),
        ("HardSigmoid", {"alpha": 0.25, "beta": 0.4}, lambda x: np.clip(0.25 * x + 0.4, 0, 1)),
        ("HardSwish", {}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
        ("LeakyRelu", {"alpha": 0.2}, lambda x: np.where(x < 0, 0.2 * x, x)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_elementwise(op_type: str, attributes: dict[str, float], by_hand: Any) -> None:
    (x,), found = run_one(op_type, [(2, 3, 8, 8)], **attributes)
    assert relative_error(found, by_hand(x.astype(np.float64))) < 1e-6


def windows_by_hand(x: Array, kernel: tuple[int, ...], pads: tuple[int, ...], strides: tuple[int, ...], fill: float,
                    dilations: tuple[int, ...] = (1, 1)) -> Array:  # fmt: skip
    """Every window of the padded image: (batch, channels, rows, columns, taps)."""
    top, left, bottom, right = pads
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    size = [(kernel[i] - 1) * dilations[i] + 1 for i in range(2)]
    rows, columns = ((x.shape[2 + i] - size[i]) // strides[i] + 1 for i in range(2))
    found = np.empty((*x.shape[:2], rows, columns, kernel[0] * kernel[1]))
    for r in range(rows):
        for c in range(columns):
            i, j = r * strides[0], c * strides[1]
            tap = x[:, :, i : i + size[0] : dilations[0], j : j + size[1] : dilations[1]]
            found[:, :, r, c] = tap.reshape(*x.shape[:2], -1)
    return found


def test_conv_with_dilation() -> None:
    shapes = [(2, 4, 9, 11), (6, 4, 3, 2), (6,)]
    (x, w, b), found = run_one("Conv", shapes, pads=(2, 1, 1, 0), strides=(2, 1), group=1, dilations=(2, 3))
    spread = np.zeros((6, 4, 5, 4))
    spread[:, :, ::2, ::3] = w
    assert relative_error(found, conv_by_hand(x, spread, b, (2, 1, 1, 0), (2, 1), 1)) < 1e-6


@pytest.mark.parametrize("dilations", [(1, 1), (2, 1)])
@pytest.mark.parametrize(
    ("kernel", "pads", "strides"), [((3, 3), (1, 1, 1, 1), (2, 2)), ((2, 3), (0, 2, 1, 0), (1, 2))]
)
def test_max_pool(kernel: Any, pads: Any, strides: Any, dilations: Any) -> None:
    (x,), found = run_one(
        "MaxPool", [(2, 3, 8, 9)], kernel_shape=kernel, pads=pads, strides=strides, dilations=dilations
    )
    np.testing.assert_array_equal(found, windows_by_hand(x, kernel, pads, strides, -np.inf, dilations).max(-1))


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("beyond", [None, (1, 0)])
def test_average_pool(counted: int, beyond: Any) -> None:
    kernel, pads, strides = (3, 2), (1, 1, 2, 0), (2, 1)
    window: Any = {"kernel_shape": kernel, "pads": pads, "strides": strides}
    window |= {} if beyond is None else {"beyond": beyond}
    (x,), found = run_one("AveragePool", [(2, 3, 8, 9)], count_include_pad=counted, **window)
    ones = np.ones_like(x)
    if counted:
        down, across = beyond or (0, 0)
        ones = np.pad(ones, ((0, 0), (0, 0), (1, 2 - down), (1, 0 - across)), constant_values=1)
        ones = np.pad(ones, ((0, 0), (0, 0), (0, down), (0, across)))
        counts = windows_by_hand(ones, kernel, (0, 0, 0, 0), strides, 0).sum(-1)
    else:
        counts = windows_by_hand(ones, kernel, pads, strides, 0).sum(-1)
    assert relative_error(found, windows_by_hand(x, kernel, pads, strides, 0).sum(-1) / counts) < 1e-6


def test_what_moves_channels() -> None:
    (x,), found = run_one("Slice", [(2, 6, 4, 5)], axes=(1,), starts=(1,), ends=(4,), steps=(1,))
    np.testing.assert_array_equal(found, x[:, 1:4])
    (x,), found = run_one("ChannelShuffle", [(2, 6, 4, 5)], group=2)
    np.testing.assert_array_equal(found, x[:, [0, 3, 1, 4, 2, 5]])
    (x, p), found = run_one("Concat", [(2, 3, 4, 5), (2, 1, 4, 5)], axis=1)
    np.testing.assert_array_equal(found, np.concatenate([x, p], 1))


def test_softmax() -> None:
    (x,), found = run_one("Softmax", [(2, 7)], axis=1)
    exponentials = np.exp(x.astype(np.float64))
    assert relative_error(found, exponentials / exponentials.sum(1, keepdims=True)) < 1e-6


@pytest.mark.parametrize(("op_type", "by_hand"), [("Add", np.add), ("Mul", np.multiply)])
def test_binary_operators_broadcast(op_type: str, by_hand: Any) -> None:
    (x, p), found = run_one(op_type, [(2, 3, 4, 5), (1, 3, 1, 1)])
    np.testing.assert_allclose(found, by_hand(x, p), rtol=1e-6)


def test_every_operator_runs() -> None:
    """Those that no test above judges are judged by ONNX's own tests (test_onnx_nodes.py)."""
    from effgen.graph.reference import _RUN

    assert OPS.keys() == _RUN.keys()


@pytest.fixture(scope="module")
def graph() -> Graph:
    return tiny_graph(batch=2)


def test_a_batch_is_its_images_one_by_one(graph: Graph) -> None:
    weights, images = lively_weights(graph), noise(graph.input.shape)
    together = run_reference(graph, weights, images)
    assert together.shape == (2, 10)
    alone = [run_reference(graph, weights, image[None])[0] for image in images]
    assert relative_error(together, np.stack(alone)) < 1e-5


def test_read_only_images_and_repeated_calls(graph: Graph) -> None:
    weights, image = lively_weights(graph), noise(graph.input.shape)
    first = run_reference(graph, weights, image)
    image.flags.writeable = False
    np.testing.assert_array_equal(run_reference(graph, weights, image), first)


def test_double_precision_judges_single(graph: Graph) -> None:
    weights, image = lively_weights(graph), noise(graph.input.shape)
    exact = GraphModule(graph, weights, torch.float64)(torch.from_numpy(image).double()).numpy()
    assert exact.dtype == np.float64
    assert 0 < relative_error(run_reference(graph, weights, image), exact) < 2e-6
