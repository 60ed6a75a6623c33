"""Graphs beyond the shipped family, compiled and run against PyTorch: what no kernel of ours computes, too."""

import re
from pathlib import Path

import numpy as np
import pytest
from compiling import builder, conv, cut, random_weights, run_compiled, scheduled_module

from effgen.driver import CompileRequest, compile_bundle
from effgen.graph import Graph, GraphBuilder, Value
from effgen.graph.reference import run_reference
from effgen.judge.case import relative_l2
from effgen.network import NetworkRequest

TOLERANCE = 1e-5


def check(graph: Graph, folder: Path) -> None:
    weights = random_weights(graph)
    image = np.random.default_rng(7).standard_normal(graph.input.shape, dtype=np.float32)
    expected = run_reference(graph, weights, image)
    found = run_compiled(graph, weights, image, folder)
    assert found.shape == expected.shape
    flat = (len(expected), -1)
    assert relative_l2(found.reshape(flat), expected.reshape(flat)) <= TOLERANCE


@pytest.mark.parametrize("offset", [1, 3, 8])
def test_an_image_may_begin_at_any_float(tmp_path, offset):
    """One channel is not transposed: vectors are read from the image itself, which must not be taken for aligned."""
    b = builder(channels=1, size=32)
    graph = b.finish(b.add("Add", [b.add("Sigmoid", ["x"], "sigmoid"), "x"], "sum"))
    memory = np.random.default_rng(0).standard_normal(32**2 + offset, dtype=np.float32)
    image = memory[offset:].reshape(graph.input.shape)
    found, expected = run_compiled(graph, {}, image, tmp_path), run_reference(graph, {}, image)
    assert relative_l2(found.reshape(1, -1), expected.reshape(1, -1)) <= TOLERANCE


@pytest.mark.parametrize("kind", ["uint8", "int16"])
def test_codes(kind, tmp_path):
    """One after the other, around what TVM computes: every number is the reference's, ties too."""
    b = builder(channels=8, size=12)

    def rounded(x, scale, zero, name):
        of = {"scale": scale, "zero_point": zero, "axis": 1 if len(scale) > 1 else 0, "type": kind}
        return b.add("DequantizeLinear", [b.add("QuantizeLinear", [x], f"{name}.codes", **of)], name, **of)

    x = rounded("x", (0.25,), (100,), "a")
    x = rounded(b.add("Sigmoid", [x], "sigmoid"), tuple(0.01 * (1 + i) for i in range(8)), tuple(range(8)), "b")
    graph = b.finish(rounded(b.add("Mul", [x, "a"], "product"), (0.125,), (30,), "c"))
    image = np.random.default_rng(7).integers(-90, 90, graph.input.shape).astype(np.float32) / 8
    image.ravel()[:2] = 1e9, -1e9
    found, expected = run_compiled(graph, {}, image, tmp_path), run_reference(graph, {}, image)
    assert np.array_equal(found.reshape(expected.shape), expected) and len(np.unique(expected)) > 50


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


def squeeze_excite(b: GraphBuilder, x: str, squeezed: int, name: str) -> str:
    """The image times its gate."""
    channels = b.shape(x)[1]
    pooled = b.add("GlobalAveragePool", [x], f"{name}.pool")
    small = b.add("Swish", [conv(b, pooled, squeezed, f"{name}.reduce")], f"{name}.silu")
    gate = b.add("Sigmoid", [conv(b, small, channels, f"{name}.expand")], f"{name}.gate")
    return b.add("Mul", [x, gate], f"{name}.scaled")


def inverted_residual(b: GraphBuilder, x: str, name: str, kernel: int = 3, stride: int = 1) -> str:
    """Expansion, depthwise, squeeze-excite, projection; the block's input is added where the shapes agree."""
    channels = b.shape(x)[1]
    wide = b.add("Swish", [conv(b, x, 4 * channels, f"{name}.expand")], f"{name}.expand.silu")
    deep = conv(b, wide, 4 * channels, f"{name}.depthwise", kernel, stride, group=4 * channels)
    deep = b.add("Swish", [deep], f"{name}.depthwise.silu")
    out = conv(b, squeeze_excite(b, deep, 5, f"{name}.se"), channels, f"{name}.project")
    return b.add("Add", [out, x], f"{name}.sum") if stride == 1 else out


