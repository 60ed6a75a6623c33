"""What the storage holds of a baseline search, as a report: its networks, the front, and the front confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from optuna.trial import FrozenTrial, TrialState

from effgen.errors import StudyError
from effgen.method.studies.baseline_search import BaselineSearch
from effgen.method.studies.front import BaselineReport, Member, State, TriedNetwork, confirmed_front, front_of, reward
from effgen.method.studies.standings import counted, reason_of, training_threads_of
from effgen.network.lowering.network import lower

_STATES: dict[TrialState, State] = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def tried_networks(search: BaselineSearch) -> list[TriedNetwork]:
    """Every network whose trial is over, in the order of the trials; repeated and lost ones are none."""
    return [_tried(search, trial) for trial in counted(search.shared.trials) if trial.state in _STATES]


def networks_to_confirm(search: BaselineSearch) -> list[TriedNetwork]:
    """The starting network, then the rest of the front. The same for every worker, once the search is over.

    Raises StudyError where the starting network could not be trained: there is nothing to compare with.
    """
    tried = tried_networks(search)
    start = _start_of(search, tried)
    return [start, *(network for network in front_of(tried) if network.trial != start.trial)]


def report_of(search: BaselineSearch, members: Sequence[Member]) -> BaselineReport:
    """The report; `members` are those of `networks_to_confirm`, in that order."""
    request, plan = search.request, search.request.plan
    tried = tried_networks(search)
    on_front = {network.trial for network in front_of(tried)}
    return BaselineReport(
        study=search.shared.where,
        data=str(request.judge.data or request.judge.trainer),
        target=request.target,
        device=request.device,
        threads=request.call_threads,
        latency_target_s=search.latency_target_s(),
        exponent=plan.exponent,
        sampler=plan.sampler,
        pruner=plan.pruner,
        repeated=sum(reason_of(trial) == "duplicate" for trial in search.shared.trials),
        points=search.space.size,
        pictures=search.judge.pictures,
        confirm_seeds=plan.confirm_seeds,
        candidates=tuple(tried),
        start=members[0],
        members=tuple(member for member in members if member.candidate.trial in on_front),
        front=tuple(confirmed_front(members)),
        training_threads=training_threads_of(search.shared.trials),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def _start_of(search: BaselineSearch, tried: Sequence[TriedNetwork]) -> TriedNetwork:
    items = {trial.number for trial in search.shared.trials if trial.user_attrs.get("item") == "start"}
    found = [network for network in tried if network.trial in items]
    trained = next((network for network in found if network.state == "done"), None)
    if trained is None:
        why = found[-1].error if found else "its worker was lost again and again"
        raise StudyError(f"{search.shared.where}: {search.space.start.name} itself has no accuracy: {why}")
    return trained


def _tried(search: BaselineSearch, trial: FrozenTrial) -> TriedNetwork:
    found, spec = trial.user_attrs, search.spec_of(trial)
    graph = lower(spec)
    accuracy, latency_s = found.get("accuracy"), found.get("latency_s")
    known = accuracy is not None and latency_s is not None
    target_s, exponent = search.latency_target_s(), search.request.plan.exponent
    return TriedNetwork(
        trial=trial.number,
        state=_STATES[trial.state],
        spec=spec,
        macs=graph.macs,
        parameters=graph.parameter_count,
        latency_s=latency_s,
        measured_share=found.get("measured_share"),
        accuracy=accuracy,
        reward=reward(accuracy, latency_s, target_s, exponent) if known else None,
        epochs=found.get("epochs"),
        error=str(found.get("error", "")) if trial.state == TrialState.FAIL else "",
    )
