"""Graphs beyond the shipped family, compiled and run against PyTorch: what no kernel of ours computes, too."""

import re
from pathlib import Path

import numpy as np
import pytest

from effgen.driver import CompileRequest, compile_bundle
from effgen.graph import Graph, GraphBuilder, Value, Weights
from effgen.network import NetworkRequest
from effgen.reference import run_reference
from effgen.runtime.library import load_tvm_runtime, prepare_tvm
from effgen.target import load_target
from effgen.verify import relative_l2

TOLERANCE = 1e-5


def random_weights(graph: Graph) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(len(graph.nodes))
    arrays = {}
    for name, parameter in graph.parameters.items():
        array = generator.standard_normal(parameter.shape, dtype=np.float32)
        arrays[name] = np.abs(array) + np.float32(0.5) if parameter.role == "norm_var" else array
    return arrays


def run_compiled(graph: Graph, weights: Weights, image: np.ndarray, folder: Path) -> np.ndarray:
    prepare_tvm()
    from effgen.build import write_library
    from effgen.dump import Dump
    from effgen.importer import relax_from_graph
    from effgen.pipeline import schedule_module
    from effgen.schedules import tvm_target

    machine = load_target("cpu")
    target = tvm_target(machine)
    with target:
        scheduled = schedule_module(relax_from_graph(graph, weights, machine), machine, Dump(None))
        write_library(scheduled, target, folder / "lib.so", Dump(None))
    ffi = load_tvm_runtime()
    vm = ffi.load_module(str(folder / "lib.so"))["vm_load_executable"]()
    vm["vm_initialization"](1, 0, 2)
    aligned = np.empty(image.size * 4 + 64, np.uint8)
    start = -aligned.ctypes.data % 64
    held = aligned[start : start + image.size * 4].view(np.float32).reshape(image.shape)
    held[...] = image
    return np.array(np.from_dlpack(vm["main"](ffi.from_dlpack(held))))


def check(graph: Graph, folder: Path) -> None:
    weights = random_weights(graph)
    image = np.random.default_rng(7).standard_normal(graph.input.shape, dtype=np.float32)
    expected = run_reference(graph, weights, image)
    found = run_compiled(graph, weights, image, folder)
    assert found.shape == expected.shape
    flat = (len(expected), -1)
    assert relative_l2(found.reshape(flat), expected.reshape(flat)) <= TOLERANCE


def conv(b: GraphBuilder, x: str, out: int, name: str, kernel: int = 1, stride: int = 1, group: int = 1) -> str:
    weight = b.parameter(f"{name}.weight", (out, b.shape(x)[1] // group, kernel, kernel), "kernel")
    pads = (kernel // 2,) * 4
    return b.add("Conv", [x, weight], name, group=group, pads=pads, strides=(stride, stride))


def builder(batch: int = 1, channels: int = 8, size: int = 9) -> GraphBuilder:
    return GraphBuilder("test", Value("x", (batch, channels, size, size)))


def norm(b: GraphBuilder, x: str, name: str) -> str:
    channels = (b.shape(x)[1],)
    roles = {"weight": "norm_scale", "bias": "norm_bias", "mean": "norm_mean", "var": "norm_var"}
    names = [b.parameter(f"{name}.{key}", channels, role) for key, role in roles.items()]
    return b.add("BatchNormalization", [x, *names], name, epsilon=1e-3)


def test_operators_without_a_kernel(tmp_path):
    b = builder(batch=2)
    x = norm(b, conv(b, "x", 16, "a", kernel=3), "n")
    kept = [
        b.add("Swish", [x], "swish"),
        b.add("Clip", [x], "clip", min=-0.5, max=2.0),
        b.add("HardSwish", [x], "hswish"),
        b.add("HardSigmoid", [x], "hsigmoid", alpha=0.2, beta=0.4),
        b.add("Relu", [x], "relu"),
        b.add("Sigmoid", [x], "sigmoid"),
    ]
    total = kept[0]
    for index, other in enumerate(kept[1:]):
        total = b.add("Add" if index % 2 else "Mul", [total, other], f"t{index}")
    check(b.finish(total), tmp_path)


def test_residual_blocks_and_double_use(tmp_path):
    b = builder(channels=3, size=15)
    stem = b.add("Relu", [conv(b, "x", 12, "stem", kernel=3, stride=2)], "stem.relu")
    left = conv(b, stem, 12, "left", kernel=3)
    right = conv(b, stem, 12, "right", group=12, kernel=5)
    total = b.add("Relu", [b.add("Add", [left, right], "sum")], "sum.relu")
    doubled = b.add("Add", [total, total], "doubled")
    check(b.finish(conv(b, doubled, 20, "last", group=4, kernel=3)), tmp_path)


def test_flatten_of_a_whole_image_and_gemm_with_activation(tmp_path):
    b = builder(batch=3, size=5)
    flat = b.add("Flatten", [conv(b, "x", 7, "a")], "flat", axis=1)
    weight, bias = b.parameter("w", (11, 7 * 25), "kernel"), b.parameter("b", (11,), "bias")
    check(b.finish(b.add("Relu", [b.add("Gemm", [flat, weight, bias], "fc", transB=1)], "out")), tmp_path)


def test_image_read_by_other_than_a_convolution(tmp_path):
    b = builder(channels=4)
    gate = b.add("Sigmoid", [conv(b, b.add("GlobalAveragePool", ["x"], "pool"), 4, "fc")], "gate")
    check(b.finish(b.add("Mul", ["x", gate], "out")), tmp_path)


@pytest.mark.parametrize("activation", ["Swish", "Relu", "HardSwish", "Sigmoid", "HardSigmoid", "Clip"])
def test_activation_epilogues(activation, tmp_path):
    attributes = {"Clip": {"min": 0.0, "max": 6.0}, "HardSigmoid": {"alpha": 1 / 6, "beta": 0.5}}
    b = builder(channels=24)
    x = b.add(activation, [conv(b, "x", 24, "a", kernel=3)], "act", **attributes.get(activation, {}))
    x = b.add(activation, [conv(b, x, 24, "b", kernel=3, group=24)], "act2", **attributes.get(activation, {}))
    x = b.add(activation, [conv(b, x, 40, "c")], "act3", **attributes.get(activation, {}))
    check(b.finish(x), tmp_path)


def test_no_kernel_writes_where_it_reads(tiny_spec, tmp_path):
    """A last tile that is moved back is computed twice: an output in its input's storage would be read back wrong."""
    request = CompileRequest(NetworkRequest(spec=str(tiny_spec)), tmp_path / "out", debug_dump=tmp_path / "dump")
    compile_bundle(request)
    (planned,) = (tmp_path / "dump").glob("*_relax_planned.py")
    storage, checked = {}, 0
    for line in planned.read_text().splitlines():
        if found := re.match(r"\s+(\w+): .* = R\.memory\.alloc_tensor\((\w+),", line):
            storage[found[1]] = found[2]
        elif found := re.match(r"\s+(\w+): R\.Tensor.* = (?:R\.[\w.]+\()*(\w+)", line):
            storage[found[1]] = storage.get(found[2], found[2])
        elif found := re.match(r"\s+cls\.\w+\((.*)\)", line):
            *inputs, output = (
                storage.get(name, name) for name in re.findall(r"\b(?:lv|alloc|image)[\d_]*\b", found[1])
            )
            assert output not in inputs, line
            checked += output.startswith("storage")
    assert checked > 20
