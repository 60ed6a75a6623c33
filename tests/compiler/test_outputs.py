"""Several outputs of one network: each is where the program says, whatever else reads it or it is a view of."""

from collections.abc import Callable

import numpy as np
import pytest
from compiling import builder, conv, random_weights, scheduled_module

from effgen.compiler.program import LOGITS, Program
from effgen.errors import GraphError
from effgen.graph import Graph, GraphBuilder, Value
from effgen.graph.passes.fold_affine import fold_affine
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.graph.passes.fuse_activations import fuse_activations
from effgen.graph.reference import reference_outputs
from effgen.judge.case import relative_l2
from effgen.machines.target import load_target
from effgen.runtime.arrays import FlatLayout

TOLERANCE = 1e-5


def pyramid() -> Graph:
    """Three images, two of which are read by the convolution after them."""
    b = builder(channels=3, size=24)
    one = conv(b, "x", 8, "p1", kernel=3, stride=2)
    two = conv(b, one, 12, "p2", kernel=3, stride=2)
    return b.finish(one, two, conv(b, b.add("Relu", [two], "relu"), 16, "p3", kernel=3, stride=2))


def two_heads() -> Graph:
    """Classes and a regression, of one vector of features."""
    b = builder(batch=2, channels=3, size=16)
    return b.finish(head(b, features(b), 10, "classes"), b.add("Sigmoid", [head(b, "features", 3, "r")], "regression"))


def vector_and_image() -> Graph:
    """The features before and after Flatten, which is a view: one tensor."""
    b = builder(batch=2, channels=3, size=16)
    flat = features(b)
    return b.finish(flat, "pool", head(b, flat, 5, "classes"))


def one_tensor_twice() -> Graph:
    b = builder(channels=8, size=6)
    wide = conv(b, "x", 24, "wide", kernel=3)
    return b.finish(b.add("Identity", [wide], "again"), wide, b.add("Relu", [wide], "relu"))


def absorbed() -> Graph:
    """What one kernel would compute, had it not to give what is in the middle: bias, activation, residual."""
    b = builder(channels=8, size=6)
    linear = conv(b, "x", 8, "linear", kernel=3)
    active = b.add("Swish", [linear], "active")
    return b.finish(b.add("Add", [active, "x"], "sum"), active, linear)


def squeeze_excite() -> Graph:
    b = builder(channels=8, size=6)
    deep = b.add("Relu", [conv(b, conv(b, "x", 16, "expand"), 16, "deep", kernel=3, group=16)], "relu")
    pooled = b.add("GlobalAveragePool", [deep], "pool")
    gate = b.add("Sigmoid", [conv(b, b.add("Relu", [conv(b, pooled, 4, "less")], "less.relu"), 16, "more")], "gate")
    scaled = b.add("Mul", [deep, gate], "scaled")
    return b.finish(gate, conv(b, scaled, 8, "project"), deep, pooled, scaled)


def outputs_in_another_order() -> Graph:
    b = builder(channels=8, size=5)
    first = conv(b, "x", 4, "first")
    second = conv(b, first, 6, "second", kernel=3)
    return b.finish(conv(b, second, 2, "third"), first, second)


def small_kernels_in_a_row() -> Graph:
    """Inlined into one function, they read what the ones before them wrote to arrays that they call otherwise."""
    b, x = GraphBuilder("test", Value("x", (1, 16, 4))), "x"
    for step in ("first", "second"):
        largest = b.add("ReduceMax", [x], f"{step}.largest", axes=(2,), keepdims=1)
        x = b.add("Sub", [x, largest], step)
    return b.finish(x)


def features(b: GraphBuilder) -> str:
    body = conv(b, conv(b, "x", 8, "stem", kernel=3, stride=2), 24, "body", kernel=3)
    return b.add("Flatten", [b.add("GlobalAveragePool", [body], "pool")], "features", axis=1)


def head(b: GraphBuilder, x: str, out: int, name: str) -> str:
    weight = b.parameter(f"{name}.weight", (out, b.shape(x)[1]), "kernel")
    return b.add("Gemm", [x, weight], name, transB=1)


