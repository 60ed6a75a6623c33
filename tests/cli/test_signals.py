"""A Ctrl-C ends what runs, wherever it comes."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from effgen.cli.signals import received_signals


class EndsWithASignal:
    """Its finaliser is where Python drops exceptions."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_in_a_finaliser_is_raised_again(capsys: pytest.CaptureFixture[str]) -> None:
    start, theirs = time.monotonic(), sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), received_signals() as received:
        ended = EndsWithASignal()
        del ended
        while time.monotonic() - start < 60:
            time.sleep(0.01)
    assert received == [signal.SIGINT] and sys.unraisablehook is theirs
    assert capsys.readouterr().err == ""


def test_what_else_is_dropped_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_value))

    class Odd:
        def __del__(self) -> None:
            raise ValueError("odd")

    with received_signals() as received:
        odd = Odd()
        del odd
    assert not received and [str(each) for each in told] == ["odd"]


def test_later_signals_are_noted() -> None:
    """The first is being cleaned up after."""
    with pytest.raises(KeyboardInterrupt), received_signals() as received:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
    assert received == [signal.SIGTERM, signal.SIGINT]
