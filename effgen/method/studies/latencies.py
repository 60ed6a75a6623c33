"""Latencies of a search's candidates: of all on one machine, by one of the workers, when the trainings are over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from effgen.errors import EffgenError, StudyError, TargetError, TuneError
from effgen.machines.cpu import usable_cpus
from effgen.measure.protocol import Remote
from effgen.measure.routes import RouteOptions, remote_of
from effgen.method.latency.interleaved import check_timed_here
from effgen.method.latency.measured import measure_network
from effgen.method.studies.standings import Item, settled_items
from effgen.method.studies.storage import SharedStudy, open_study
from effgen.method.studies.turns import Turns
from effgen.method.studies.workers import DEFAULT_POLICY, Claim, Policy, run_items
from effgen.network import Network
from effgen.results.reports import BenchReport
from effgen.words import OnPhase

_ITEM = "latencies"


@dataclass(frozen=True)
class LatencyRequest:
    """What is timed for: target and threads (None: all it has), tuning records, and a device behind TVM's RPC."""

    target: str = "cpu"
    threads: int | None = None
    database: Path | None = None
    rpc_tracker: str | None = None
    rpc_key: str | None = None

    @property
    def what(self) -> str:
        """What is timed on, in words that differ where latencies do not compare."""
        if self.rpc_tracker is not None:
            device = self.rpc_key or "any device"
            return f"{self.target}, threads {self.threads or 'all'}, {device} of {self.rpc_tracker}"
        return f"{self.target}, threads {self.threads or len(usable_cpus())}"


@dataclass(frozen=True)
class Latencies:
    """Milliseconds of a call by candidate, the machine, and the UTC time when they were measured."""

    milliseconds: Mapping[str, float]
    machine: str
    threads: int
    measured: str


NO_LATENCIES = Latencies({}, "", 0, "")


def check_latency(request: LatencyRequest) -> None:
    """Raise TargetError or TuneError where nothing could be timed: before the trainings, not after them."""
    if request.rpc_key is not None and request.rpc_tracker is None:
        raise TuneError(f"--rpc-key {request.rpc_key}: a tracker knows it: give --rpc-tracker HOST:PORT")
    if request.rpc_tracker is not None:
        _remote(request)
    elif (request.target, request.threads) != ("cpu", None):  # which is this machine as it is
        try:
            check_timed_here(request.target, request.threads)
        except TargetError as error:
            raise TargetError(f"{error}; give --rpc-tracker, or --no-latency") from None


def open_latencies(url: str, name: str, facts: Mapping[str, Any], request: LatencyRequest) -> SharedStudy:
    """The study beside that of the search `name` which keeps its latencies, one for each way to time them.

    Raises StudyError as `open_study`.
    """
    return open_study(url, f"{name} latency: {request.what}", {**facts, "latency": request.what}, "minimize")


def measure_latencies(
    shared: SharedStudy,
    turns: Turns,
    networks: Mapping[str, Network],
    request: LatencyRequest,
    policy: Policy = DEFAULT_POLICY,
    on_phase: OnPhase = lambda phase: None,
) -> Latencies:
    """Time every network, once over all workers of the search: the trial is one for all, so that they compare.

    Whoever comes first does it, the others wait for what came out: it is kept in the study `shared` of
    `open_latencies`. Raises StudyError where the storage fails, and where a network cannot be timed: then nothing is
    kept, to be tried again.
    """
    item = Item(_ITEM, {})

    def measure(claim: Claim) -> float:
        found = _measured(networks, request, turns, on_phase)
        claim.notes.update(vars(found))
        return min(found.milliseconds.values())

    run_items(shared, [item], measure, policy)
    attributes = settled_items(shared.trials, [item], policy.retries)[0].user_attrs
    if "milliseconds" not in attributes:
        raise StudyError(f"{shared.where}: every worker that timed the networks was lost; give --no-latency")
    return Latencies(*(attributes[field.name] for field in fields(Latencies)))


def _measured(networks: Mapping[str, Network], request: LatencyRequest, turns: Turns, on_phase: OnPhase) -> Latencies:
    try:
        reports = _reports(networks, request, turns, on_phase)
    except EffgenError as error:
        raise StudyError(f"{error}; the accuracies are kept: mend it and go on, or give --no-latency") from None
    some = next(iter(reports.values()))
    milliseconds = {key: report.results[0].median_ms for key, report in reports.items()}
    return Latencies(milliseconds, some.machine.cpu, some.threads, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")


def _reports(
    networks: Mapping[str, Network], request: LatencyRequest, turns: Turns, on_phase: OnPhase
) -> dict[str, BenchReport]:
    target, threads, database = request.target, request.threads, request.database
    if request.rpc_tracker is None:
        from effgen.method.latency.interleaved import measure_networks

        on_phase("wait for the trainings on this machine")
        with turns.measuring():
            return measure_networks(networks, target, threads, database=database, on_phase=on_phase)
    remote, reports = _remote(request), {}
    for key, network in networks.items():
        on_phase(f"time {key}")
        reports[key] = measure_network(network, target, threads, database=database, remote=remote)
    return reports


def _remote(request: LatencyRequest) -> Remote:
    return remote_of(request.target, RouteOptions(rpc_tracker=request.rpc_tracker, rpc_key=request.rpc_key))
