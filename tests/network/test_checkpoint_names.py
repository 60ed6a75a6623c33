"""Names of layers in state dicts: told apart, and never one tensor for two parameters."""

import re
from functools import cache

import pytest
from networks import kinds_graph, tiny_graph

from effgen.graph import Graph
from effgen.network import NetworkRequest, build_network
from effgen.network.checkpoint_names import SCHEMES, Scheme, known_stems, prefixes_of, schemes_of
from effgen.network.naming.layers import Blocks, NamedLayer
from effgen.network.spec import shipped_spec_names


@cache
def graph_of(spec: str) -> Graph:
    return {"tiny": tiny_graph, "kinds": kinds_graph}[spec]() if spec in ("tiny", "kinds") else shipped(spec)


def shipped(spec: str) -> Graph:
    return build_network(NetworkRequest(spec)).graph


def scheme_id(scheme: Scheme) -> str:
    return f"{scheme.naming}.{scheme.layer_name.__name__}"


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("spec", [*shipped_spec_names(), "tiny", "kinds"])
def test_no_two_parameters_have_one_name(spec: str, scheme: Scheme) -> None:
    names = scheme.names_for(graph_of(spec))
    assert len(set(names.values())) == len(names) == len(graph_of(spec).parameters)


def test_effgens_names_are_the_graphs() -> None:
    names = SCHEMES[-1].names_for(graph_of("kinds"))
    assert all(name == found for name, found in names.items())


@pytest.mark.parametrize(
    ("spec", "name", "expected"),
    [
        ("mobilenet_v3_large", "stages.2.0.project.conv.weight", "blocks.1.1.conv_pwl.weight"),
        ("mobilenet_v3_large", "stages.6.1.expand.norm.bias", "blocks.3.3.bn1.bias"),
        ("mobilenet_v3_large", "stages.7.0.se.reduce.bias", "blocks.4.0.se.conv_reduce.bias"),
        ("mobilenet_v3_large", "stages.9.0.conv.weight", "blocks.6.0.conv.weight"),
        ("mobilenet_v3_large", "stages.9.0.norm.running_var", "blocks.6.0.bn1.running_var"),
        ("mobilenet_v3_large", "head.bias", "conv_head.bias"),
        ("efficientnet_v2_b", "stages.1.0.expand.conv.weight", "blocks.1.0.conv_exp.weight"),
        ("efficientnet_v2_b", "stages.1.0.project.norm.weight", "blocks.1.0.bn2.weight"),
        ("mobilenet_v1", "stages.0.0.project.conv.weight", "blocks.0.0.conv_pw.weight"),
    ],
)
def test_timms_names(spec: str, name: str, expected: str) -> None:
    scheme = schemes_of(["conv_stem.weight"])[0]
    assert scheme.names_for(graph_of(spec))[name] == expected


def test_stages_of_one_shape_are_one_stage_of_timms() -> None:
    joined = Blocks(graph_of("mobilenet_v3_large")).joined
    assert [joined[stage, 0] for stage in range(10)] == [
        (0, 0), (1, 0), (1, 1), (2, 0), (3, 0), (3, 1), (3, 2), (4, 0), (5, 0), (6, 0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["features.0.0.weight", "features.1.0.block.0.0.weight"], "torchvision.features"),
        (["features.0.0.weight", "features.1.block.0.0.weight"], "torchvision.flat"),
        (["features.0.0.weight", "features.1.conv.0.0.weight"], "torchvision.mobilenet_v2"),
        (["layers.0.weight", "layers.8.0.layers.0.weight"], "torchvision.mnasnet"),
        (["conv1.weight", "layer1.0.conv1.weight"], "torchvision.resnet"),
        (["_conv_stem.weight", "_blocks.0._bn1.weight"], "efficientnet_pytorch.efficientnet"),
        (["stem.conv.weight"], "effgen.graph_name"),
        (["stem.conv.weight", "s1.b1.conv1.conv.weight"], "timm.regnet"),
        (["stem.0.weight", "trunk_output.block1.block1-0.proj.0.weight"], "torchvision.regnet"),
        (["conv_stem.weight", "blocks.0.0.ghost1.primary_conv.0.weight"], "timm.ghostnet"),
    ],
)
def test_a_scheme_is_told_by_its_names(names: list[str], expected: str) -> None:
    assert [scheme_id(scheme) for scheme in schemes_of(names)] == [expected]


def test_names_of_no_scheme_and_of_two() -> None:
    assert schemes_of(["encoder.weight"]) == []
    assert len(schemes_of(["conv_stem.weight", "stem.conv.weight"])) == 2
    assert known_stems() == (
        "torchvision (features.0.0.weight, layers.0.weight, conv1.weight, stem.0.weight), "
        "timm (conv_stem.weight, stem.conv.weight), efficientnet_pytorch (_conv_stem.weight), "
        "effgen (stem.conv.weight)"
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["conv_stem.weight"], [""]),
        (["module.conv_stem.weight", "loss.weight"], ["module."]),
        (["student.net.conv_stem.weight", "teacher.net.conv_stem.weight"], ["student.net.", "teacher.net."]),
        (["conv1.weight", "layer1.0.conv1.weight", "layer1.0.conv2.weight"], [""]),
        (["net.layers.0.weight", "net.layers.8.0.layers.0.weight"], ["net."]),
        (["my_conv_stem.weight"], []),
        (["conv1.weight", "conv2.weight"], []),
    ],
)
def test_what_stands_before_names(names: list[str], expected: list[str]) -> None:
    assert prefixes_of(names) == expected


def test_a_files_own_division_into_stages_decides() -> None:
    """timm's files may have two stages where shapes do not tell them apart (lcnet, mnasnet_small), or one."""
    scheme = schemes_of(["conv_stem.weight"])[0]
    graph = graph_of("mobilenet_v3_large")
    joined = scheme.names_for(graph)
    assert scheme.names_for(graph, joined.values()) == joined
    divided = {name: re.sub(r"^blocks\.1\.1\.", "blocks.1.5.", found) for name, found in joined.items()}
    divided = {name: re.sub(r"^blocks\.6\.0\.", "blocks.11.3.", found) for name, found in divided.items()}
    assert divided != joined and scheme.names_for(graph, divided.values()) == divided


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stages.0.0.depthwise.conv.weight", "_blocks.0._depthwise_conv.weight"),
        ("stages.0.0.project.norm.bias", "_blocks.0._bn2.bias"),
        ("stages.1.1.expand.norm.running_var", "_blocks.2._bn0.running_var"),
        ("stages.6.0.se.reduce.bias", "_blocks.15._se_reduce.bias"),
        ("stem.norm.weight", "_bn0.weight"),
        ("head.norm.weight", "_bn1.weight"),
        ("classifier.bias", "_fc.bias"),
    ],
)
def test_names_of_efficientnet_pytorch(name: str, expected: str) -> None:
    assert schemes_of(["_conv_stem.weight"])[0].names_for(graph_of("efficientnet"))[name] == expected


def test_layers_are_read_from_names() -> None:
    assert NamedLayer.of("stages.1.0.se.reduce") == NamedLayer("stages", "reduce", 1, 0, "se")
    assert NamedLayer.of("stages.1.2.conv") == NamedLayer("stages", "conv", 1, 2, "")
    assert NamedLayer.of("stem.norm") == NamedLayer("stem", "norm")
    assert NamedLayer.of("head") == NamedLayer("head")
