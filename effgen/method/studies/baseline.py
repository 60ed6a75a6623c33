"""The whole of `effgen search baseline`: networks tried, the front trained again, and timed in one run."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from effgen.errors import EffgenError
from effgen.machines.abilities import running_here
from effgen.machines.target import load_target
from effgen.method.studies.baseline_report import networks_to_confirm, report_of
from effgen.method.studies.baseline_search import BaselineRequest, BaselineSearch, open_baseline_search
from effgen.method.studies.confirmation import time_together, train_again
from effgen.method.studies.front import BaselineReport, Member
from effgen.method.studies.workers import OnSettled
from effgen.words import OnPhase


def help_baseline(request: BaselineRequest) -> None:
    """What a further worker of the same machine does: trials and trainings, until all are done."""
    with closing(open_baseline_search(replace(request, retry_failed=False))) as search:
        search_and_confirm(search)


def search_and_confirm(
    search: BaselineSearch,
    on_trial: OnSettled = lambda settled: None,
    on_confirmed: OnSettled = lambda settled: None,
) -> list[Member]:
    """Work until all trials are done, here or by other workers, and the front is trained again. The starting network
    comes first. Raises StudyError where the storage fails or the starting network cannot be trained."""
    search.run(on_trial)
    return train_again(search, networks_to_confirm(search), on_confirmed)


def finish(search: BaselineSearch, members: list[Member], on_phase: OnPhase = lambda phase: None) -> BaselineReport:
    """Time the members where the target is this machine, and put everything together.

    Where one of them cannot be compiled or timed that is told, and the report is of the accuracies and predictions.
    """
    if running_here(load_target(search.request.target))[0] == "native":
        try:
            members = time_together(search, members, on_phase=on_phase)
        except EffgenError as error:
            on_phase(f"not timed: {error}")
    return report_of(search, members)
