"""Initial weights: the same for the same seed, and spread as the released models start."""

import math

import numpy as np
import pytest
from networks import noise, relative_error, tiny_graph

from effgen.graph import check_weights
from effgen.graph.reference import run_reference
from effgen.network import NetworkRequest, build_network
from effgen.network.scaling import Overrides
from effgen.network.weights import initial_weights


def test_they_are_the_graphs_parameters() -> None:
    graph = tiny_graph()
    check_weights(graph, initial_weights(graph, 0))


def test_the_seed_decides() -> None:
    graph = tiny_graph()
    first, again, other = (initial_weights(graph, seed) for seed in (1, 1, 2))
    for name, parameter in graph.parameters.items():
        assert np.array_equal(first[name], again[name])
        assert np.array_equal(first[name], other[name]) == (parameter.role != "kernel")


def test_they_are_the_same_on_every_machine() -> None:
    """Values of the first, a middle and the last kernel: a change of order or generator shows here."""
    weights = initial_weights(tiny_graph(), 0)
    first = [0.186270, -0.231187, -0.071095]
    middle = [0.072194, 0.063363, 0.098460]
    last = [0.305723, 0.087415, 0.251567]
    assert weights["stem.conv.weight"].ravel()[:3] == pytest.approx(first, abs=1e-6)
    assert weights["stages.1.1.depthwise.conv.weight"].ravel()[:3] == pytest.approx(middle, abs=1e-6)
    assert weights["classifier.weight"].ravel()[:3] == pytest.approx(last, abs=1e-6)


def test_constants() -> None:
    graph = tiny_graph()
    weights = initial_weights(graph, 0)
    ones = {"norm_scale", "norm_var"}
    for name, parameter in graph.parameters.items():
        if parameter.role != "kernel":
            assert np.all(weights[name] == (1.0 if parameter.role in ones else 0.0)), name


@pytest.mark.parametrize(
    ("name", "fan_out"),
    [
        ("head.conv.weight", 1280),
        ("stages.6.0.expand.conv.weight", 1152),
        ("stages.6.0.depthwise.conv.weight", 9),
        ("stages.5.1.depthwise.conv.weight", 25),
        ("stages.6.0.se.expand.weight", 1152),
        ("stem.conv.weight", 9 * 32),
    ],
)
def test_convolutions_have_variance_2_over_fan_out(name: str, fan_out: int) -> None:
    graph = build_network(NetworkRequest(overrides=Overrides(resolution=32))).graph
    kernel = initial_weights(graph, 0)[name]
    spread = 5 * math.sqrt(2 / kernel.size)  # of the sample's variance: five standard deviations
    assert kernel.var() * fan_out / 2 == pytest.approx(1, abs=spread)
    assert abs(kernel.mean()) < 5 * kernel.std() / math.sqrt(kernel.size)


def test_the_classifier_is_uniform_within_the_root_of_its_outputs() -> None:
    kernel = initial_weights(tiny_graph(), 0)["classifier.weight"]
    bound = 1 / math.sqrt(10)
    assert 0.95 * bound < np.abs(kernel).max() <= bound
    assert kernel.var() == pytest.approx(bound**2 / 3, rel=0.2)


@pytest.mark.parametrize("phi", ["0", pytest.param("7", marks=pytest.mark.slow)])
def test_the_signal_reaches_the_classifier(phi: str) -> None:
    """Small, as everything shrinks where no statistics are trained yet, but far from what float32 loses."""
    graph = build_network(NetworkRequest(phi=phi, overrides=Overrides(resolution=96))).graph
    weights = initial_weights(graph, 0)
    output = run_reference(graph, weights, noise(graph.input.shape))
    assert output.std() > 1e-7
    assert relative_error(run_reference(graph, weights, noise(graph.input.shape, seed=1)), output) > 0.5
