"""Latencies of a search's candidates: of all on one machine, by one of the workers, when the trainings are over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effgen.abilities import running_here
from effgen.errors import EffgenError, StudyError, TargetError, TuneError
from effgen.network import Network
from effgen.routes import RouteOptions, remote_of
from effgen.studies.storage import open_study
from effgen.studies.workers import DEFAULT_POLICY, Claim, Item, Policy, run_items, settled_items
from effgen.target import load_target

OnPhase = Callable[[str], None]

_ITEM = "latencies"


@dataclass(frozen=True)
class LatencyRequest:
    """What is timed for: target and threads (None: all it has), tuning records, and a device behind TVM's RPC."""

    target: str = "cpu"
    threads: int | None = None
    database: Path | None = None
    rpc_tracker: str | None = None
    rpc_key: str | None = None


@dataclass(frozen=True)
class Latencies:
    """Milliseconds of a call by candidate, and the machine; `failed` says why a candidate has none."""

    milliseconds: Mapping[str, float]
    failed: Mapping[str, str]
    machine: str
    threads: int


NO_LATENCIES = Latencies({}, {}, "", 0)


def check_latency(request: LatencyRequest) -> None:
    """Raise TargetError or TuneError where nothing could be timed: before the trainings, not after them."""
    if request.rpc_tracker is not None:
        remote_of(request.target, RouteOptions(rpc_tracker=request.rpc_tracker, rpc_key=request.rpc_key))
    elif request.rpc_key is not None:
        raise TuneError(f"--rpc-key {request.rpc_key}: a tracker knows it: give --rpc-tracker HOST:PORT")
    elif request.target != "cpu":  # which is this machine
        running, reason = running_here(load_target(request.target))
        if running != "native":
            raise TargetError(
                f"--target {request.target}: cannot be timed here{f': {reason}' if reason else ', only emulated'}; "
                "give --rpc-tracker, or --no-latency"
            )


def measure_latencies(
    url: str,
    name: str,
    facts: Mapping[str, Any],
    networks: Mapping[str, Network],
    request: LatencyRequest,
    policy: Policy = DEFAULT_POLICY,
    on_phase: OnPhase = lambda phase: None,
) -> Latencies:
    """Time every network, once over all workers of the search: the trial is one for all, so that they compare.

    Whoever comes first does it, the others wait for what came out. It is kept in a study of its own beside that of the
    search, by target. Raises StudyError where the storage fails, and where none could be timed, to be tried again.
    """
    study = f"{name} latency {request.target}"
    shared = open_study(url, study, {**facts, "target": request.target, "threads": request.threads}, "minimize")
    item = Item(_ITEM, {})

    def measure(claim: Claim) -> float:
        found = _measured(networks, request, on_phase)
        for key, value in vars(found).items():
            claim.trial.set_user_attr(key, value)
        return min(found.milliseconds.values())

    with closing(shared):
        run_items(shared, [item], measure, policy)
        attributes = settled_items(shared.trials, [item], policy)[0].user_attrs
    if "milliseconds" not in attributes:
        raise StudyError(f"{shared.where}: every worker that timed the networks was lost; time another --target")
    return Latencies(*(attributes[key] for key in ("milliseconds", "failed", "machine", "threads")))


def _measured(networks: Mapping[str, Network], request: LatencyRequest, on_phase: OnPhase) -> Latencies:
    from effgen.latency.measured import measure_network

    remote = None
    if request.rpc_tracker is not None:
        remote = remote_of(request.target, RouteOptions(rpc_tracker=request.rpc_tracker, rpc_key=request.rpc_key))
    milliseconds, failed, machine, threads = {}, {}, "", 0
    for index, (key, network) in enumerate(networks.items()):
        on_phase(f"time {key} ({index + 1} of {len(networks)})")
        try:
            report = measure_network(network, request.target, request.threads, database=request.database, remote=remote)
        except EffgenError as error:
            failed[key] = " ".join(str(error).split())
            continue
        milliseconds[key] = report.results[0].median_ms
        machine, threads = report.machine.cpu, report.threads
    if not milliseconds:
        raise StudyError(next(iter(failed.values())))
    return Latencies(milliseconds, failed, machine, threads)
