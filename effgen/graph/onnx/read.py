"""From an ONNX file or model to a Graph: the operators that are read, and reading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effgen.errors import GraphError
from effgen.graph import Graph
from effgen.graph.onnx import activations, arithmetic, borders, norms, quantization, reductions, shapes, windows
from effgen.graph.onnx.file import OnnxFile, open_onnx
from effgen.graph.onnx.reader import Converter, Reader
from effgen.graph.onnx.schema import shortened
from effgen.graph.passes.channels_first import channels_first
from effgen.graph.passes.fold_affine import fold_affine
from effgen.graph.passes.fuse_activations import fuse_activations
from effgen.graph.passes.fuse_pads import fuse_pads
from effgen.graph.passes.join_means import join_means
from effgen.graph.passes.layer_norms import layer_norms
from effgen.graph.passes.linear_gates import linear_gates
from effgen.graph.passes.prune import prune
from effgen.graph.passes.simplify_moves import simplify_moves

#: Operator -> what makes nodes of the Graph from it.
CONVERTERS: Mapping[str, Converter] = {
    **windows.CONVERTERS,
    **borders.CONVERTERS,
    **reductions.CONVERTERS,
    **arithmetic.CONVERTERS,
    **norms.CONVERTERS,
    **shapes.CONVERTERS,
    **activations.CONVERTERS,
    **quantization.CONVERTERS,
}

#: What makes one operator of several, in this order.
_PASSES = (
    prune,
    simplify_moves,
    join_means,
    layer_norms,
    fuse_activations,
    simplify_moves,
    channels_first,
    linear_gates,
    fuse_pads,
    fold_affine,
)


def graph_from_onnx(path: Path, batch: int | None = None) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """The graph in `path` and the arrays of its parameters, external data included; a symbolic batch becomes `batch`.

    `Sigmoid` + `Mul` of one tensor becomes `Swish` again, bounds of `Clip` become attributes; docs/onnx.md has the
    rest. `scope` is empty: ONNX has no place for it. Raises GraphError (one line) for a file that cannot be read, an
    operator, attribute or type outside effgen's, and for shapes that are not static.
    """
    return graph_from_file(open_onnx(path, batch))


def graph_from_file(file: OnnxFile) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
    """`graph_from_onnx` for a file that is open."""
    understood = read_file(file)
    return understood.graph, understood.weights


@dataclass(frozen=True)
class Understood:
    """What a file says: its network, and what is computed otherwise than it stands there (`notes`); `reduced`: the file
    itself computes with fewer digits than float32."""

    graph: Graph
    weights: dict[str, NDArray[np.float32]]
    notes: tuple[str, ...] = ()
    reduced: bool = False


def read_file(file: OnnxFile) -> Understood:
    """Read and simplify a file that is open. Raises GraphError as `graph_from_onnx` does."""
    reader = Reader(file, CONVERTERS)
    try:
        graph, weights = reader.run()
        for rewrite in _PASSES:
            graph, weights = rewrite(graph, weights)
    except GraphError as error:
        raise GraphError(f"{file.path}: {shortened(str(error))}") from None
    return Understood(graph, weights, tuple(reader.notes), reader.reduced)


def supported() -> list[str]:
    """The operators that may stand anywhere, by name; what is computed from constants alone may be any."""
    return sorted(CONVERTERS)
