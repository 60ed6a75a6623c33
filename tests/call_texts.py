"""Kernel calls as text, for goldens."""

from effgen.compiler.calls import Call, KernelCall, Layer


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
