"""ONNX's own tests of single operators, read and, on request, compiled: how many are right, refused, or wrong.

    python benchmarks/onnx_nodes.py [--compile] [--only NAME] [--list refused]

Each case of the installed onnx whose operator effgen reads: its first floating-point input is the network's input, the
others become constants, as they are in files. Right: the first output as near to the one that onnx ships as onnx asks
of it, NaN and infinity included. Refused: one clear line. Wrong and tracebacks must be none.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from effgen.errors import EffgenError
from effgen.graph import Graph, Weights
from effgen.graph.onnx import graph_from_onnx
from effgen.graph.onnx.read import supported
from effgen.graph.reference import run_reference


@dataclass(frozen=True)
class NodeCase:
    """A model of one input, what goes in and what has to come out."""

    name: str
    model: onnx.ModelProto
    image: NDArray[np.float32]
    expected: NDArray[np.float32]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Verdict:
    """`kind`: right, refused, wrong or traceback; `reason` says more."""

    name: str
    kind: str
    reason: str = ""


def node_cases() -> Iterator[NodeCase]:
    """Those of the operators that effgen reads, with floating-point data in and out."""
    known = set(supported())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx computes its cases when asked for them, overflows included
        cases = load_model_tests(kind="node")
    for case in cases:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        if not model.graph.node or not {node.op_type for node in model.graph.node} <= known:
            continue
        found = _as_network(model, *case.data_sets[0])
        if found is not None:
            yield NodeCase(case.name, model, *found, case.rtol, case.atol)


def _as_network(
    model: onnx.ModelProto, given: list[Any], answers: list[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """What goes in and comes out of the model, which has one input and one output afterwards; None if it cannot."""
    arrays, expected = [_array(each) for each in given], _array(answers[0])
    floats = [index for index, array in enumerate(arrays) if array is not None and array.dtype == np.float32]
    if not floats or expected is None or expected.dtype != np.float32 or not expected.size:
        return None
    first = floats[0]
    image = arrays[first]
    assert image is not None
    if not image.size:
        return None
    inputs = list(model.graph.input)
    for index, (value, array) in enumerate(zip(inputs, arrays, strict=True)):
        if index != first:
            if array is None:
                return None
            model.graph.initializer.append(numpy_helper.from_array(array, value.name))
            model.graph.input.remove(value)
    del model.graph.output[1:]
    return image, expected


def _array(value: Any) -> NDArray[Any] | None:
    """Sequences and optionals are no tensors."""
    return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else None


def judge(case: NodeCase, compiled: bool) -> Verdict:
    """Read the case and run it by PyTorch, or `compiled`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.onnx"
        onnx.save(case.model, path)
        try:
            graph, weights = graph_from_onnx(path)
            if compiled:
                found = _compiled(graph, weights, case.image, Path(folder))
            else:
                found = run_reference(graph, weights, case.image)
        except EffgenError as error:
            return Verdict(case.name, "refused", str(error).removeprefix(f"{path}: "))
        except Exception as error:
            return Verdict(case.name, "traceback", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    if found.size != case.expected.size:
        return Verdict(case.name, "wrong", f"{found.shape} for {case.expected.shape}")
    found = found.reshape(case.expected.shape)
    if not np.allclose(found, case.expected, case.rtol, case.atol, equal_nan=True):
        return Verdict(case.name, "wrong", f"differs by {np.nanmax(np.abs(found - case.expected)):.1e}")
    return Verdict(case.name, "right")


def _compiled(graph: Graph, weights: Weights, image: NDArray[np.float32], folder: Path) -> NDArray[np.float32]:
    """The graph by the machine code that would be shipped."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from compiling import run_compiled

    return run_compiled(graph, weights, image, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile", action="store_true", help="run compiled code instead of PyTorch")
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument("--list", default="wrong,traceback", help="kinds to list one by one")
    options = parser.parse_args()
    verdicts = [judge(case, options.compile) for case in node_cases() if options.only in case.name]
    for verdict in verdicts:
        if verdict.kind in options.list.split(","):
            print(f"{verdict.kind:10} {verdict.name}: {verdict.reason}")
    kinds = ("right", "refused", "wrong", "traceback")
    print(", ".join(f"{kind} {sum(verdict.kind == kind for verdict in verdicts)}" for kind in kinds))


if __name__ == "__main__":
    main()
