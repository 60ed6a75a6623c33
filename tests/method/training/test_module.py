"""The Graph as it learns: in evaluation it is the judge, in training batch norms, dropout and skips do their part."""

from typing import Any

import numpy as np
import pytest
import torch
from networks import noise, tiny_graph, tiny_spec

from effgen.graph import Graph
from effgen.graph.reference import run_reference
from effgen.method.training.module import TrainableNetwork, drop_rates
from effgen.network import NetworkRequest, build_network
from effgen.network.lowering.network import lower
from effgen.network.scaling import Overrides
from effgen.network.spec import NetworkSpec, shipped_spec_names
from effgen.network.weights import initial_weights

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def network_of(spec: NetworkSpec, drop_connect: float = 0.0, seed: int = 0) -> tuple[Graph, TrainableNetwork]:
    graph = lower(spec)
    return graph, TrainableNetwork(graph, spec, drop_connect, seed, torch.Generator())


def test_evaluation_is_the_judge() -> None:
    graph, network = network_of(tiny_spec(), drop_connect=0.5, seed=3)
    image = noise(graph.input.shape)
    with torch.inference_mode():
        found = network.eval()(torch.from_numpy(image)).numpy()
    np.testing.assert_array_equal(found, run_reference(graph, initial_weights(graph, 3), image))


@pytest.mark.parametrize("family", shipped_spec_names())
def test_gradients_reach_every_trainable_parameter(family: str) -> None:
    """Of every block kind that is lowered, on a small picture."""
    spec = build_network(NetworkRequest(spec=family, overrides=Overrides(width=0.35, resolution=64))).spec
    stages = [stage.model_copy(update={"repeats": min(stage.repeats, 2)}) for stage in spec.stages]
    graph, network = network_of(spec.model_copy(update={"stages": stages}))
    for name, parameter in graph.parameters.items():
        if parameter.role == "bias":  # keeps the few ReLUs of a squeeze-excite alive
            network.tensors()[name].data.fill_(1.0)
    loss = network.train()(torch.from_numpy(noise((4, *graph.input.shape[1:])))).square().mean()
    loss.backward()
    for name, tensor in network.tensors().items():
        trainable = graph.parameters[name].trainable
        assert tensor.requires_grad == trainable, name
        if trainable:
            assert tensor.grad is not None and torch.isfinite(tensor.grad).all(), name
    reached = [name for name, tensor in network.tensors().items() if tensor.grad is not None and tensor.grad.any()]
    assert len(reached) == sum(parameter.trainable for parameter in graph.parameters.values())


def test_batch_norms_use_and_follow_the_batch() -> None:
    spec = tiny_spec()
    graph, network = network_of(spec)
    first = next(node for node in graph.nodes if node.op_type == "BatchNormalization")
    seen: list[torch.Tensor] = []
    run = network.run

    def listening(node: Any, *operands: torch.Tensor) -> torch.Tensor:
        output = run(node, *operands)
        if node is first:
            seen.extend((operands[0].detach(), output.detach()))
        return output

    network.run = listening
    network.train()(torch.from_numpy(noise((8, *graph.input.shape[1:]))))
    data, output = seen
    np.testing.assert_allclose(output.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(output.var((0, 2, 3), correction=0), 1, rtol=1e-3)
    momentum = spec.norm.momentum
    mean, var = (network.tensors()[name] for name in first.inputs[3:])
    np.testing.assert_allclose(mean, momentum * data.mean((0, 2, 3)), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(var, 1 - momentum + momentum * data.var((0, 2, 3)), rtol=1e-5)


def test_evaluation_changes_nothing() -> None:
    graph, network = network_of(tiny_spec())
    network.eval()(torch.from_numpy(noise((4, *graph.input.shape[1:]))))
    for name, array in initial_weights(graph, 0).items():
        np.testing.assert_array_equal(network.tensors()[name].detach(), array)


def test_drop_rates_grow_linearly_over_all_blocks() -> None:
    """TINY has the blocks 0.0, 1.0, 1.1, 2.0, of which the first and the third have a skip; the first's rate is 0."""
    assert drop_rates(tiny_graph(), 0.2) == {"stages.1.1.skip": pytest.approx(0.2 * 2 / 4)}
    graph = build_network(NetworkRequest()).graph
    rates = drop_rates(graph, 0.2)
    assert len(rates) == 9 and list(rates.values()) == sorted(rates.values())
    assert rates["stages.5.3.skip"] == pytest.approx(0.2 * 14 / 16)
    assert drop_rates(graph, 0.0) == {}


def test_drop_connect_leaves_whole_blocks_out_and_keeps_the_mean() -> None:
    graph, network = network_of(tiny_spec(), drop_connect=0.5)
    (name,) = drop_rates(graph, 0.5)
    add = next(node for node in graph.nodes if node.output == name)
    block, shortcut = torch.ones(1000, 16, 2, 2), torch.full((1000, 16, 2, 2), 3.0)
    mixed = network.train().run(add, block, shortcut)
    assert mixed.unique().tolist() == pytest.approx([3, 3 + 1 / (1 - 0.5 * 2 / 4)])
    assert (mixed.amin((1, 2, 3)) == mixed.amax((1, 2, 3))).all()  # a picture's block as a whole
    assert mixed.mean().item() == pytest.approx(4, abs=5 * (0.25 / 0.75 / 1000) ** 0.5)
    torch.testing.assert_close(network.eval().run(add, block, shortcut), torch.full_like(block, 4.0))


def test_dropout_before_the_classifier_keeps_the_mean() -> None:
    spec = tiny_spec()
    spec = spec.model_copy(update={"classifier": spec.classifier.model_copy(update={"dropout": 0.4})})
    graph, network = network_of(spec)
    gemm = next(node for node in graph.nodes if node.op_type == "Gemm")
    features = torch.ones(500, 32)
    weight, bias = torch.eye(32)[:10], torch.zeros(10)
    dropped = network.train().run(gemm, features, weight, bias)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert dropped.mean().item() == pytest.approx(1, abs=5 * (0.4 / 0.6 / 5000) ** 0.5)
    assert (network.eval().run(gemm, features, weight, bias) == 1).all()


def test_random_numbers_are_the_generators() -> None:
    graph, network = network_of(tiny_spec(), drop_connect=0.5)
    image = torch.from_numpy(noise((8, *graph.input.shape[1:])))

    def logits(seed: int) -> torch.Tensor:
        torch.rand(1)  # the global generator has no part in it
        network._generator.manual_seed(seed)
        answer: torch.Tensor = network.train()(image).detach()
        return answer

    torch.testing.assert_close(logits(1), logits(1), rtol=0, atol=0)
    assert (logits(1) != logits(2)).any()
