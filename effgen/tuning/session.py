"""Tuning a network, from its kernels to a report: what `effgen tune` does."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace

from effgen.errors import EffgenError
from effgen.files.temporary import temporary_folder
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.kernels.workload import Workload
from effgen.machines.host import watch_other_work
from effgen.machines.machine import Cpu, Machine
from effgen.measure.protocol import DEFAULT_PROVIDER
from effgen.measure.routes import measurers, remote_of, route_of
from effgen.network import Network
from effgen.network.file_network import OnnxNetwork
from effgen.network.model import model_of
from effgen.records.lookup import RecordSource, record_sources
from effgen.tuning.arena import NetworkArena
from effgen.tuning.confirm import Verdict, by_loops, confirm
from effgen.tuning.engines.metaschedule import MetaSchedule
from effgen.tuning.offline.round import tune_offline
from effgen.tuning.report import EngineFacts, TuneReport, report_of
from effgen.tuning.request import (
    TuneRequest,
    begin,
    check_tune_request,
    machine_for_folder,
    machine_to_measure,
    promote_found,
)
from effgen.tuning.tuner import Limits, OnProgress, Tuner
from effgen.words import OnPhase, Route

#: Of the time that is left, the comparison of networks gets no more than this share kept back.
_MOST_KEPT_BACK = 0.5


def tune_network(
    request: TuneRequest, on_phase: OnPhase = lambda phase: None, on_progress: OnProgress = lambda progress: None
) -> TuneReport:
    """Tune every kernel of a network; returns what was found, also where Ctrl-C ended it (`end`).

    Raises an EffgenError for a request that makes no sense or a target that this machine cannot run.
    """
    started = time.monotonic()
    network = check_tune_request(request)
    on_phase(f"load TVM, describe the target {request.target}")
    route = route_of(request.target, request.route)
    if route == "offline":
        return tune_offline(request, network, machine_for_folder(request), on_phase)
    machine = machine_to_measure(request, route)
    remote = remote_of(request.target, request.route) if route == "rpc" else None
    on_phase("list the kernels")
    engine = MetaSchedule(machine, request.seed) if request.engine == "metaschedule" else None
    if engine is None:
        file, searches, untuned = begin(request, network, machine)
    else:
        operators = _operators(network, machine)
        file, searches, untuned = begin(request, network, machine, engine.search_for, operators)
    sources = record_sources(machine, file.path)
    with ExitStack() as stack:
        arena, problem = _arena(request, network, machine, route, sources, stack, on_phase)
        clock = Clock(request.limits, started)
        # The workers' own work is known once they have ended: inside the watched block.
        with watch_other_work() as other_work, ExitStack() as workers:
            if engine is not None:
                workers.enter_context(engine)
            lanes = measurers(machine, request.provider, remote, request.route.rpc_devices, workers)
            where = "" if remote is None else f" on {len(lanes)} devices of the key {remote.key}"
            on_phase(f"measure candidates of {len(searches)} kernels{where}")
            limits = clock.limits_before(0.0 if arena is None else arena.whole_s)
            tuner = Tuner(searches, machine, lanes, file, limits, sources, on_progress, last_look=arena is None)
            tuner.run()
        other_cpus = other_work.cpus if route == "local" else None
        verdict = _verdict(tuner, arena, machine, clock, other_cpus)
    if tuner.end != "interrupted" and verdict.said == "interrupted":
        tuner.end = "interrupted"
    promoted = None
    if request.promote is not None and tuner.end != "interrupted":
        promoted = promote_found(request, network, machine, route, tuner.ledger)
    return report_of(
        network=network,
        machine=machine,
        ledger=tuner.ledger,
        untuned=untuned,
        end=tuner.end,
        seconds=time.monotonic() - started,
        judged="loop" if arena is None else "network",
        verdict=replace(verdict, problem=verdict.problem or problem),
        promoted=promoted,
        other_cpus=other_cpus,
        route=route,
        engine=EngineFacts(request.engine, engine.ranked_by, dict(engine.failures)) if engine else EngineFacts(),
    )


class Clock:
    """The time limit of a run that began at `started`."""

    def __init__(self, limits: Limits, started: float) -> None:
        self._limits, self._started = limits, started

    def left_s(self) -> float | None:
        """Seconds until the limit, None without one."""
        if self._limits.seconds is None:
            return None
        return max(0.0, self._limits.seconds - (time.monotonic() - self._started))

    def limits_before(self, kept_back_s: float) -> Limits:
        """The limits of what comes before something that takes so long."""
        left = self.left_s()
        if left is None:
            return self._limits
        return replace(self._limits, seconds=max(left - kept_back_s, (1 - _MOST_KEPT_BACK) * left))


def _arena(
    request: TuneRequest,
    network: Network | OnnxNetwork,
    machine: Cpu,
    route: Route,
    sources: tuple[RecordSource, ...],
    stack: ExitStack,
    on_phase: OnPhase,
) -> tuple[NetworkArena | None, str]:
    """Where the network is compared, ready until `stack` ends. None, with a reason, where it cannot be compiled; with
    none where that is not how kernels are judged: on devices elsewhere, or if `effgen compile` does not make them."""
    if route != "local" or request.provider != DEFAULT_PROVIDER:
        return None, ""
    folder = stack.enter_context(temporary_folder("tune"))
    arena = NetworkArena(request.network, network, request.target, machine.threads, folder, on_phase)
    try:
        arena.prepare([record for source in sources if source.own for record in source.records if record.chosen])
    except EffgenError as error:
        return None, str(error)
    return arena, ""


def _verdict(tuner: Tuner, arena: NetworkArena | None, machine: Cpu, clock: Clock, other_cpus: float | None) -> Verdict:
    """What comes of what the tuner found. What was interrupted, or failed, chooses nothing."""
    ledger = tuner.ledger
    if tuner.end == "interrupted":
        return Verdict("interrupted")
    ledger.rescue()
    if arena is None:
        return by_loops(ledger, tuner.checked, other_cpus)
    try:
        with ledger.alone():
            return confirm(ledger, record_sources(machine, ledger.file.path), arena, clock.left_s)
    except KeyboardInterrupt:
        return Verdict("interrupted")
    except EffgenError as error:
        return Verdict("failed", problem=str(error))


def _operators(network: Network | OnnxNetwork, machine: Machine) -> Counter[Workload]:
    """The functions of the network that no rule knows."""
    from effgen.compiler.rest import operators_of  # loads TVM

    model = model_of(network, None, 0, lambda phase: None)
    return operators_of(*fold_batchnorm(model.graph, model.weights), machine)
