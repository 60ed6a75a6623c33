"""Measuring in a process of its own: right and wrong candidates, crashes, hangs, kills, and how two are compared."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import toy_spaces
from toy_spaces import ABORTS, FAST, HANGS, MACHINE, SLOW, SLOWEST, UNBUILDABLE, UNFINISHED, WORKLOAD, WRONG

from effgen.errors import TuneError
from effgen.measure.carried import timing
from effgen.measure.carried.timing import EARLY_ROUNDS, THOROUGH_ROUNDS, Timing, alone, better, compare, timed
from effgen.measure.measurer import Measurer
from effgen.measure.pipe import PipeClosedError, PipeTimeoutError, receive, send
from effgen.measure.protocol import Outcome, Setup

SLOW_DEFAULT = {"mode": SLOW, "salt": 0}


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    """One worker for the tests that do not hurt it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", toy_spaces.environment()["PYTHONPATH"])
        with Measurer(Setup(MACHINE, "toy_spaces:bad_space_of"), candidate_limit_s=600) as measurer:
            yield measurer


def measure(measurer: Measurer, mode: int, incumbent: bool = True) -> Outcome:
    return measurer.measure(WORKLOAD, {"mode": mode, "salt": 0}, SLOW_DEFAULT if incumbent else None, 1e-3)


def test_good_candidates_are_timed(measurer: Measurer) -> None:
    first = measure(measurer, SLOW, incumbent=False)
    assert first.status == "ok" and first.timing is not None
    assert first.timing.seconds > 400e-6 and first.timing.incumbent_seconds is None
    fast = measure(measurer, FAST)
    assert fast.timing is not None and better(fast.timing) and fast.timing.ratio < 0.5
    slowest = measure(measurer, SLOWEST)
    assert slowest.timing is not None and not better(slowest.timing) and slowest.timing.ratio > 1.5


@pytest.mark.parametrize(
    ("mode", "status", "text"),
    [
        (WRONG, "wrong", "relative L2 error"),
        (UNFINISHED, "wrong", "error nan"),
        (UNBUILDABLE, "build_error", "ValueError: no such schedule"),
    ],
)
def test_bad_candidates_are_told_apart_and_the_worker_lives(
    mode: int, status: str, text: str, measurer: Measurer
) -> None:
    before = (measurer.restarts, measurer.pid)
    outcome = measure(measurer, mode)
    assert (outcome.status, outcome.timing) == (status, None) and text in outcome.error
    assert measure(measurer, FAST).status == "ok"
    assert measurer.restarts == before[0]


def test_crash_costs_a_worker_not_the_run(measurer: Measurer) -> None:
    outcome = measure(measurer, ABORTS)
    assert (outcome.status, outcome.timing) == ("crashed", None) and "SIGABRT" in outcome.error
    assert measure(measurer, FAST).status == "ok"


def test_hang_ends_at_the_limit(measurer: Measurer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure(measurer, FAST).status == "ok"
    worker = measurer.pid
    monkeypatch.setattr(measurer, "_candidate_limit_s", 0.5)
    outcome = measure(measurer, HANGS)
    monkeypatch.undo()
    assert (outcome.status, outcome.timing) == ("timeout", None) and "no result within" in outcome.error
    assert worker is not None and not alive(worker)
    assert measure(measurer, FAST).status == "ok"


def test_killed_worker_is_replaced_and_the_candidate_not_blamed(measurer: Measurer) -> None:
    assert measure(measurer, FAST).status == "ok"
    worker = measurer.pid
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    assert measure(measurer, FAST).status == "ok"
    assert measurer.pid not in (worker, None)


def test_space_that_cannot_be_had_is_one_line(measurer: Measurer) -> None:
    with (
        Measurer(Setup(MACHINE, "toy_spaces:absent")) as other,
        pytest.raises(TuneError, match=r"ended before a kernel ran: exit status 1: .*absent"),
    ):
        measure(other, FAST)


PARENT = """if True:
    from toy_spaces import FAST, HANGS, MACHINE, WORKLOAD
    from effgen.measure.measurer import Measurer
    from effgen.measure.protocol import Setup
    measurer = Measurer(Setup(MACHINE, "toy_spaces:bad_space_of"), candidate_limit_s=600)
    measurer.measure(WORKLOAD, {"mode": FAST, "salt": 0})
    print(measurer.pid, flush=True)
    measurer.measure(WORKLOAD, {"mode": HANGS, "salt": 0})
"""


def test_worker_dies_with_a_killed_parent_even_inside_a_kernel() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=toy_spaces.environment()) as parent:
        assert parent.stdout
        worker = int(parent.stdout.readline())
        assert alive(worker)
        parent.kill()
    wait_until(lambda: not alive(worker))


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], tries: int = 6000) -> None:
    for _ in range(tries):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never happened")