GRAPHS: list[Callable[[], Graph]] = [
    pyramid, two_heads, vector_and_image, one_tensor_twice, absorbed, squeeze_excite, outputs_in_another_order,
    small_kernels_in_a_row,
]  # fmt: skip


def run(program: Program, graph: Graph, module: object, image: np.ndarray) -> list[np.ndarray]:
    import tvm

    from effgen.compiler.entry import module_from_program
    from effgen.kernels.lowering import PIPELINE, tvm_target

    library = tvm.compile(module_from_program(program, module), tvm_target(load_target("cpu")), tir_pipeline=PIPELINE)
    weights = program.weights.view(np.float32)
    rest = [np.full(program.sizes[name] // 4, np.nan, np.float32) for name in (LOGITS, "workspace")]
    arrays = [tvm.runtime.tensor(array) for array in (image.reshape(-1), rest[0], weights, rest[1])]
    assert library.mod["run"](*arrays) == 0
    flat, found = arrays[1].numpy(), []
    for name, start in zip(graph.outputs, program.outputs, strict=True):
        value = graph.values[name]
        found.append(flat[start // 4 : start // 4 + value.size].reshape(value.shape))
    return found


@pytest.mark.parametrize("make", GRAPHS, ids=lambda make: make.__name__)
def test_each_output_is_what_pytorch_says(make: Callable[[], Graph]) -> None:
    graph = make()
    weights = random_weights(graph)
    image = np.random.default_rng().standard_normal(graph.input.shape, dtype=np.float32)
    scheduled = scheduled_module(graph, weights)
    from effgen.kernels.lowering import tvm_target

    with tvm_target(load_target("cpu")):
        found = run(scheduled.program, graph, scheduled.mod, image)
    for name, ours, expected in zip(graph.outputs, found, reference_outputs(graph, weights, image), strict=True):
        rows = (len(expected), -1)
        assert relative_l2(ours.reshape(rows), expected.reshape(rows)) <= TOLERANCE, name


def test_views_of_one_tensor_begin_together() -> None:
    graph = vector_and_image()
    program = scheduled_module(graph, random_weights(graph)).program
    flat, pool, classes = program.outputs
    sizes = {flat: 4 * 2 * 24, classes: 4 * 2 * 5}
    assert flat == pool and sorted(sizes) == [0, FlatLayout([sizes[0]]).bytes]
    assert program.logits_bytes == max(start + size for start, size in sizes.items())


@pytest.mark.parametrize("op_type", ["Flatten", "Identity"])
def test_the_image_in_another_shape_is_no_output(op_type: str) -> None:
    b = builder(channels=8, size=5)
    attributes = {"axis": 1} if op_type == "Flatten" else {}
    graph = b.finish(conv(b, "x", 4, "conv"), b.add(op_type, ["x"], "same", **attributes))
    with pytest.raises(GraphError, match=r"^output same: is the input itself, in another shape: .*--outputs can"):
        scheduled_module(graph, random_weights(graph))


def test_nothing_is_folded_over_an_output() -> None:
    """Convolution, batch norm, arithmetic and activations: what is between them is asked for as well."""
    b = builder(channels=4, size=5)
    linear = conv(b, "x", 6, "linear", kernel=3)
    roles = {"weight": "norm_scale", "bias": "norm_bias", "mean": "norm_mean", "var": "norm_var"}
    names = [b.parameter(f"norm.{key}", (6,), role) for key, role in roles.items()]
    norm = b.add("BatchNormalization", [linear, *names], "norm", epsilon=1e-3)
    doubled = b.add("Mul", [conv(b, norm, 5, "next"), b.parameter("two", (1, 5, 1, 1), "constant")], "doubled")
    gate = b.add("Sigmoid", [doubled], "gate")
    graph = b.finish(b.add("Mul", [doubled, gate], "swish"), gate, "next", linear)
    weights = random_weights(graph)
    image = np.random.default_rng().standard_normal(graph.input.shape, dtype=np.float32)
    expected = reference_outputs(graph, weights, image)
    folded, arrays = graph, weights
    for rewrite in (fold_batchnorm, fuse_activations, fold_affine):
        folded, arrays = rewrite(folded, arrays)
    assert folded.outputs == graph.outputs
    for ours, theirs in zip(reference_outputs(folded, arrays, image), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
