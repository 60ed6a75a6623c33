"""The kernels of small networks and the tensors between them, as text."""

from collections.abc import Callable

import pytest
from networks import kinds_graph, tiny_graph

from effgen.compiler.blocks import kernel_calls, typed_calls
from effgen.compiler.calls import Call, KernelCall, Layer
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


def text_of(call: Call) -> str:
    """`outputs = kernel(inputs)`, and in a line of its own each what is packed into it and what it asks for ahead."""
    if not isinstance(call, KernelCall):
        return f"{call.node.output} = {call.node.op_type}({', '.join(call.node.inputs)})"
    lines = [f"{', '.join(call.outputs)} = {call.workload.name}({', '.join(call.inputs)})"]
    lines += [f"    with {layer_text(layer)}" for layer in call.layers]
    lines += [f"    with norm {call.norm.output}"] if call.norm is not None else []
    lines += [f"    ahead {layer_text(layer)}" for layer in call.ahead]
    return "\n".join(lines)


def layer_text(layer: Layer) -> str:
    return f"{layer.conv.name}: {layer.weight}, {layer.bias or 'no bias'}"