# The pipe.


def test_messages_cross_the_pipe_whole() -> None:
    read_end, write_end = os.pipe()
    message = Outcome("wrong", "x" * 30_000)
    send(write_end, message)
    assert receive(read_end, 1.0) == message
    with pytest.raises(PipeTimeoutError):
        receive(read_end, 0.01)
    os.write(write_end, b"half")
    with pytest.raises(PipeTimeoutError):
        receive(read_end, 0.01)
    os.close(write_end)
    with pytest.raises(PipeClosedError):
        receive(read_end)
    os.close(read_end)


# Comparing, on a clock of our own.


class Clock:
    """Stands for `time` in `effgen.measure.carried.timing`; kernels move it on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def kernel(self, name: str, *seconds: float) -> Callable[[], None]:
        """Takes each of `seconds` in turn, for ever."""
        count = 0

        def run() -> None:
            nonlocal count
            self.now += seconds[count % len(seconds)]
            self.calls.append(name)
            count += 1

        return run

    def side(self, name: str, *seconds: float, between: str = "-") -> "timing.Side":
        """`kernel` as a side, with 0.1 ms between its calls."""
        return timed(self.kernel(name, *seconds), self.kernel(between, 1e-4))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_clear_winner_is_confirmed(clock: Clock) -> None:
    result = compare(clock.side("a", 80e-6), clock.side("b", 100e-6))
    assert result.ratio == pytest.approx(0.8) and result.wins == 1 and result.rounds == timing.CONFIRMED_ROUNDS
    assert (result.seconds, result.incumbent_seconds) == (pytest.approx(80e-6), pytest.approx(100e-6))
    assert better(result)
    # The caches are filled with something else before every call.
    assert all(before == "-" for before, call in zip(clock.calls, clock.calls[1:], strict=False) if call in "ab")


def test_clear_loser_ends_early_and_a_hopeless_one_at_once(clock: Clock) -> None:
    assert compare(clock.side("a", 150e-6), clock.side("b", 100e-6)).rounds == EARLY_ROUNDS
    assert compare(clock.side("a", 900e-6), clock.side("b", 100e-6)).rounds == 1
    thorough = compare(clock.side("a", 900e-6), clock.side("b", 100e-6), thorough=True)
    assert thorough.rounds == THOROUGH_ROUNDS and thorough.ratio == pytest.approx(9)


def test_equal_ones_are_not_better(clock: Clock) -> None:
    result = compare(clock.side("a", 99e-6), clock.side("b", 100e-6))
    assert result.ratio == pytest.approx(0.99) and not better(result)


def test_time_slices_lost_to_others_do_not_decide(clock: Clock) -> None:
    """Every second call of the candidate is hit by 4 ms of other work, none of the incumbent's."""
    result = compare(clock.side("a", 90e-6, 4e-3), clock.side("b", 100e-6))
    assert result.ratio == pytest.approx(0.9) and better(result)
    assert alone(clock.side("a", 90e-6, 90e-6, 4e-3)).seconds == pytest.approx(90e-6)


def test_slow_kernels_get_one_call_a_burst(clock: Clock) -> None:
    compare(clock.side("a", 1.0), clock.side("b", 1.0))
    assert clock.calls.count("a") == 1 + timing.ROUNDS


@pytest.mark.parametrize(("ratio", "wins", "wanted"), [(0.9, 1, True), (0.9, 0.7, False), (0.985, 1, False)])
def test_better_means_beyond_the_noise(ratio: float, wins: float, wanted: bool) -> None:
    assert better(Timing(1e-4, 1e-4, ratio, wins, 10)) is wanted


def test_toys_are_what_they_say() -> None:
    space = toy_spaces.bad_space_of(WORKLOAD, MACHINE)
    assert space is not None and space.contains(SLOW_DEFAULT) and len(list(space.points())) == 8
