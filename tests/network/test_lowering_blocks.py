"""What each block kind of a spec becomes in the graph."""

from pathlib import Path

import numpy as np
import pytest
from networks import KINDS, kinds_graph, lively_weights, noise

from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import SpecError
from effgen.graph import Graph, Node
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.graph.reference import run_reference
from effgen.network import NetworkRequest
from effgen.network.lowering.blocks import BLOCKS
from effgen.network.lowering.network import lower
from effgen.network.scaling import Overrides, coefficients_for, scale
from effgen.network.spec import parse_spec


def operators(graph: Graph, block: str) -> list[tuple[str, str]]:
    """Names within the block, and the operators that make them."""
    nodes = [node for node in graph.nodes if node.output.startswith(f"{block}.")]
    return [(node.output.removeprefix(f"{block}."), node.op_type) for node in nodes]


def node(graph: Graph, output: str) -> Node:
    return next(node for node in graph.nodes if node.output == output)


def one_stage(block: str, keys: str = "") -> Graph:
    """A network of two blocks of a kind, 8 -> 16 channels."""
    stage = f'[[stages]]\nblock = "{block}"\nkernel = 3\nstride = 1\nchannels = 16\nrepeats = 2\n{keys}\n'
    head = KINDS.partition("[[stages]]")[0]
    return lower(parse_spec(f"{head}{stage}", "test"))


def test_every_kind_of_the_vocabulary_is_lowered() -> None:
    for kind in BLOCKS:
        assert one_stage(kind).values["logits"].shape == (1, 1000)


def test_fused_mbconv_expands_in_its_window() -> None:
    graph = one_stage("fused_mbconv", "expand_ratio = 4")
    assert [name for name, _ in operators(graph, "stages.0.1")] == [
        "expand.conv", "expand.norm", "expand.norm.hard_swish", "project.conv", "project.norm", "skip"
    ]  # fmt: skip
    assert graph.parameters["stages.0.1.expand.conv.weight"].shape == (64, 16, 3, 3)
    assert graph.parameters["stages.0.1.project.conv.weight"].shape == (16, 64, 1, 1)


@pytest.mark.parametrize("kind", ["conv", "fused_mbconv"])
def test_without_expansion_it_is_one_convolution_with_its_activation(kind: str) -> None:
    graph = one_stage(kind)
    expected = [("conv", "Conv"), ("norm", "BatchNormalization"), ("norm.hard_swish", "HardSwish")]
    assert operators(graph, "stages.0.0") == expected
    assert operators(graph, "stages.0.1") == [*expected, ("skip", "Add")]


def test_squeeze_excite_of_fused_mbconv_stands_before_the_projection() -> None:
    graph = one_stage("fused_mbconv", "expand_ratio = 4\nsqueeze_excite = { ratio = 0.25 }")
    assert node(graph, "stages.0.0.project.conv").inputs[0] == "stages.0.0.se.scale"
    assert graph.values["stages.0.1.se.reduce"].shape[1] == 4


@pytest.mark.parametrize(("keys", "last"), [("", "stages.0.0.project.norm"), ("linear = false", None)])
def test_the_last_activation_of_a_depthwise_separable_block(keys: str, last: str | None) -> None:
    graph = one_stage("depthwise_separable", keys)
    assert graph.parameters["stages.0.1.depthwise.conv.weight"].shape == (16, 1, 3, 3)
    following = node(graph, "stages.0.1.depthwise.conv").inputs[0]
    assert following == (last or "stages.0.0.project.norm.hard_swish")


def test_bottleneck() -> None:
    graph = one_stage("bottleneck", "bottleneck_ratio = 0.5")
    assert graph.parameters["stages.0.0.window.conv.weight"].shape == (8, 8, 3, 3)
    assert node(graph, "stages.0.0.skip").inputs == ("stages.0.0.project.norm", "stages.0.0.downsample.norm")
    assert node(graph, "stages.0.1.skip").inputs == ("stages.0.1.project.norm", "stages.0.0.skip.hard_swish")
    assert node(graph, "stages.0.1.skip.hard_swish").op_type == "HardSwish"
    assert not any("downsample" in name for name, _ in operators(graph, "stages.0.1"))


def test_bottleneck_has_its_stride_in_the_window_and_in_the_skip() -> None:
    graph = kinds_graph()
    strided = [n.output for n in graph.nodes if n.attributes.get("strides") == (2, 2) and n.scope == "stages.4"]
    assert strided == ["stages.4.0.window.conv"]
    assert not any(name.endswith(("skip", "downsample.conv")) for name, _ in operators(graph, "stages.4.0"))
    text = KINDS.replace("skip = false", "skip = true")
    assert node(lower(parse_spec(text, "x")), "stages.4.0.downsample.conv").attributes["strides"] == (2, 2)


