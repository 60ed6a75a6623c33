"""TVM's MetaSchedule as an engine: the tuner's side. Its search runs in a process of its own, which may crash or hang:
that ends the search for one kernel, and not the tuner."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu
from effgen.measure.answering import AnsweringProcess
from effgen.measure.pipe import PipeClosedError, PipeTimeoutError
from effgen.records.record import Record
from effgen.tuning.search import KernelSearch

if TYPE_CHECKING:  # a Space needs TVM
    from effgen.schedules.space import Space

#: Candidates that MetaSchedule proposes before it learns what became of them.
GENERATION = 16

#: The most candidates of a kernel.
MOST_TRIALS = 4096

#: Seconds in which the process must load TVM, and in which it must propose: kernels of two convolutions take half a
#: minute on a busy machine.
_START_LIMIT_S, _PROPOSE_LIMIT_S = 120.0, 300.0

#: The decision that says that a candidate is MetaSchedule's (`effgen.schedules.space.TRACE`, which needs TVM).
_TRACE = "metaschedule"

Decisions = Mapping[str, int]


@dataclass(frozen=True)
class Begin:
    """The first message: for which machine, and the search's seed."""

    machine: Cpu
    seed: int


@dataclass(frozen=True)
class Propose:
    """What became of candidates, seconds of a call or None where one failed; more of them are wanted."""

    workload: Workload
    measured: Sequence[tuple[Decisions, float | None]]


@dataclass(frozen=True)
class Begun:
    """MetaSchedule is there, and ranks candidates by this model: "xgboost" or "random"."""

    ranked_by: str


@dataclass(frozen=True)
class Proposed:
    """Candidates to measure, none where the search is over; `error` says why it cannot be searched at all."""

    candidates: Sequence[dict[str, int]]
    error: str = ""


class MetaSchedule:
    """The engine, for one run of the tuner. A context manager: its process ends with the block.

    `failures` says of which kernels it gave up the search, and why; `ranked_by` is what its candidates are ranked by,
    empty before the first.
    """

    def __init__(self, machine: Cpu, seed: int, propose_limit_s: float = _PROPOSE_LIMIT_S) -> None:
        self.failures: dict[str, str] = {}
        self.ranked_by = ""
        self._begin = Begin(machine, seed)
        self._limit_s = propose_limit_s
        self._process: AnsweringProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def propose(
        self, workload: Workload, measured: Sequence[tuple[Decisions, float | None]]
    ) -> Sequence[dict[str, int]]:
        """The next candidates for a kernel, given what became of the last ones; none where the search is over, which
        it also is where MetaSchedule crashed or hangs (`failures`)."""
        try:
            answer: Proposed = self._running().ask(Propose(workload, measured), self._limit_s)
        except PipeTimeoutError:
            self.close()
            answer = Proposed((), f"no candidate within {self._limit_s:.0f} s")
        except PipeClosedError:
            process, self._process = self._process, None
            answer = Proposed((), process.how_it_died() if process else "its process cannot be started")
        except BaseException:  # Ctrl-C: an answer that nobody waits for would be taken for the next one's
            self.close()
            raise
        if answer.error:
            self.failures[workload.name] = answer.error
        return answer.candidates

    def _running(self) -> AnsweringProcess:
        if self._process is None:
            counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            self._process = AnsweringProcess("effgen.tuning.engines.evolution", counts)
            begun: Begun = self._process.ask(self._begin, _START_LIMIT_S)
            self.ranked_by = begun.ranked_by
        return self._process

    def search_for(self, workload: Workload, calls: int, space: Space, seed: int) -> TraceSearch | None:
        """The search for a kernel; None where it has no plain definition, which MetaSchedule schedules."""
        return None if space.traces is None else TraceSearch(workload, calls, space, seed, self)


class TraceSearch(KernelSearch):
    """The search for one kernel by MetaSchedule: what it is compiled with today first, then MetaSchedule's traces."""

    def __init__(self, workload: Workload, calls: int, space: Space, seed: int, engine: MetaSchedule) -> None:
        self._engine = engine
        self._generation: deque[dict[str, int]] = deque()
        self._to_tell: dict[tuple[tuple[str, int], ...], tuple[Decisions, float | None]] = {}
        self._over = False
        super().__init__(workload, calls, space, seed)
        self.points = MOST_TRIALS

    def learn(self, record: Record, fresh: bool = True) -> None:
        super().learn(record, fresh)
        if _TRACE in record.decisions:
            key = tuple(sorted(record.decisions.items()))
            self._to_tell[key] = (dict(record.decisions), record.seconds)

    def propose(self) -> dict[str, int] | None:
        """The next candidate; None where MetaSchedule has no more."""
        return super().propose() or self._next_trace()

    @property
    def exhausted(self) -> bool:
        return super().exhausted and self._over

    def _next_trace(self) -> dict[str, int] | None:
        while True:
            while self._generation:
                found = self._generation.popleft()
                if self._is_open(found):
                    return found
            if self._over:
                return None
            told, self._to_tell = list(self._to_tell.values()), {}
            self._generation.extend(self._engine.propose(self.workload, told))
            self._over = not self._generation

    def _points(self) -> list[dict[str, int]]:
        """None of the rule's own."""
        return []

    def _near_the_best(self) -> Iterator[dict[str, int]]:
        return iter(())
