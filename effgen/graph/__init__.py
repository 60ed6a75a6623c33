"""The Graph: nodes over static shapes; its passes, its ONNX, and PyTorch running it."""

from effgen.graph.graph import (
    FLOAT32_BYTES,
    Graph,
    GraphBuilder,
    Node,
    Parameter,
    Role,
    Value,
    Weights,
    check_weights,
    code_type,
)

__all__ = [
    "FLOAT32_BYTES",
    "Graph",
    "GraphBuilder",
    "Node",
    "Parameter",
    "Role",
    "Value",
    "Weights",
    "check_weights",
    "code_type",
]