def test_stem_with_max_pooling() -> None:
    pool = node(kinds_graph(), "stem.pool")
    assert (pool.op_type, pool.inputs, pool.scope) == ("MaxPool", ("stem.norm.relu",), "stem")
    assert pool.attributes == {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "strides": (2, 2)}
    same = node(kinds_graph(activation='"relu"\npadding = "same"'), "stem.pool")
    assert same.attributes["pads"] == (0, 0, 1, 1)


def test_a_head_behind_the_pooling_has_a_bias_and_no_norm() -> None:
    graph = kinds_graph()
    found = [(n.output, n.op_type) for n in graph.nodes if n.scope == "head"]
    assert found == [("pool", "GlobalAveragePool"), ("head", "Conv"), ("head.hard_swish", "HardSwish")]
    assert graph.parameters["head.bias"].shape == (32,)


def test_no_head() -> None:
    graph = one_stage("conv")
    assert [n.op_type for n in graph.nodes if n.scope == "head"] == ["GlobalAveragePool"]
    assert graph.parameters["classifier.weight"].shape == (1000, 16)


def test_all_kinds_scale() -> None:
    spec = parse_spec(KINDS, "kinds.toml")
    graph = lower(scale(spec, coefficients_for(spec, 0), Overrides(width=2.0, depth=2.0, resolution=48)))
    assert graph.parameters["stages.2.3.expand.conv.weight"].shape == (128, 32, 3, 3)
    assert graph.parameters["stages.3.3.window.conv.weight"].shape == (16, 16, 3, 3)
    assert graph.parameters["head.weight"].shape == (64, 96, 1, 1)
    assert graph.macs > 10 * kinds_graph().macs


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_folded_norms_compute_the_same(padding: str) -> None:
    graph = kinds_graph(batch=2, activation=f'"hard_swish"\npadding = "{padding}"')
    weights, image = lively_weights(graph), noise((2, 3, 32, 32))
    expected = run_reference(graph, weights, image)
    folded = fold_batchnorm(graph, weights)
    assert not any(n.op_type == "BatchNormalization" for n in folded[0].nodes)
    np.testing.assert_allclose(run_reference(*folded, image), expected, rtol=1e-4, atol=1e-5)


def shape(graph: Graph, name: str) -> tuple[int, ...]:
    return graph.parameters[name].shape


def test_basic() -> None:
    graph = one_stage("basic")
    assert shape(graph, "stages.0.0.first.conv.weight") == (16, 8, 3, 3)
    assert node(graph, "stages.0.0.skip").inputs == ("stages.0.0.second.norm", "stages.0.0.downsample.norm")
    assert node(graph, "stages.0.1.skip").inputs == ("stages.0.1.second.norm", "stages.0.0.skip.hard_swish")


def test_bottleneck_of_groups() -> None:
    """Squeeze-excite of the block's input channels stands behind the window, as in RegNetY."""
    graph = one_stage("bottleneck", "bottleneck_ratio = 1.0\ngroup_width = 4\nsqueeze_excite = { ratio = 0.5 }")
    assert shape(graph, "stages.0.0.window.conv.weight") == (16, 4, 3, 3)
    assert node(graph, "stages.0.0.window.conv").attributes["group"] == 4
    assert shape(graph, "stages.0.0.se.reduce.weight") == (4, 16, 1, 1)
    assert node(graph, "stages.0.0.project.conv").inputs[0] == "stages.0.0.se.scale"
    with pytest.raises(SpecError, match=r"stages\.0\.0: 16 channels in groups of group_width = 5: expected a multiple"):
        one_stage("bottleneck", "bottleneck_ratio = 1.0\ngroup_width = 5")


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ("kernel = 3", ["widen", "middle", "narrow"]),
        ("kernel = 5\nstart_kernel = 3", ["start", "widen", "middle", "narrow"]),
        ("kernel = 1\nstart_kernel = 3", ["start", "widen", "narrow"]),
        ("kernel = 1", ["widen", "narrow"]),
    ],
)
def test_universal(keys: str, parts: list[str]) -> None:
    """The last window strides, without any the first 1x1 convolution; the first window has no activation."""
    text = (
        f'{KINDS.partition("[[stages]]")[0]}[[stages]]\nblock = "universal"\nstride = 2\nchannels = 16\nrepeats = 2\n'
    )
    graph = lower(parse_spec(f"{text}expand_ratio = 4\n{keys}\n", "test"))
    convs = [node for node in graph.nodes if node.op_type == "Conv" and node.output.startswith("stages.0.0.")]
    assert [conv.output.split(".")[3] for conv in convs] == parts
    strided = "middle" if "middle" in parts else parts[0]
    assert [conv.output for conv in convs if conv.attributes["strides"] == (2, 2)] == [f"stages.0.0.{strided}.conv"]
    assert "stages.0.0.start.norm.hard_swish" not in graph.values
    assert shape(graph, "stages.0.0.widen.conv.weight") == (32, 8, 1, 1)
    assert node(graph, "stages.0.1.skip").inputs[1] == "stages.0.0.narrow.norm"