@pytest.mark.parametrize("batch", [1, 3])
def test_inverted_residuals(batch, tmp_path):
    b = builder(batch, channels=3, size=21)
    x = b.add("Relu", [conv(b, "x", 12, "stem", kernel=3, stride=2)], "stem.relu")
    x = inverted_residual(b, x, "a")
    x = inverted_residual(b, x, "b", kernel=5, stride=2)
    check(b.finish(inverted_residual(b, x, "c", kernel=5)), tmp_path)


def test_squeeze_excite_after_an_added_tensor(tmp_path):
    """The sums are of the depthwise kernel's whole output, with what it adds."""
    b = builder(batch=2)
    first = conv(b, "x", 20, "a")
    deep = b.add("Swish", [conv(b, first, 20, "b", kernel=3, group=20)], "b.silu")
    total = b.add("Add", [deep, first], "sum")
    check(b.finish(conv(b, squeeze_excite(b, total, 4, "se"), 8, "last")), tmp_path)


def test_squeeze_excite_beside_other_readers(tmp_path):
    """Image and gate may be read again after kernels were joined; a scaled image that is read twice has to be there."""
    b = builder(channels=12)
    deep = b.add("Relu", [conv(b, conv(b, "x", 12, "a"), 12, "b", kernel=3, group=12)], "b.relu")
    scaled = squeeze_excite(b, deep, 3, "se")
    both = b.add("Mul", [conv(b, scaled, 12, "c"), scaled], "both")
    check(b.finish(b.add("Mul", [b.add("Mul", [both, deep], "three"), "se.gate"], "out")), tmp_path)


@pytest.mark.parametrize("activation", ["Swish", "Relu", "HardSwish", "Sigmoid", "HardSigmoid", "Clip"])
def test_activation_epilogues(activation, tmp_path):
    attributes = {"Clip": {"min": 0.0, "max": 6.0}, "HardSigmoid": {"alpha": 1 / 6, "beta": 0.5}}
    b = builder(channels=24)
    x = b.add(activation, [conv(b, "x", 24, "a", kernel=3)], "act", **attributes.get(activation, {}))
    x = b.add(activation, [conv(b, x, 24, "b", kernel=3, group=24)], "act2", **attributes.get(activation, {}))
    x = b.add(activation, [conv(b, x, 40, "c")], "act3", **attributes.get(activation, {}))
    check(b.finish(x), tmp_path)


def outputs_and_inputs(dump: str) -> list[tuple[str, list[str], list[str]]]:
    """The storage that each kernel call of a planned module writes and reads: (line, outputs, inputs).

    A kernel is the first to use what it writes; an input has been written before.
    """
    storage: dict[str, str] = {}
    tuples: dict[str, list[str]] = {}
    written: set[str] = set()
    calls = []
    for line in dump.splitlines():
        if found := re.match(r"\s+(\w+): .* = R\.memory\.alloc_tensor\((\w+),", line):
            storage[found[1]] = found[2]
        elif found := re.match(r"\s+(\w+): R\.Tuple.* = (\w+(?:, \w+)+)$", line):
            tuples[found[1]] = [storage.get(name, name) for name in found[2].split(", ")]
        elif found := re.match(r"\s+(\w+): R\.Tensor.* = (\w+)\[(\d+)\]$", line):
            storage[found[1]] = tuples[found[2]][int(found[3])]
        elif found := re.match(r"\s+(\w+): R\.Tensor.* = (?:R\.[\w.]+\()*(\w+)", line):
            storage[found[1]] = storage.get(found[2], found[2])
        elif found := re.match(r"\s+cls\.\w+\((.*)\)", line):
            names = re.findall(r"\b(?:lv|alloc|image)[\d_]*\b", found[1])
            outputs = [name for name in names if name.startswith("alloc") and name not in written]
            written.update(outputs)
            inputs = [name for name in names if name not in outputs]
            calls.append((line, [storage.get(n, n) for n in outputs], [storage.get(n, n) for n in inputs]))
    return calls


