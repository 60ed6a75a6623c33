"""Trainings beside each other, measurements alone, and nobody waits for ever."""

import threading
import time
from pathlib import Path

import pytest

from effgen.errors import StudyError
from effgen.method.studies.turns import Turns, turns_here

#: Far more than anything here takes; a test that waits so long has failed.
LONG = 600.0


def in_thread(work: object) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_trainings_are_beside_each_other(tmp_path: Path) -> None:
    with Turns(tmp_path).training(), Turns(tmp_path).training() as take_turn:
        take_turn()


def test_a_measurement_is_alone_and_next(tmp_path: Path) -> None:
    log: list[str] = []
    waiting = threading.Event()

    def measure() -> None:
        waiting.set()
        with Turns(tmp_path).measuring():
            log.append("measured")

    with Turns(tmp_path).training() as take_turn:
        measuring = in_thread(measure)
        assert waiting.wait(LONG)
        time.sleep(0.1)
        assert log == []  # an epoch is going on
        while not log:  # trainings that follow one another do not keep it out
            take_turn()
        assert log == ["measured"]
    measuring.join(LONG)


def test_a_training_waits_while_another_worker_measures(tmp_path: Path) -> None:
    log: list[str] = []

    def train() -> None:
        with Turns(tmp_path).training():
            log.append("trained")

    with Turns(tmp_path).measuring():
        training = in_thread(train)
        time.sleep(0.1)
        assert log == []
    training.join(LONG)
    assert log == ["trained"]


def test_an_error_lets_the_machine_go(tmp_path: Path) -> None:
    turns = Turns(tmp_path / "made")
    for _ in range(2):
        try:
            with turns.training():
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        with turns.measuring():
            pass


def test_a_data_folder_that_cannot_be_written_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/dev/null/nowhere")
    with pytest.raises(StudyError, match=r"^/dev/null/nowhere/.*: cannot be written: Not a directory; .*XDG_DATA_HOME"):
        turns_here()
