"""Which layers become int8, and which tensors codes."""

import pytest
from networks import kinds_graph, lively_weights, tiny_graph

from effgen.errors import BuildError
from effgen.graph import Graph
from effgen.graph.ops import integer
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.quantization.places import places, residuals


def folded(graph: Graph) -> Graph:
    return fold_batchnorm(graph, lively_weights(graph))[0]


@pytest.mark.parametrize("graph", [tiny_graph(), kinds_graph()], ids=["tiny", "kinds"])
def test_every_product_but_the_first_the_depthwise_and_the_gates(graph: Graph) -> None:
    graph = folded(graph)
    found = {place.layer for place in places(graph)}
    for node in graph.nodes:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        gate = ".squeeze" in node.output or ".se." in node.output or "excite" in node.output
        first, grouped = node.inputs[0] == graph.input.name, integer(node.attributes, "group", 1) > 1
        assert (node.output in found) == (not (gate or first or grouped)), node.output


def test_an_image_is_codes_before_a_gate_scales_it_and_after() -> None:
    graph = folded(tiny_graph())
    made = {node.output: node for node in graph.nodes}
    gated = [place for place in places(graph) if made[place.tensors[0]].op_type == "Mul"]
    assert gated
    for place in gated:
        product, whole = place.tensors
        assert whole in made[product].inputs and graph.values[whole].shape == graph.values[product].shape


def test_what_a_layer_is_added_to_is_codes() -> None:
    graph = folded(tiny_graph())
    added = [node for node in graph.nodes if node.op_type == "Add"]
    found = residuals(graph, [place.layer for place in places(graph)])
    assert added and len(found) == len(added)
    assert all(any(name in node.inputs for name in found) for node in added)
    assert residuals(graph, []) == []


def test_patterns_of_what_stays() -> None:
    graph = folded(tiny_graph())
    every, fewer = places(graph), places(graph, ["stages.2.*", "classifier"])
    gone = {place.name for place in every} - {place.name for place in fewer}
    assert gone and all(name.startswith("stages.2.") or name == "classifier" for name in gone)
    with pytest.raises(
        BuildError, match=r"--keep-float nothing\.\*: matches no layer that would become int8; they are "
    ):
        places(graph, ["nothing.*"])
