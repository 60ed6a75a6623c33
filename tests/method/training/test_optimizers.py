"""Steps of the optimizers, the learning rate and the moving average against their formulas."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from learning import quick
from networks import tiny_graph, tiny_spec

from effgen.method.training.module import TrainableNetwork
from effgen.method.training.optimizers import MovingAverage, RMSprop, learning_rate, optimizer_for
from effgen.method.training.recipe import Recipe


def tiny_network() -> TrainableNetwork:
    return TrainableNetwork(tiny_graph(), tiny_spec(), 0.0, 0, torch.Generator())


def test_rmsprop_follows_tensorflows_formula() -> None:
    generator = np.random.default_rng(0)
    expected, square, momentum = generator.normal(size=7), np.ones(7), np.zeros(7)
    weight = torch.nn.Parameter(torch.tensor(expected))
    optimizer = RMSprop([{"params": [weight], "weight_decay": 0.1}], lr=0.05)
    for rate in (0.05, 0.05, 0.01, 0.2):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.tensor(generator.normal(size=7))
        gradient = weight.grad.numpy() + 0.1 * expected
        square = 0.9 * square + 0.1 * gradient**2
        momentum = 0.9 * momentum + rate * gradient / np.sqrt(square + 1e-3)
        expected = expected - momentum
        optimizer.step()
        np.testing.assert_allclose(weight.detach(), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["rmsprop", "adamw"])
def test_weight_decay_acts_on_kernels_alone(kind: str) -> None:
    graph, network = tiny_graph(), tiny_network()
    optimizer = optimizer_for(network, graph, quick(optimizer=kind, weight_decay=0.5))
    decay_of = {weight: group["weight_decay"] for group in optimizer.param_groups for weight in group["params"]}
    tensors = network.tensors()
    assert len(decay_of) == sum(parameter.trainable for parameter in graph.parameters.values())
    for name, parameter in graph.parameters.items():
        if parameter.trainable:
            assert decay_of[tensors[name]] == (0.5 if parameter.role == "kernel" else 0.0), name


def test_cosine_with_warm_up() -> None:
    recipe = Recipe(epochs=12, warmup_epochs=2, learning_rate=0.5)
    assert [learning_rate(recipe, epochs) for epochs in (0, 1, 2, 7, 12)] == pytest.approx([0, 0.25, 0.5, 0.25, 0])
    quarter = 0.5 * (1 + math.cos(math.pi / 4)) / 2
    assert learning_rate(recipe, 4.5) == pytest.approx(quarter)


def test_exponential_decay() -> None:
    """Paper, section 5: a rate of 0.256 that decays by 0.97 every 2.4 epochs."""
    recipe = Recipe(epochs=350, warmup_epochs=5, learning_rate=0.256, schedule="exponential")
    assert learning_rate(recipe, 2.5) == pytest.approx(0.128)
    assert learning_rate(recipe, 24.1) == pytest.approx(0.256 * 0.97**10)


@given(warmup=st.floats(0, 9), at=st.floats(0, 10), schedule=st.sampled_from(["cosine", "exponential"]))
def test_rates_stay_below_the_highest(warmup: float, at: float, schedule: str) -> None:
    recipe = quick(epochs=10, warmup_epochs=warmup, schedule=schedule)
    assert 0 <= learning_rate(recipe, at) <= recipe.learning_rate


def test_moving_average_follows_its_formula() -> None:
    average, network = tiny_network().requires_grad_(False), tiny_network()
    ema = MovingAverage(average, network, decay=0.3)
    name = "stages.0.0.depthwise.norm.running_var"  # the statistics are averaged like the weights
    expected = average.tensors()[name].double().numpy()
    for steps in range(4):
        with torch.no_grad():
            network.tensors()[name].add_(1 + steps)
        ema.update(steps)
        decay = min(0.3, (1 + steps) / (10 + steps))
        expected = decay * expected + (1 - decay) * network.tensors()[name].numpy()
        np.testing.assert_allclose(average.tensors()[name], expected, rtol=1e-6)
