"""Quantised networks: which kernels multiply codes, and that they are exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from call_texts import text_of
from compiling import builder, run_compiled
from networks import lively_weights, noise, relative_error, tiny_graph
from numpy.typing import NDArray

from effgen.compiler.blocks import kernel_calls
from effgen.compiler.calls import KernelCall
from effgen.compiler.codes import with_signed_weights
from effgen.compiler.repertoire import CPU_KERNELS
from effgen.graph import Graph, Weights
from effgen.graph.codes import Grid
from effgen.graph.reference import reference_outputs, run_reference
from effgen.judge.case import tolerance_of_codes
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.machines.dot import dot_of
from effgen.quantization.quantize import Quantization, quantize

pytestmark = pytest.mark.usefixtures("one_torch_thread")

DOTS = {"vpdpbusd": dot_of("x86_64", 64, ["avx512_vnni"]), "sdot": dot_of("aarch64", 16, ["asimddp"])}


@pytest.fixture(scope="module")
def quantised() -> Quantization:
    graph = tiny_graph()
    return quantize(graph, lively_weights(graph), noise((12, 3, 32, 32), seed=4))


@pytest.mark.parametrize("instruction", DOTS)
def test_the_calls_are_as_recorded(
    instruction: str, quantised: Quantization, check_golden: Callable[[str, str], None]
) -> None:
    calls = kernel_calls(quantised.graph, replace(CPU_KERNELS, dot=DOTS[instruction]))
    check_golden(f"tiny.{instruction}.calls.txt", "".join(f"{text_of(call)}\n" for call in calls))


def test_a_network_of_codes(quantised: Quantization, tmp_path: Path) -> None:
    """No further off than rounding moves it."""
    image = noise((1, 3, 32, 32), seed=9)
    graph, weights = quantised.graph, quantised.weights
    expected, found = run_reference(graph, weights, image), run_compiled(graph, weights, image, tmp_path)
    (unrounded,) = reference_outputs(graph, weights, image, rounding=False)
    assert relative_error(found, expected) <= tolerance_of_codes(expected, unrounded) <= 2e-2


def codes_of_image(image: NDArray[np.float32], scale: float, zero: int, kind: str) -> NDArray[np.int64]:
    low, high = {"uint8": (0, 255), "int8": (-128, 127)}[kind]
    return np.clip(np.rint(image / scale) + zero, low, high).astype(np.int64)


def layer(kind: str, zero: int, weights: NDArray[np.float32], grid: Grid, pool: bool = False) -> tuple[Graph, Weights]:
    """A 1x1 convolution of an image that is rounded first, and the codes pooled in between on request."""
    b = builder(channels=weights.shape[1], size=6)
    of = {"scale": (0.25,), "zero_point": (zero,), "axis": 0, "type": kind}
    x = b.add("QuantizeLinear", ["x"], "codes", **of)
    if pool:
        x = b.add("MaxPool", [x], "pooled", kernel_shape=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0))
    x = b.add("DequantizeLinear", [x], "numbers", **of)
    weight = b.parameter("weight", weights.shape, "kernel")
    conv = {"strides": (1, 1), "pads": (0, 0, 0, 0), "group": 1}
    graph = b.finish(b.add("Conv", [x, weight], "conv", **conv))
    parameters = {"weight": replace(graph.parameters["weight"], grid=grid)}
    return replace(graph, parameters=parameters), {"weight": weights}


def kernels_of(graph: Graph, weights: Weights) -> list[str]:
    calls = kernel_calls(with_signed_weights(graph, weights), replace(CPU_KERNELS, dot=DOTS["vpdpbusd"]))
    found = [call.workload for call in calls if isinstance(call, KernelCall)]
    return [workload.dtype for workload in found if isinstance(workload, Conv2d)]


@pytest.mark.parametrize(("kind", "zero"), [("uint8", 100), ("int8", -3), ("uint8", 0)])
def test_sums_are_exact(kind: str, zero: int, tmp_path: Path) -> None:
    """Of integers, at both ends of what codes may be; every scale is a power of two, so that nothing is rounded."""
    generator = np.random.default_rng(3)
    codes = generator.integers(-128, 128, (13, 24))
    codes[0], codes[1] = -128, 127
    scale = np.exp2(generator.integers(-4, 4, 13))
    weights = (codes * scale[:, None]).astype(np.float32)[:, :, None, None]
    graph, arrays = layer(kind, zero, weights, Grid(tuple(scale), (0,) * 13, 0, "int8"))
    assert kernels_of(graph, arrays) == ["uint8"]
    image = (generator.integers(-600, 600, graph.input.shape) / 8).astype(np.float32)
    image[..., 0], image[..., 1] = 1e6, -1e6
    data = codes_of_image(image, 0.25, zero, kind) - zero
    expected = np.einsum("nk,bkhw->bnhw", codes, data) * 0.25 * scale[:, None, None]
    assert np.array_equal(run_compiled(graph, arrays, image, tmp_path), expected)


def test_weights_that_are_no_codes_any_more(tmp_path: Path) -> None:
    """A pass multiplied them; they lie around another zero; they do not fit a byte around zero."""
    weights = np.random.default_rng(3).integers(-100, 100, (8, 16, 1, 1)).astype(np.float32)
    signed, unsigned = Grid((1.0,), (0,), 0, "int8"), Grid((1.0,), (128,), 0, "uint8")
    image = noise((1, 16, 6, 6), seed=1) * 8
    for array, grid, dtype in (
        (weights, signed, "uint8"),
        (weights, unsigned, "uint8"),
        (weights * np.float32(1.1), signed, "float32"),
        (weights + np.float32(120), Grid((1.0,), (20,), 0, "uint8"), "float32"),
        (weights, Grid((1.0,) * 16, (0,) * 16, 1, "int8"), "float32"),
    ):
        graph, arrays = layer("uint8", 100, array, grid)
        assert kernels_of(graph, arrays) == [dtype], grid
        expected, found = run_reference(graph, arrays, image), run_compiled(graph, arrays, image, tmp_path)
        assert relative_error(found, expected) <= 1e-6


def test_codes_that_are_moved_are_numbers(tmp_path: Path) -> None:
    """What stands between a QuantizeLinear and its DequantizeLinear computes on float32."""
    weights = np.random.default_rng(3).integers(-100, 100, (8, 16, 1, 1)).astype(np.float32)
    graph, arrays = layer("int8", 5, weights, Grid((1.0,), (0,), 0, "int8"), pool=True)
    assert kernels_of(graph, arrays) == ["float32"]
    image = noise((1, 16, 6, 6), seed=1) * 8
    assert relative_error(run_compiled(graph, arrays, image, tmp_path), run_reference(graph, arrays, image)) <= 1e-6
