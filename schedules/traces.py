"""Schedules as TVM's MetaSchedule finds them, beside a rule's own space: a sketch of a plain definition's loops, and
what was decided in it.

A candidate is decisions like any other, whole numbers by name. `TRACE` says of which definition and sketches, `sketch`
which of these; then come sizes of tiles (`tile<i>.<j>`), choices (`choice<i>`) and places (`place<i>`) in the sketch's
order, and how many jobs loops are shared out to (`parallel`). The sketches are made anew from the definition wherever a
kernel is built: nothing that is read from a record is a step of a schedule, and what does not fit them is no candidate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, TypeAlias

import tvm
import tvm_ffi
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import Instruction, Trace
from tvm.tirx import PrimFunc

from effgen.kernels.plain import is_plain, plain_primfunc
from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu, Machine
from effgen.schedules.space import TRACE, Decisions

# TVM's, opaque: an instruction, a tuning context.
Step: TypeAlias = Any
Context: TypeAlias = Any

_SKETCH, _PARALLEL = "sketch", "parallel"
# More jobs than any machine has threads.
_MOST_JOBS = 1 << 20
# MetaSchedule's places of a block: inlined, in the root, or below one of its loops.
_PLACES = range(-2, 64)
_PARALLEL_KEY = "meta_schedule.parallel"
# Sketches hold samples; the same ones every time.
_SEED = 1


@dataclass(frozen=True)
class _Choice:
    """A step that decides: `names` of its numbers, and which they may be."""

    step: Step
    kind: str
    names: tuple[str, ...]
    product: int = 0
    most: int = 0

    def read(self, decisions: Decisions) -> list[int] | int:
        """The step's decision; raises ValueError where there can be no such one."""
        numbers = [decisions[name] for name in self.names]
        fits = {
            "tile": min(numbers) >= 1 and prod(numbers) == self.product and numbers[-1] <= self.most,
            "choice": 0 <= numbers[0] < self.most,
            "place": numbers[0] in _PLACES,
        }[self.kind]
        if not fits:
            raise ValueError(f"{', '.join(self.names)}: no such decision")
        return numbers if self.kind == "tile" else numbers[0]


@dataclass(frozen=True)
class _Sketch:
    """A trace without what was decided in it. `text` says what it does, the same wherever it is made."""

    steps: tuple[Step, ...]
    choices: tuple[_Choice, ...]
    text: str

    @staticmethod
    def of(trace: Trace) -> _Sketch:
        """Without its end, which MetaSchedule adds to every one of the sketch alike."""
        steps = tuple(trace.simplified(True).insts)
        return _Sketch(steps, tuple(_choices(trace, steps)), json.dumps(_data(Trace(steps, {}).as_json()[0])))

    def names(self) -> list[str]:
        return [TRACE, _SKETCH, _PARALLEL, *(name for choice in self.choices for name in choice.names)]

    def trace(self, decisions: Decisions) -> Trace:
        """The whole trace; raises ValueError where the decisions are not this sketch's."""
        if set(decisions) != set(self.names()) or not 1 <= decisions[_PARALLEL] <= _MOST_JOBS:
            raise ValueError("no decisions of the sketch")
        shared = {step: _with_jobs(step, decisions[_PARALLEL]) for step in self.steps if _shares_out(step)}
        taken = {choice.step: choice.read(decisions) for choice in self.choices}
        return Trace([shared.get(step, step) for step in self.steps], taken)


def _choices(trace: Trace, steps: tuple[Step, ...]) -> Iterator[_Choice]:
    for number, step in enumerate(steps):
        match step.kind.name, trace.get_decision(step):
            case "SamplePerfectTile", sizes:
                names = tuple(f"tile{number}.{j}" for j in range(len(sizes)))
                yield _Choice(step, "tile", names, product=prod(map(int, sizes)), most=int(step.attrs[1]))
            case "SampleCategorical", _:
                yield _Choice(step, "choice", (f"choice{number}",), most=len(step.attrs[0]))
            case "SampleComputeLocation", _:
                yield _Choice(step, "place", (f"place{number}",))
            case _, decision:
                assert decision is None, step


def _shares_out(step: Step) -> bool:
    return bool(step.kind.name == "Annotate" and step.attrs[0] == _PARALLEL_KEY)


def _with_jobs(step: Step, jobs: int) -> Step:
    return Instruction(step.kind, [step.inputs[0], jobs], step.attrs, step.outputs)


def _data(value: Any) -> Any:
    """TVM's containers as Python's, but for the number of jobs."""
    if isinstance(value, str) or not hasattr(value, "__len__"):
        return value if isinstance(value, (str, int, float)) or value is None else str(value)
    if len(value) == 4 and value[0] == "Annotate" and list(value[2]) == [_PARALLEL_KEY]:
        return ["Annotate", [_data(value[1][0])], [_PARALLEL_KEY], []]
    return [_data(part) for part in value]


@dataclass(frozen=True)
class _Sketches:
    """What MetaSchedule makes of a definition; `mark` is a number that says which definition and sketches these are.

    Which sketches there are depends on samples (some cannot be carried out): a search starts from these `designs`, made
    with a seed of their own, so that what it finds is of a sketch that is there again.
    """

    context: Context
    designs: tuple[Schedule, ...]
    sketches: tuple[_Sketch, ...]
    mark: int


