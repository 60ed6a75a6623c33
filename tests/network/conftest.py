"""The tiny network and tensors for all its parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import tiny_graph

from effgen.graph import Graph


@pytest.fixture(scope="module")
def graph() -> Graph:
    return tiny_graph()


@pytest.fixture
def tensors(graph: Graph) -> dict[str, torch.Tensor]:
    """effgen's own names -> random tensors."""
    generator = np.random.default_rng(3)
    return {
        name: torch.from_numpy(generator.random(parameter.shape, dtype=np.float32))
        for name, parameter in graph.parameters.items()
    }
