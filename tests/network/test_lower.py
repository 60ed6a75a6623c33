"""What each key of a spec becomes in the graph."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import TINY, tiny_graph

from effgen.graph import Graph, Node
from effgen.network.lowering.layers import same_padding, squeezed_channels
from effgen.network.lowering.network import lower
from effgen.network.scaling import Overrides, coefficients_for, scale
from effgen.network.spec import SqueezeExciteSpec, parse_spec


def node(graph: Graph, output: str) -> Node:
    return next(node for node in graph.nodes if node.output == output)


def names(graph: Graph) -> set[str]:
    return {node.output for node in graph.nodes}


def with_stage(**keys: str) -> Graph:
    """A network of one stage of two blocks, 8 -> 16 channels."""
    defaults = {"block": '"mbconv"', "kernel": "3", "stride": "1", "channels": "16", "repeats": "2"}
    stage = "".join(f"{key} = {value}\n" for key, value in (defaults | {"expand_ratio": "4"} | keys).items())
    head, _, _ = TINY.partition("[[stages]]")
    return lower(parse_spec(f"{head}[[stages]]\n{stage}\n[head]\nchannels = 32\n", "test"))


def test_input_and_output() -> None:
    graph = tiny_graph(batch=3)
    assert (graph.input.name, graph.input.shape) == ("image", (3, 3, 32, 32))
    assert (graph.output, graph.values["logits"].shape) == ("logits", (3, 10))


def test_every_block_of_a_stage_but_the_first_has_stride_1() -> None:
    graph = tiny_graph()
    assert node(graph, "stages.1.0.depthwise.conv").attributes["strides"] == (2, 2)
    assert node(graph, "stages.1.1.depthwise.conv").attributes["strides"] == (1, 1)
    assert graph.values["stages.1.1.project.norm"].shape == (1, 16, 8, 8)


def test_a_depthwise_convolution_has_a_group_for_each_channel() -> None:
    graph = tiny_graph()
    assert node(graph, "stages.1.0.depthwise.conv").attributes["group"] == 32
    assert graph.parameters["stages.1.0.depthwise.conv.weight"].shape == (32, 1, 5, 5)


def test_without_expansion_there_is_no_expanding_convolution() -> None:
    graph = tiny_graph()
    assert "stages.0.0.expand.conv" not in names(graph)
    assert graph.parameters["stages.0.0.depthwise.conv.weight"].shape == (8, 1, 3, 3)


@pytest.mark.parametrize(("ratio", "channels"), [("6", 48), ("2.5", 24), ("4.5", 40), ("0.5", 8)])
def test_expanded_channels_are_rounded(ratio: str, channels: int) -> None:
    """8 input channels times the ratio: 20 -> 24 and 36 -> 40, as everywhere to multiples of 8."""
    graph = with_stage(expand_ratio=ratio)
    assert graph.values["stages.0.0.expand.conv"].shape[1] == channels


def test_squeeze_excite_is_optional() -> None:
    graph = tiny_graph()
    assert "stages.1.0.se.scale" in names(graph)
    assert not any(name.startswith("stages.2.0.se") for name in names(graph))


@pytest.mark.parametrize(
    ("squeeze_excite", "hidden"),
    [
        ('{ ratio = 0.25, of = "input" }', (2, 4)),
        ('{ ratio = 0.25, of = "expanded" }', (8, 16)),
        ('{ ratio = 0.25, of = "expanded", divisor = 16 }', (16, 16)),
        ("{ ratio = 0.01 }", (1, 1)),
    ],
)
def test_hidden_channels_of_squeeze_excite(squeeze_excite: str, hidden: tuple[int, int]) -> None:
    """Of 8 and 16 input channels, expanded to 32 and 64."""
    graph = with_stage(squeeze_excite=squeeze_excite)
    found = tuple(graph.values[f"stages.0.{block}.se.reduce"].shape[1] for block in range(2))
    assert found == hidden
    assert graph.values["stages.0.1.se.expand"].shape == (1, 64, 1, 1)


def test_squeeze_excite_scales_between_depthwise_and_project() -> None:
    graph = with_stage(squeeze_excite="{ ratio = 0.25 }")
    scale = node(graph, "stages.0.0.se.scale")
    assert scale.inputs == ("stages.0.0.depthwise.norm.silu", "stages.0.0.se.expand.sigmoid")
    assert node(graph, "stages.0.0.project.conv").inputs[0] == scale.output


def test_activation_and_gate_of_squeeze_excite() -> None:
    own = with_stage(squeeze_excite='{ ratio = 0.25, activation = "relu", gate = "hard_sigmoid" }')
    assert node(own, "stages.0.0.se.reduce.relu").op_type == "Relu"
    gate = node(own, "stages.0.0.se.expand.hard_sigmoid")
    assert (gate.op_type, gate.attributes) == ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5})
    of_stage = with_stage(activation='"relu6"', squeeze_excite="{ ratio = 0.25 }")
    assert node(of_stage, "stages.0.0.se.reduce.relu6").op_type == "Clip"


@given(st.integers(1, 4096), st.integers(1, 16), st.floats(0.001, 1), st.integers(1, 64))
def test_hidden_channels_are_at_least_one_divisor(block_in: int, ratio: int, share: float, divisor: int) -> None:
    se = SqueezeExciteSpec(ratio=share, divisor=divisor)
    hidden = squeezed_channels(se, block_in, block_in * ratio)
    assert hidden >= divisor
    assert hidden % divisor == 0
    assert hidden <= max(divisor, block_in * share + divisor / 2)


@pytest.mark.parametrize(
    ("activation", "op_type"),
    [("silu", "Swish"), ("relu", "Relu"), ("relu6", "Clip"), ("hard_swish", "HardSwish")],
)
def test_the_networks_activation(activation: str, op_type: str) -> None:
    graph = tiny_graph(activation=f'"{activation}"')
    for name in ("stem.norm", "stages.1.1.expand.norm", "stages.1.1.depthwise.norm", "head.norm"):
        assert node(graph, f"{name}.{activation}").op_type == op_type
    assert f"stages.1.1.project.norm.{activation}" not in names(graph)


def test_a_stages_own_activation() -> None:
    graph = with_stage(activation='"relu"')
    assert node(graph, "stages.0.1.expand.norm.relu").op_type == "Relu"
    assert node(graph, "stem.norm.silu").op_type == "Swish"
    assert node(graph, "head.norm.silu").op_type == "Swish"


def test_a_skip_needs_stride_1_and_equal_channels() -> None:
    graph = tiny_graph()
    assert node(graph, "stages.0.0.skip").inputs == ("stages.0.0.project.norm", "stem.norm.silu")
    assert "stages.1.0.skip" not in names(graph)
    assert node(graph, "stages.1.1.skip").inputs == ("stages.1.1.project.norm", "stages.1.0.project.norm")


def test_a_stage_without_skips() -> None:
    graph = with_stage(skip="false")
    assert not any(name.endswith(".skip") for name in names(graph))


def test_symmetric_padding() -> None:
    graph = tiny_graph()
    assert node(graph, "stem.conv").attributes["pads"] == (1, 1, 1, 1)
    assert node(graph, "stages.1.0.depthwise.conv").attributes["pads"] == (2, 2, 2, 2)
    assert node(graph, "head.conv").attributes["pads"] == (0, 0, 0, 0)


def test_same_padding_puts_the_odd_pixel_after() -> None:
    graph = tiny_graph(activation='"silu"\npadding = "same"')
    assert node(graph, "stem.conv").attributes["pads"] == (0, 0, 1, 1)
    assert node(graph, "stages.1.0.depthwise.conv").attributes["pads"] == (1, 1, 2, 2)
    assert node(graph, "stages.1.1.depthwise.conv").attributes["pads"] == (2, 2, 2, 2)


@given(st.integers(1, 8192), st.integers(0, 5), st.integers(1, 4))
def test_same_padding_gives_the_size_over_the_stride(size: int, half_kernel: int, stride: int) -> None:
    kernel = 2 * half_kernel + 1
    before, after = same_padding(size, kernel, stride)
    assert 0 <= after - before <= 1
    assert before >= 0
    if kernel >= stride:  # a smaller kernel skips pixels, and no padding is needed
        assert (size + before + after - kernel) // stride + 1 == -(-size // stride)


def test_a_resolution_that_the_stride_does_not_divide() -> None:
    for padding in ("symmetric", "same"):
        graph = tiny_graph(resolution="33", activation=f'"silu"\npadding = "{padding}"')
        assert graph.values["stem.conv"].shape[2:] == (17, 17)
        assert graph.values["head.conv"].shape[2:] == (5, 5)


def test_epsilon_reaches_every_norm() -> None:
    graph = tiny_graph(activation='"silu"\nnorm = { eps = 0.002 }')
    found = {n.attributes["epsilon"] for n in graph.nodes if n.op_type == "BatchNormalization"}
    assert found == {0.002}


def test_parts_that_keep_their_size_when_scaled() -> None:
    text = TINY.replace("channels = 32", "channels = 32\nscale_width = false")
    text = text.replace("channels = 8\n", "channels = 8\nscale_width = false\n", 1)
    text = text.replace("repeats = 2", "repeats = 2\nscale_depth = false")
    spec = parse_spec(text, "test")
    graph = lower(scale(spec, coefficients_for(spec, 0), Overrides(width=2.0, depth=3.0)))
    assert graph.values["stem.conv"].shape[1] == 8
    assert graph.values["head.conv"].shape[1] == 32
    assert graph.values["stages.1.0.project.conv"].shape[1] == 32
    assert {"stages.0.2.skip", "stages.1.1.skip", "stages.2.2.skip"} <= names(graph)
    assert "stages.1.2.skip" not in names(graph)


def test_scopes_are_parts_of_the_spec() -> None:
    scopes = list(dict.fromkeys(node.scope for node in tiny_graph().nodes))
    assert scopes == ["stem", "stages.0", "stages.1", "stages.2", "head", "classifier"]
