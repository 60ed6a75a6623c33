"""A search around a baseline: points of MnasNet's space, trained and timed, by many workers until enough are done.

A trial is a network: its latency is predicted from measured kernels, it is trained with one seed, and its reward is
MnasNet's ACC * (LAT / T)^w, reported after every epoch so that poor ones are stopped. All that is known of a trial is
in the storage: a worker that starts later, or again, goes on there.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from effgen.errors import SpecError, StudyError, TrainingError
from effgen.machines.abilities import running_here
from effgen.machines.identity import device_name
from effgen.machines.processor import usable_cpus
from effgen.machines.target import load_target
from effgen.method.studies.front import EXPONENT, reward
from effgen.method.studies.judge import Judge, JudgeRequest, judged, open_judge
from effgen.method.studies.kernel_latency import KernelLatency, LatencySource
from effgen.method.studies.sampling import PrunerName, SamplerName, pruner_named, sampler_named
from effgen.method.studies.space import NetworkSpace, Point, digest_of_network, space_around
from effgen.method.studies.standings import Item, counts, reason_of
from effgen.method.studies.storage import SharedStudy, open_study
from effgen.method.studies.turns import Turns, turns_here
from effgen.method.studies.workers import DEFAULT_POLICY, Claim, Policy, Repeated, Settled, patiently, run_samples
from effgen.network.lowering.network import lower
from effgen.network.spec import NetworkSpec, load_spec
from effgen.words import OnPhase

if TYPE_CHECKING:
    from effgen.method.training.trainer import EpochResult

#: So many networks drawn in a row that were all tried before: there is nothing else, or as good as nothing.
_EXHAUSTED = 100

#: The study's attribute that holds the T of the reward, seconds.
_LATENCY_TARGET = "latency_target_s"


@dataclass(frozen=True)
class BaselinePlan:
    """How is searched: `trials` are those of all workers; a `population` of them begins around the starting network,
    and is a generation of the evolution; `exponent` is the reward's w; `latency_target_s` its T, None: the starting
    network's latency.

    Networks are trained with `seed` in the search, with those after it where they are confirmed, `confirm_seeds` many.
    """

    trials: int = 30
    population: int = 8
    sampler: SamplerName = "tpe"
    pruner: PrunerName = "median"
    exponent: float = EXPONENT
    latency_target_s: float | None = None
    seed: int = 0
    confirm_seeds: int = 3


@dataclass(frozen=True)
class BaselineRequest:
    """What `effgen search baseline` was asked for.

    `storage` is a URL, `study` a name in it, `folder` that of this machine's unfinished trainings. `threads` are those
    of a call of the library, None: all that it may use here; `database` of tuning records as in `CompileRequest`.
    `retry_failed`: what has failed so far counts no more.
    """

    spec: str
    judge: JudgeRequest
    storage: str
    study: str
    folder: Path
    plan: BaselinePlan = BaselinePlan()
    target: str = "cpu"
    threads: int | None = None
    database: Path | None = None
    policy: Policy = DEFAULT_POLICY
    retry_failed: bool = False

    @property
    def call_threads(self) -> int:
        """Threads that latencies are of."""
        return self.threads or len(usable_cpus())

    @property
    def device(self) -> str:
        """What latencies are of: this machine's processor, or a target that is elsewhere."""
        return device_name() if running_here(load_target(self.target))[0] == "native" else self.target