@pytest.mark.parametrize("channels", [16, 15])
def test_ghost(channels: int) -> None:
    """Half of the channels are made of the others; of an odd number the last is left out."""
    head = KINDS.partition("[[stages]]")[0].replace("[stem]", "[rounding]\nchannel_divisor = 1\n\n[stem]")
    stages = (
        f'[[stages]]\nblock = "ghost"\nkernel = 5\nstride = 2\nchannels = {channels}\nrepeats = 2\nexpand_ratio = 3\n'
    )
    graph = lower(parse_spec(head + stages, "test"))
    assert shape(graph, "stages.0.0.expand.primary.conv.weight") == (12, 8, 1, 1)
    assert shape(graph, "stages.0.0.expand.cheap.conv.weight") == (12, 1, 3, 3)
    assert shape(graph, "stages.0.0.depthwise.conv.weight") == (24, 1, 5, 5)
    assert shape(graph, "stages.0.0.downsample.depthwise.conv.weight") == (8, 1, 5, 5)
    assert graph.values["stages.0.0.skip"].shape[1] == channels
    assert not any(name.startswith("stages.0.1.d") for name in graph.parameters)


def test_mixed_windows() -> None:
    """As timm divides them: what is left over goes to the first part."""
    keys = "expand_ratio = 2.5\nmore_kernels = [5, 7]\nexpand_groups = 2\nproject_groups = 3"
    graph = one_stage("mbconv", keys)
    expanded = graph.values["stages.0.0.expand.norm"].shape[1]
    parts = [shape(graph, f"stages.0.0.depthwise.conv{number}.weight") for number in range(3)]
    assert [part[2] for part in parts] == [3, 5, 7] and [part[1] for part in parts] == [1, 1, 1]
    assert [part[0] for part in parts] == [expanded - 2 * (expanded // 3), expanded // 3, expanded // 3]
    assert shape(graph, "stages.0.0.expand.conv1.weight") == (expanded // 2, 4, 1, 1)
    assert [shape(graph, f"stages.0.0.project.conv{number}.weight")[0] for number in range(3)] == [6, 5, 5]
    with pytest.raises(SpecError, match=r"stages\.0\.0\.expand: 8 channels to \d+ in 9 parts: expected more"):
        one_stage("mbconv", "expand_ratio = 2.5\nexpand_groups = 9")


def test_expansions_of_other_channels() -> None:
    graph = one_stage("fused_mbconv", 'expand_ratio = 4\nexpand_of = "output"')
    assert shape(graph, "stages.0.0.expand.conv.weight") == (64, 8, 3, 3)
    assert "stages.0.0.expand.conv.weight" not in one_stage("mbconv").parameters
    assert shape(one_stage("mbconv", "always_expand = true"), "stages.0.0.expand.conv.weight") == (8, 8, 1, 1)


def test_a_head_behind_the_pooling_with_a_norm() -> None:
    text = KINDS.replace("after_pool = true", "after_pool = true\nnorm = true")
    found = [(n.output, n.op_type) for n in lower(parse_spec(text, "x")).nodes if n.scope == "head"]
    assert found == [
        ("pool", "GlobalAveragePool"), ("head.conv", "Conv"), ("head.norm", "BatchNormalization"),
        ("head.norm.hard_swish", "HardSwish"),
    ]  # fmt: skip


NEWER_KINDS = (
    KINDS.partition("[[stages]]")[0]
    + """
[[stages]]
block = "basic"
kernel = 3
stride = 1
channels = 16
repeats = 1

[[stages]]
block = "bottleneck"
kernel = 3
stride = 2
channels = 24
repeats = 2
bottleneck_ratio = 1.0
group_width = 8
squeeze_excite = { ratio = 0.25 }

[[stages]]
block = "universal"
kernel = 5
start_kernel = 3
stride = 1
channels = 16
repeats = 2
expand_ratio = 3

[[stages]]
block = "ghost"
kernel = 3
stride = 2
channels = 15
repeats = 2
expand_ratio = 3
squeeze_excite = { ratio = 0.25, of = "expanded", gate = "hard_sigmoid" }

[[stages]]
block = "mbconv"
kernel = 3
more_kernels = [5, 7]
expand_groups = 2
project_groups = 2
stride = 1
channels = 24
repeats = 2
expand_ratio = 3
activation = "silu"

[head]
channels = 32
after_pool = true
norm = true

[classifier]
classes = 10
"""
)


def test_newer_kinds_compiled(tmp_path: Path) -> None:
    """`compile_bundle` holds the library to PyTorch, and writes nothing where it differs."""
    (tmp_path / "newer.toml").write_text(NEWER_KINDS)
    request = CompileRequest(NetworkRequest(str(tmp_path / "newer.toml"), batch=2), tmp_path / "b")
    golden = compile_bundle(request).network["golden"]
    assert golden["checked_by"] == "this processor" and golden["rel_l2"] <= 1e-5