class Traces:
    """The candidates of one kernel that MetaSchedule may find, on one machine."""

    def __init__(self, workload: Workload, machine: Cpu) -> None:
        self.workload, self.machine = workload, machine

    def contains(self, decisions: Decisions) -> bool:
        """Whether the decisions are of this definition's sketches. Not yet whether they can be carried out: `build`
        raises ValueError where a place is none."""
        try:
            self._trace(decisions)
        except ValueError:
            return False
        return True

    def build(self, decisions: Decisions) -> PrimFunc:
        """The scheduled kernel. Raises ValueError where the decisions cannot be carried out."""
        func = self.schedule(decisions).mod["main"].with_attr("global_symbol", self.workload.name)
        return func.with_attr("tirx.is_scheduled", True)

    def schedule(self, decisions: Decisions) -> Schedule:
        """TVM's schedule of the decisions, finished. Raises ValueError where they cannot be carried out."""
        schedule = Schedule(_module(self.workload, self.machine))
        try:
            self._trace(decisions).apply_to_schedule(schedule, True)
            schedule.enter_postproc()  # what follows is no part of the sketch
            finished = all(step.apply(schedule) for step in self._made.context.space_generator.postprocs)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise ValueError(f"MetaSchedule's decisions cannot be carried out: {error}") from None
        # TVM takes another place where the one that was decided is none, another one each time.
        if not finished or self.decisions_of(schedule.trace) != dict(decisions):
            raise ValueError("MetaSchedule does not finish a schedule of these decisions")
        return schedule

    def decisions_of(self, trace: Trace) -> dict[str, int] | None:
        """What was decided in a trace that MetaSchedule made of the same definition; None where it is of no sketch."""
        found = _Sketch.of(trace)
        numbers = (number for number, sketch in enumerate(self._made.sketches) if sketch.text == found.text)
        number = next(numbers, None)
        if number is None:
            return None
        jobs = next((int(step.inputs[1]) for step in found.steps if _shares_out(step)), 1)
        decisions = {TRACE: self._made.mark, _SKETCH: number, _PARALLEL: jobs}
        for choice in found.choices:
            decided = trace.get_decision(choice.step)
            values = decided if choice.kind == "tile" else [decided]
            decisions |= dict(zip(choice.names, map(int, values), strict=True))
        return decisions

    @property
    def designs(self) -> tuple[Schedule, ...]:
        """What a search of MetaSchedule's starts from."""
        return self._made.designs

    @property
    def _made(self) -> _Sketches:
        return _sketches(self.workload.without_ahead, self.machine)

    def _trace(self, decisions: Decisions) -> Trace:
        # Before sketches are made, which takes seconds for kernels of several convolutions.
        if decisions.get(_SKETCH, -1) < 0:
            raise ValueError("no sketch")
        made = self._made
        if decisions.get(TRACE) != made.mark or decisions[_SKETCH] >= len(made.sketches):
            raise ValueError("another definition, or other sketches")
        return made.sketches[decisions[_SKETCH]].trace(decisions)


def traces_of(workload: Workload, machine: Machine) -> Traces | None:
    """Those of a kernel; None where it has no plain definition, and on a GPU."""
    return Traces(workload, machine) if isinstance(machine, Cpu) and is_plain(workload, machine) else None


@lru_cache(maxsize=256)
def _sketches(workload: Workload, machine: Cpu) -> _Sketches:
    context = tuning_context(workload, machine, _SEED)
    designs = tuple(context.generate_design_space())
    sketches = tuple(_Sketch.of(design.trace) for design in designs)
    text = "\n".join((f"{tvm_ffi.structural_hash(context.mod):x}", *(sketch.text for sketch in sketches)))
    # A record's numbers have 63 bits.
    return _Sketches(context, designs, sketches, int(hashlib.sha256(text.encode()).hexdigest()[:15], 16))


def tuning_context(workload: Workload, machine: Cpu, seed: int, strategy: Any = None) -> Context:
    """TVM's context of a kernel's search: MetaSchedule's own rules, mutations and last steps for LLVM.

    Made by the function behind `TuneContext`, whose constructor parses a hundred CUDA intrinsics first (a minute).
    """
    generator = ms.space_generator.PostOrderApply(
        sch_rules=ms.ScheduleRule.create("llvm"),
        postprocs=ms.Postproc.create("llvm"),
        mutator_probs=ms.Mutator.create("llvm"),
    )
    target = tvm.target.Target({**machine.llvm, "num-cores": machine.cores})
    make, begin = (
        tvm_ffi.get_global_func(f"s_tir.meta_schedule.{name}") for name in ("TuneContext", "TuneContextInitialize")
    )
    module, threads = _module(workload, machine), machine.cores
    context = make(module, target, generator, strategy, workload.name, threads, seed, _no_log)
    begin(context)
    return context


def _no_log(*_: Any) -> None:
    """MetaSchedule tells a lot."""


def _module(workload: Workload, machine: Cpu) -> tvm.IRModule:
    return tvm.IRModule({"main": plain_primfunc(workload, machine).with_attr("global_symbol", "main")})