@dataclass(frozen=True)
class BaselineSearch:
    """A search that this process takes part in. `retried`: so many trials failed before and count no more."""

    request: BaselineRequest
    space: NetworkSpace
    judge: Judge
    turns: Turns
    latencies: LatencySource
    shared: SharedStudy
    retried: int = 0

    def close(self) -> None:
        """Let the storage go."""
        self.shared.close()

    def run(self, on_settled: Callable[[Settled], None] = lambda settled: None) -> None:
        """Work until the planned number of trials is done over all workers.

        Raises StudyError where the storage fails, or the space has no more networks; a TrainingError is kept with its
        trial.
        """
        item = Item("start", {key: self.space.start_point[key] for key in self._open_choices()})
        run_samples(self.shared, self.request.plan.trials, self._objective, item, self.request.policy, on_settled)

    def prepare(self, on_phase: OnPhase = lambda phase: None) -> None:
        """Before the first trial: what latencies start from. Raises an EffgenError where there can be none."""
        self.latencies.prepare(on_phase)
        on_phase("time the starting network's kernels")
        self.latency_target_s()

    def latency_target_s(self) -> float:
        """The reward's T: as planned, or the starting network's latency as the first worker found it."""
        planned = self.request.plan.latency_target_s
        if planned is not None:
            return planned
        with self.shared.errors():
            known = self.shared.study.user_attrs.get(_LATENCY_TARGET)
        if known is None:
            known = self.latencies(lower(self.space.start)).seconds
            with self.shared.errors():
                self.shared.study.set_user_attr(_LATENCY_TARGET, known)
        return float(known)

    def point_of(self, params: dict[str, Any]) -> Point:
        """The whole point: the parameters of a trial, and the decisions that have one choice only."""
        return {key: params[key] if len(values) > 1 else values[0] for key, values in self.space.choices.items()}

    def spec_of(self, trial: optuna.Trial | FrozenTrial) -> NetworkSpec:
        """The network of a trial that has all its parameters, named after it; the starting one keeps its name."""
        missing = [key for key in self._open_choices() if key not in trial.params]
        if missing:
            raise StudyError(
                f"{self.shared.where}: trial {trial.number} has no {missing[0]}: it was not made by this command; give "
                "another --study"
            )
        point, end = self.point_of(trial.params), f"_t{trial.number}"
        if point == self.space.start_point:
            return self.space.start
        return self.space.spec_at(point, self.space.start.name[: 64 - len(end)] + end)

    def train(self, claim: Claim, spec: NetworkSpec, seed: int, on_epoch: Callable[[EpochResult], bool]) -> float:
        """The accuracy of a network of the space, as `effgen.method.studies.judge.judged`."""
        key = f"{digest_of_network(lower(spec))} seed {seed}"
        named = spec.model_copy(update={"name": self.space.start.name})  # a training is a network's, not a trial's
        return judged(claim, self.judge, self.turns, named, seed, key, on_epoch)

    def _open_choices(self) -> list[str]:
        return [key for key, values in self.space.choices.items() if len(values) > 1]

    def _objective(self, claim: Claim) -> float:
        trial = claim.trial
        with self.shared.errors():
            for key in self._open_choices():
                trial.suggest_categorical(key, self.space.choices[key])
        spec = self.spec_of(trial)
        try:
            graph = lower(spec)
        except SpecError as error:  # larger than any network may be
            raise TrainingError(str(error)) from None
        self._note(trial, network=digest_of_network(graph))
        self._check_new(claim)
        prediction = self.latencies(graph)
        self._note(trial, latency_s=prediction.seconds, measured_share=prediction.measured_share)
        reward_of = partial(
            reward,
            latency_s=prediction.seconds,
            target_s=self.latency_target_s(),
            exponent=self.request.plan.exponent,
        )
        training = _TrialTraining(self.shared, claim, reward_of)
        accuracy = self.train(claim, spec, self.request.plan.seed, training.after_epoch)
        claim.notes.update(accuracy=accuracy, epochs=training.epochs)
        if training.stopped:
            raise optuna.TrialPruned
        return reward_of(accuracy)

    def _note(self, trial: optuna.Trial, **found: Any) -> None:
        """Keep with the trial what was found of its network."""

        def note() -> None:
            with self.shared.errors():
                for key, value in found.items():
                    trial.set_user_attr(key, value)

        patiently(note)

    def _check_new(self, claim: Claim) -> None:
        """Raise Repeated where an earlier trial is of the same network, StudyError where all lately were.

        The starting network's trial is never one too many: the others are compared with it.
        """
        if claim.item is not None:
            return
        trial, trials = claim.trial, self._trials_with_networks(claim)
        network = trial.user_attrs["network"]
        earlier = [one for one in trials if one.number < trial.number and counts(one)]
        if all(one.user_attrs.get("network") != network for one in earlier):
            return
        late = trials[-_EXHAUSTED:]
        if len(late) == _EXHAUSTED and all(reason_of(one) == "duplicate" for one in late if one.state.is_finished()):
            raise StudyError(
                f"{self.shared.where}: the last {_EXHAUSTED} networks drawn had all been tried: there is little else "
                f"around {self.space.start.name}; expected --trials {len(earlier)} or fewer"
            )
        raise Repeated

    def _trials_with_networks(self, claim: Claim) -> list[FrozenTrial]:
        """All trials, once the earlier ones say which network they are of; those of lost workers never do."""
        policy = self.request.policy
        end = time.monotonic() + policy.grace_s
        while True:
            trials = self.shared.trials
            unknown = (one for one in trials if one.state == TrialState.RUNNING and "network" not in one.user_attrs)
            if claim.lost or time.monotonic() > end or all(one.number > claim.trial.number for one in unknown):
                return trials
            time.sleep(policy.poll_s)


