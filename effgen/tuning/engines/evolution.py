"""The process in which MetaSchedule searches: `python -m effgen.tuning.engines.evolution`, started by `metaschedule`.

It proposes candidates and is told their times; it measures nothing. It ends with its parent, however that ends.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.arg_info import ArgInfo
from tvm.s_tir.meta_schedule.runner import RunnerResult

from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu
from effgen.measure.carried.candidate import error_text
from effgen.measure.carried.process import answers_apart, die_with
from effgen.measure.pipe import PipeClosedError, receive, send
from effgen.runtime.library import prepare_tvm
from effgen.schedules.space import Decisions
from effgen.schedules.traces import traces_of, tuning_context
from effgen.tuning.engines.metaschedule import GENERATION, MOST_TRIALS, Begin, Begun, Propose, Proposed

# MetaSchedule's own are 512 and 4: a generation of 16 candidates then takes a minute or more, of which the machine
# measures for six seconds.
_POPULATION, _ROUNDS, _UNMEASURED = 64, 2, 24
# Candidates, of all kernels, before the cost model ranks; and generations without a candidate before a search is over.
_WARM_UP, _VAIN = 48, 3


class Evolution:
    """MetaSchedule's evolutionary search of one kernel. The cost model is all kernels' together."""

    def __init__(self, workload: Workload, machine: Cpu, seed: int, cost_model: Any) -> None:
        traces = traces_of(workload, machine)
        assert traces is not None, workload
        self._traces, self._model = traces, cost_model
        strategy = ms.search_strategy.EvolutionarySearch(
            population_size=_POPULATION, genetic_num_iters=_ROUNDS, init_min_unmeasured=_UNMEASURED
        )
        self._context = tuning_context(workload, machine, 1 + seed, strategy)
        self._database = ms.database.MemoryDatabase()
        self._module = self._database.commit_workload(self._context.mod)
        self._arguments = ArgInfo.from_prim_func(self._context.mod["main"])
        self._context.pre_tuning(MOST_TRIALS, GENERATION, list(traces.designs), self._database, cost_model)
        self._proposed: list[Any] = []

    def learn(self, measured: Sequence[tuple[Decisions, float | None]]) -> None:
        """Take in what became of candidates, of this run or an earlier one."""
        candidates, results = [], []
        for decisions, seconds in measured:
            try:
                schedule = self._traces.schedule(decisions)
            except ValueError:  # of another run, and not to be carried out
                continue
            candidates.append(ms.MeasureCandidate(schedule, self._arguments))
            results.append(RunnerResult(None, "failed") if seconds is None else RunnerResult([seconds], None))
            if seconds is not None:
                target, trace = self._context.target, schedule.trace
                self._database.commit_tuning_record(
                    ms.database.TuningRecord(trace, self._module, [seconds], target, self._arguments)
                )
        if candidates:
            self._model.update(self._context, candidates, results)
        if self._proposed:  # only counted there
            failed = [RunnerResult(None, "counted")] * len(self._proposed)
            self._context.notify_runner_results(self._proposed, failed)
            self._proposed = []

    def propose(self) -> list[dict[str, int]]:
        """Candidates that were not proposed before; none where MetaSchedule has no more."""
        for _ in range(_VAIN):
            self._proposed = list(self._context.generate_measure_candidates() or ())
            found = [self._traces.decisions_of(candidate.sch.trace) for candidate in self._proposed]
            known = [decisions for decisions in found if decisions is not None]
            if known:
                return known
            self.learn(())
        return []


class Searches:
    """Answers requests about the kernels of one machine."""

    def __init__(self, begin: Begin) -> None:
        prepare_tvm()
        np.random.seed(begin.seed)  # MetaSchedule's models draw from numpy's own generator
        self._begin = begin
        self._searches: dict[Workload, Evolution] = {}
        self.model_name = "random" if find_spec("xgboost") is None else "xgboost"
        if self.model_name == "random":
            self._model = ms.cost_model.RandomModel(seed=begin.seed)
        else:
            self._model = ms.cost_model.XGBModel(num_warmup_samples=_WARM_UP, num_tuning_cores=begin.machine.cores)

    def propose(self, request: Propose) -> Proposed:
        """The next candidates for a kernel; what MetaSchedule cannot do is an answer, not an exception."""
        begin, workload = self._begin, request.workload
        try:
            if workload not in self._searches:
                self._searches[workload] = Evolution(workload, begin.machine, begin.seed, self._model)
            search = self._searches[workload]
            search.learn(request.measured)
            return Proposed(search.propose())
        except Exception as error:  # TVM raises anything
            return Proposed((), error_text(error))


def serve(requests: int, answers: int) -> None:
    """Answer until the other end closes the pipe."""
    try:
        searches = Searches(receive(requests))
        send(answers, Begun(searches.model_name))
        while True:
            send(answers, searches.propose(receive(requests)))
    except PipeClosedError:
        return


def main() -> None:
    die_with(int(sys.argv[1]))
    serve(0, answers_apart())


if __name__ == "__main__":
    main()
