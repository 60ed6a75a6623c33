"""Converters of peers, which have a process of their own: what they refuse, and those that crash."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from effgen.errors import EffgenError, GraphError
from effgen.judge import conversion, converted
from effgen.judge.converted import FORMS, Form, prepare_converted
from effgen.judge.job import PeerJob
from effgen.judge.messages import Conversion
from effgen.judge.peers import PEERS
from effgen.measure.answering import AnsweringProcess


@pytest.fixture
def job(tmp_path: Path) -> PeerJob:
    """Of a file that is not there."""
    return PeerJob(tmp_path / "absent.onnx", np.zeros((1, 3, 8, 8), np.float32), 1)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (GraphError("net.onnx: no"), "net.onnx: no"),
        (ValueError("two\nlines"), "ValueError: two"),
        (KeyError(), "KeyError: no message"),
    ],
)
def test_whatever_a_converter_raises_is_a_reason(
    error: Exception, reason: str, job: PeerJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(job: PeerJob, folder: Path) -> None:
        raise error

    monkeypatch.setattr(conversion, "FORMS", {"x": Form(refuse, FORMS["tvm"].load)})
    refused = conversion.convert(Conversion("x", job, tmp_path))
    assert refused is not None and refused.reason == reason


def test_refusal_comes_through_the_pipe(job: PeerJob) -> None:
    with pytest.raises(EffgenError, match=r"absent.onnx: cannot read the model"):
        prepare_converted("tvm", job)


def test_converter_that_crashes(job: PeerJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converted, "AnsweringProcess", lambda module, more: AnsweringProcess("effgen.absent", more))
    with pytest.raises(EffgenError, match=r"its converter ended: exit status 1: .*No module named effgen.absent"):
        prepare_converted("tvm", job)


def test_every_form_is_a_peer() -> None:
    prepared = {name: peer.prepare for name, peer in PEERS.items() if isinstance(peer.prepare, partial)}
    assert {name: prepare.args for name, prepare in prepared.items()} == {name: (name,) for name in FORMS}
