"""ONNX's own tests of every operator that is read: right or refused, never wrong, never a traceback."""

import collections

import onnx
import pytest
from onnx_nodes import Verdict, judge, node_cases

from effgen.graph.onnx.read import supported


@pytest.fixture(scope="module")
def judged() -> list[tuple[Verdict, set[str]]]:
    return [(judge(case, compiled=False), _operators(case.model)) for case in node_cases()]


def _operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


def test_none_is_wrong(judged: list[tuple[Verdict, set[str]]]) -> None:
    kinds = collections.Counter(verdict.kind for verdict, _ in judged)
    others = [verdict for verdict, _ in judged if verdict.kind in ("wrong", "traceback")]
    assert not others
    assert kinds["right"] > 350 and kinds["right"] > 5 * kinds["refused"]


def test_every_operator_has_one_that_is_right(judged: list[tuple[Verdict, set[str]]]) -> None:
    """Those of ReduceLogSumExp are in double precision, those of codes have whole numbers as input or output
    (`test_onnx_codes`); Identity and Dropout alone leave no network."""
    right = {name for verdict, names in judged if verdict.kind == "right" for name in names}
    assert set(supported()) - right <= {
        "CastLike",
        "DequantizeLinear",
        "Dropout",
        "Identity",
        "QuantizeLinear",
        "ReduceLogSumExp",
    }