class _TrialTraining:
    """What a trial's training reports after each epoch, and whether it goes on.

    The starting network's does to its end: all others are compared with it.
    """

    def __init__(self, shared: SharedStudy, claim: Claim, reward_of: Callable[[float], float]) -> None:
        self._shared, self._claim, self._reward_of = shared, claim, reward_of
        self.epochs: int | None = None
        self.stopped = False

    def after_epoch(self, result: EpochResult) -> bool:
        trial, self.epochs = self._claim.trial, result.epoch

        def is_poor() -> bool:
            with self._shared.errors(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a report that had arrived before the storage failed
                trial.report(self._reward_of(result.accuracy), result.epoch)
                return bool(self._claim.item is None and trial.should_prune())

        self.stopped = patiently(is_poor)
        return not (self.stopped or self._claim.lost)


def open_baseline_search(request: BaselineRequest, latencies: LatencySource | None = None) -> BaselineSearch:
    """Look everything over, and make or join the study. `latencies`: by default from kernels, measured here.

    Raises an EffgenError of one line for anything that would fail later: plan, spec, data, trainer, storage, or
    settings that are not those of the study's other workers.
    """
    plan = request.plan
    _check(plan)
    judge = open_judge(request.judge, request.folder / "checkpoints")
    space = space_around(judge.fitted(load_spec(request.spec)))
    epochs = 1 if judge.recipe is None else judge.recipe.epochs
    turns = turns_here()
    shared = open_study(
        request.storage,
        request.study,
        _facts(request, space, judge),
        sampler=sampler_named(plan.sampler, space, plan.population, plan.seed),
        pruner=pruner_named(plan.pruner, plan.population, epochs),
    )
    latencies = latencies or KernelLatency(request.target, request.threads, request.database, turns)
    retried = shared.retry_failed() if request.retry_failed else 0
    return BaselineSearch(request, space, judge, turns, latencies, shared, retried)


def _check(plan: BaselinePlan) -> None:
    limits = (
        ("trials", plan.trials, 1, 100_000),
        ("population", plan.population, 2, 1000),
        ("confirm-seeds", plan.confirm_seeds, 0, 1000),
        ("seed", plan.seed, 0, 2**32 - 1 - plan.confirm_seeds),  # a recipe's is below 2^32
    )
    for option, value, low, high in limits:
        if not low <= value <= high:
            raise StudyError(f"--{option} {value}: expected from {low} to {high}")
    if not -10 <= plan.exponent <= 0:
        raise StudyError(f"--exponent {plan.exponent:g}: expected from -10 to 0; MnasNet's is {EXPONENT:g}")


def _facts(request: BaselineRequest, space: NetworkSpace, judge: Judge) -> dict[str, Any]:
    """What all workers of a search agree on. The number of trials is not among it: a search can be continued."""
    plan = request.plan
    return {
        "kind": "baseline",
        "spec": space.start.model_dump(mode="json"),
        "choices": space.choices,
        **judge.facts,
        "target": request.target,
        "device": request.device,
        "threads": request.call_threads,
        "sampler": plan.sampler,
        "pruner": plan.pruner,
        "population": plan.population,
        "exponent": plan.exponent,
        "latency_target_s": plan.latency_target_s,
        "seed": plan.seed,
    }
