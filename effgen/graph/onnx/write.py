"""Graph -> ONNX. The file is a stop on the way that others can use: what is compiled is what was exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from effgen.graph import Graph, Value, Weights, check_weights
from effgen.graph.onnx.write_ops import OnnxNodes
from effgen.runtime.manifest import EXTERNAL_SUFFIX
from effgen.version import __version__

IR_VERSION = 8
#: The opset from which on files have to be of this version.
YOUNG_OPSET, YOUNG_IR_VERSION = 21, 10

#: A protobuf message cannot exceed 2 GiB; above this weights go to a file of their own (room left for the graph).
EXTERNAL_ABOVE_BYTES = 2**31 - 2**24


def onnx_from_graph(graph: Graph, weights: Weights, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
    """The model with its weights inside: input and output names, shapes and node names are the graph's."""
    check_weights(graph, weights)
    nodes = OnnxNodes(graph, weights)
    body = helper.make_graph(
        nodes=nodes.protos,
        name=graph.name,
        inputs=[_value_info(graph.input)],
        outputs=[_value_info(graph.values[name]) for name in graph.outputs],
        initializer=nodes.initializers,
        value_info=[
            _value_info(graph.values[node.output], graph.codes.get(node.output, "float32"))
            for node in graph.nodes
            if node.output not in graph.outputs
        ],
    )
    model = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid("", nodes.opset)],
        ir_version=IR_VERSION if nodes.opset < YOUNG_OPSET else YOUNG_IR_VERSION,
        producer_name="effgen",
        producer_version=__version__,
    )
    if metadata:
        helper.set_model_props(model, dict(metadata))
    return model


def save_onnx(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Write and fully check the model; returns the files written (two where weights exceed protobuf's 2 GiB).

    Of a model over that limit the weights are moved, not copied, to the file: the message keeps references to it.
    """
    weight_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if weight_bytes <= EXTERNAL_ABOVE_BYTES:
        onnx.save_model(model, path, format="protobuf")
        onnx.checker.check_model(str(path), full_check=True)
        return [path]
    data = path.with_name(path.name + EXTERNAL_SUFFIX)
    data.unlink(missing_ok=True)  # onnx appends to a file that is there
    onnx.save_model(model, path, "protobuf", save_as_external_data=True, location=data.name, size_threshold=1024)
    onnx.checker.check_model(str(path), full_check=True)
    return [path, data]


def _value_info(value: Value, dtype: str = "float32") -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), value.shape)
