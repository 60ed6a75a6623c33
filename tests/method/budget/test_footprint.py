"""What is planned before a network is compiled is what the compiler then plans."""

from pathlib import Path

import pytest
from compiling import program_of
from networks import kinds_graph, tiny_graph

from effgen.graph import Graph
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.machines.target import load_target
from effgen.method.budget.footprint import footprint
from effgen.network import NetworkRequest, build_network
from effgen.network.weights import initial_weights
from effgen.runtime import read_manifest

SMALL = ("mobilenet_v1", "mobilenet_v3_large", "resnet50", "efficientnet_v2_s")


def check(graph: Graph) -> None:
    planned, program = (
        footprint(graph, load_target("cpu")),
        program_of(*fold_batchnorm(graph, initial_weights(graph, 0))),
    )
    assert planned.workspace == program.workspace_bytes
    assert planned.weights == program.weights.nbytes
    assert (planned.image, planned.outputs) == (program.image_bytes, program.logits_bytes)
    assert planned.memory == sum(program.sizes.values())


@pytest.mark.parametrize("batch", [1, 3])
def test_small_networks(batch: int) -> None:
    check(tiny_graph(batch))
    check(kinds_graph(batch))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_shrunk_families(name: str) -> None:
    check(build_network(NetworkRequest(name, "-4", "formula")).graph)


def test_a_bundle_on_disk(tiny_bundle: Path) -> None:
    planned = footprint(tiny_graph(), load_target("cpu"))
    assert planned.weights == (tiny_bundle / "weights.bin").stat().st_size
    assert planned.workspace == read_manifest(tiny_bundle).workspace_bytes
    assert planned.kernels == len(read_manifest(tiny_bundle).kernels)


def test_vectors_of_the_machine_pad_the_weights() -> None:
    """12 channels are one vector of 16 numbers with AVX-512, three of 4 with NEON."""
    wide, narrow = (footprint(tiny_graph(channels="12"), load_target(name)).weights for name in ("x86-64-v4", "rpi4"))
    assert wide > narrow


def test_planning_b0_takes_no_compiler() -> None:
    """21.1 MB of weights, 2.9 MiB of activations, as a bundle of it has them."""
    planned = footprint(build_network(NetworkRequest()).graph, load_target("x86-64-v3"))
    assert planned.weights == 21_139_840
    assert planned.workspace == 3_040_256
    assert planned.image == 3 * 224 * 224 * 4
