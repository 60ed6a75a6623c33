"""The kernels of small networks and the tensors between them, as text."""

from collections.abc import Callable

import pytest
from call_texts import text_of
from networks import kinds_graph, tiny_graph

from effgen.compiler.blocks import kernel_calls, typed_calls
from effgen.compiler.repertoire import CPU_KERNELS, GPU_KERNELS, Repertoire
from effgen.graph.passes.fold_batchnorm import folded_graph

NETWORKS = {"tiny": tiny_graph, "kinds": kinds_graph}


@pytest.mark.parametrize(("kernels", "dtype"), [(CPU_KERNELS, "float32"), (GPU_KERNELS, "float16")], ids=["cpu", "gpu"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_calls_are_as_recorded(
    name: str, kernels: Repertoire, dtype: str, check_golden: Callable[[str, str], None]
) -> None:
    """Shows in a diff what a change of fusion does."""
    calls = typed_calls(kernel_calls(folded_graph(NETWORKS[name]()), kernels), dtype)
    processor = "cpu" if kernels is CPU_KERNELS else "gpu"
    check_golden(f"{name}.{processor}.calls.txt", "".join(f"{text_of(call)}\n" for call in calls))