def test_no_kernel_writes_where_it_reads(tiny_spec, tmp_path):
    """A last tile that is moved back is computed twice: an output in its input's storage would be read back wrong."""
    request = CompileRequest(NetworkRequest(spec=str(tiny_spec)), tmp_path / "out", debug_dump=tmp_path / "dump")
    compile_bundle(request)
    (planned,) = (tmp_path / "dump").glob("*_relax_planned.py")
    calls = outputs_and_inputs(planned.read_text())
    for line, outputs, inputs in calls:
        assert len(outputs) == (2 if "_sums(" in line else 1), line
        assert not set(outputs) & set(inputs), line
        assert len(set(outputs)) == len(outputs), line
        assert inputs, line
    # Storage is shared at all: there is something to get wrong.
    written = [name for _, outputs, _ in calls for name in outputs if name.startswith("storage")]
    assert len(written) > 15 > len(set(written))
    assert any("_sums(" in line for line, _, _ in calls)


def test_branches_that_share_an_image_out(tmp_path):
    b = builder(batch=2, channels=16)
    image = conv(b, "x", 16, "first")
    other = conv(b, "x", 16, "second")
    whole = b.add("ChannelShuffle", [b.add("Concat", [image, other], "both", axis=1)], "shuffled", group=2)
    left, right = cut(b, whole, "left", 0, 20), cut(b, whole, "right", 20, 32)
    parts = [
        conv(b, cut(b, left, f"cut{kernel}", 10 * index, 10 * index + 10), 10, f"part{kernel}", kernel, 2, 10)
        for index, kernel in enumerate((3, 5))
    ]
    deep = b.add("Swish", [b.add("Concat", parts, "joined", axis=1)], "deep")
    ends = [
        b.add("Flatten", [b.add("GlobalAveragePool", [x], f"{x}.mean")], f"{x}.flat", axis=1) for x in (deep, right)
    ]
    graph = b.finish(b.add("Concat", ends, "out", axis=1))
    kernels = "\n".join(scheduled_module(graph, random_weights(graph)).program.calls)
    assert "f32_mixeddw_k3c10_k5c10_s2" in kernels and "f32_interleave_n2_c16_o20x12" in kernels
    check(graph, tmp_path)


@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize(("axis", "kernel"), [(3, True), (2, False)])
def test_layer_normalisation_of_channels_that_lie_last(tmp_path, axis: int, kernel: bool, shifted: bool):
    """As ConvNeXt has it: behind a convolution, whose channels lie side by side already."""
    b = builder(batch=2, channels=5, size=7)
    last = b.add("Transpose", [conv(b, "x", 20, "conv")], "last", perm=(0, 2, 3, 1))
    names = [
        b.parameter(f"norm.{role}", b.shape(last)[axis:], "constant") for role in ("scale", "shift")[: 1 + shifted]
    ]
    graph = b.finish(b.add("LayerNormalization", [last, *names], "norm", axis=axis, epsilon=1e-6))
    steps = scheduled_module(graph, random_weights(graph)).program.steps
    assert any(step.kernel.startswith("layer_norm") for step in steps) == kernel
    check(graph, tmp_path)


@pytest.mark.parametrize(("left", "right"), [((2, 3, 7, 5), (1, 1, 5, 6)), ((2, 7, 5), (1, 5, 16))])
def test_many_matrices_times_one_are_one_product(tmp_path, left: tuple[int, ...], right: tuple[int, ...]):
    """As attention with one key for all heads has it. TVM's own definition is a loop without registers."""
    b = GraphBuilder("test", Value("x", left))
    graph = b.finish(b.add("MatMul", ["x", b.parameter("right", right, "constant")], "product"))
    scheduled = scheduled_module(graph, random_weights(graph))
    (step,) = scheduled.program.steps
    assert [int(extent) for extent in scheduled.mod[step.kernel].params[0].shape] == [np.prod(left[:-1]), left[-1]]
    check(graph, tmp_path)
