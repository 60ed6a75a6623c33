"""Tuning a network, from its kernels to a report: what `effgen tune` does."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.kernels.workload import Workload
from effgen.machines.host import watch_other_work
from effgen.machines.machine import Machine
from effgen.measure.routes import measurers, remote_of, route_of
from effgen.network import Network
from effgen.network.file_network import OnnxNetwork
from effgen.network.model import model_of
from effgen.records.lookup import record_sources
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
from effgen.tuning.tuner import OnProgress, Tuner
from effgen.words import OnPhase


def tune_network(
    request: TuneRequest, on_phase: OnPhase = lambda phase: None, on_progress: OnProgress = lambda progress: None
) -> TuneReport:
    """Tune every kernel of a network; returns what was found, also where Ctrl-C ended it (`end`).

    Raises an EffgenError for a request that makes no sense or a target that this machine cannot run.
    """
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
    # The workers' own work is known once they have ended: inside the watched block.
    with watch_other_work() as other_work, ExitStack() as stack:
        if engine is not None:
            stack.enter_context(engine)
        lanes = measurers(machine, request.provider, remote, request.route.rpc_devices, stack)
        where = "" if remote is None else f" on {len(lanes)} devices of the key {remote.key}"
        on_phase(f"measure candidates of {len(searches)} kernels{where}")
        tuner = Tuner(searches, machine, lanes, file, request.limits, sources, on_progress)
        tuner.run()
    promoted = None
    if request.promote is not None and tuner.end != "interrupted":
        promoted = promote_found(request, network, machine, route, tuner.ledger)
    return report_of(
        network=network,
        machine=machine,
        ledger=tuner.ledger,
        untuned=untuned,
        end=tuner.end,
        seconds=tuner.elapsed_s,
        checked=tuner.checked,
        promoted=promoted,
        other_cpus=other_work.cpus if route == "local" else None,
        route=route,
        engine=EngineFacts(request.engine, engine.ranked_by, dict(engine.failures)) if engine else EngineFacts(),
    )


def _operators(network: Network | OnnxNetwork, machine: Machine) -> Counter[Workload]:
    """The functions of the network that no rule knows."""
    from effgen.compiler.rest import operators_of  # loads TVM

    model = model_of(network, None, 0, lambda phase: None)
    return operators_of(*fold_batchnorm(model.graph, model.weights), machine)
