"""Whether the front of a baseline search is more than luck: its networks trained again with other seeds, and compiled
and timed beside the starting one.

The search saw each network once, and its front are those that looked best: some of them had a good seed. So the
confirmation does not use the search's own trainings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

from optuna.trial import TrialState

from effgen.method.latency.interleaved import measure_networks
from effgen.method.studies.baseline_search import BaselineSearch
from effgen.method.studies.front import FrontTiming, Member, TriedNetwork
from effgen.method.studies.samples import sample_of
from effgen.method.studies.standings import Item, reason_of, settled_items
from effgen.method.studies.storage import SharedStudy, open_study
from effgen.method.studies.workers import Claim, Settled, run_items
from effgen.network import network_from_spec
from effgen.results.reports import DEFAULT_PLAN, Plan, Result
from effgen.words import OnPhase


def train_again(
    search: BaselineSearch,
    networks: Sequence[TriedNetwork],
    on_settled: Callable[[Settled], None] = lambda settled: None,
) -> list[Member]:
    """Train each of `networks` with seeds that the search did not use; the workers of the search share the trainings.

    They are kept in a study of their own: what was trained once is not trained again. Raises StudyError where the
    storage fails.
    """
    plan = search.request.plan
    seeds = range(plan.seed + 1, plan.seed + 1 + plan.confirm_seeds)
    if not seeds:
        return [Member(network) for network in networks]
    specs = {network.trial: network.spec for network in networks}
    items = {trial: [_item(trial, seed) for seed in seeds] for trial in specs}

    def objective(claim: Claim) -> float:
        assert claim.item is not None
        trial, seed = claim.item.params["trial"], claim.item.params["seed"]
        return search.train(claim, specs[trial], seed, lambda result: not claim.lost)

    planned = [item for each in items.values() for item in each]
    with closing(_study(search)) as shared:
        run_items(shared, planned, objective, search.request.policy, on_settled)
        return [_member(shared, network, items[network.trial], search) for network in networks]


def time_together(
    search: BaselineSearch,
    members: Sequence[Member],
    plan: Plan = DEFAULT_PLAN,
    on_phase: OnPhase = lambda phase: None,
) -> list[Member]:
    """Compile the members and time them in turn in one run, while no worker of this machine does anything else.

    Raises an EffgenError where one cannot be compiled for the search's target, or not be timed here.
    """
    request = search.request
    networks = {member.candidate.name: network_from_spec(member.candidate.spec) for member in members}
    with search.turns.measuring():
        reports = measure_networks(networks, request.target, request.threads, plan, request.database, on_phase)
    return [replace(member, timing=_timing(reports[member.candidate.name].results[0])) for member in members]


def _timing(found: Result) -> FrontTiming:
    assert found.p10_ms is not None and found.p90_ms is not None  # None only in results of earlier versions
    return FrontTiming(found.median_ms, found.p10_ms, found.p90_ms)


def _study(search: BaselineSearch) -> SharedStudy:
    facts = search.shared.study.user_attrs["facts"]
    shared = open_study(search.request.storage, f"{search.request.study} (confirmation)", facts)
    if search.request.retry_failed:
        shared.retry_failed()
    return shared


def _item(trial: int, seed: int) -> Item:
    return Item(f"trial {trial} seed {seed}", {"trial": trial, "seed": seed})


def _member(shared: SharedStudy, network: TriedNetwork, items: Sequence[Item], search: BaselineSearch) -> Member:
    settled = settled_items(shared.trials, items, search.request.policy.retries)
    confirmed = sample_of([trial.values[0] for trial in settled if trial.state == TrialState.COMPLETE])
    failed = next((trial for trial in settled if trial.state == TrialState.FAIL), None)
    if failed is None:
        return Member(network, confirmed)
    why = failed.user_attrs.get("error") if reason_of(failed) == "error" else "its worker was lost again and again"
    return Member(network, confirmed, error=str(why))
