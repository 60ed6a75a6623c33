"""`effgen tune --measure offline`: results that came back are recorded, the next round's folder is written."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effgen.errors import TuneError
from effgen.files.staging import staged_directory
from effgen.machines.machine import Machine
from effgen.measure.carried.candidate import Outcome
from effgen.measure.routes import OFFLINE_FOLDER
from effgen.network import Network
from effgen.network.file_network import OnnxNetwork
from effgen.records.lookup import record_sources
from effgen.tuning.confirm import Verdict, waiting_of
from effgen.tuning.ledger import Ledger
from effgen.tuning.offline.plan import plan_round
from effgen.tuning.offline.results import CandidateResult, read_results, remember
from effgen.tuning.report import TuneReport, Written, report_of
from effgen.tuning.request import begin, promote_found
from effgen.words import OnPhase

if TYPE_CHECKING:
    from effgen.tuning.request import TuneRequest


def tune_offline(
    request: TuneRequest, network: Network | OnnxNetwork, machine: Machine, on_phase: OnPhase
) -> TuneReport:
    """One step of the exchange: read what there is to read, then write what there is to write.

    Raises TuneError for results that are none of the network's on this machine, BuildError for the folder.
    """
    started = time.monotonic()
    on_phase("list the kernels")
    file, searches, untuned = begin(request, network, machine)
    ledger = Ledger(searches, machine, file)
    ledger.begin_from(record_sources(machine, file.path))
    promoted, verdict = None, Verdict("nothing")
    if request.route.offline_in is not None:
        on_phase(f"read {request.route.offline_in}")
        plan, results = read_results(request.route.offline_in, file.path)
        _check_plan(request.route.offline_in, plan, machine, ledger)
        for result in results:
            _take(ledger, result)
        ledger.rescue()
        verdict = _keep(ledger)
        if request.promote is not None:
            promoted = promote_found(request, network, machine, "offline", ledger)
    written = None if request.route.offline_out is None else _write(request, machine, ledger, on_phase)
    return report_of(
        network=network,
        machine=machine,
        ledger=ledger,
        untuned=untuned,
        end="round",
        seconds=time.monotonic() - started,
        judged="loop",
        verdict=verdict,
        promoted=promoted,
        other_cpus=None,
        route="offline",
        written=written,
    )


def _check_plan(path: Path, plan: dict[str, Any], machine: Machine, ledger: Ledger) -> None:
    """Raise TuneError unless the results are of this machine, compiler and network."""
    wanted = {"mcpu": machine.processor, "lanes": machine.lanes, "cores": machine.threads, "tvm": ledger.tvm}
    for name, value in wanted.items():
        if plan[name] != value:
            raise TuneError(
                f"--offline-in {path}: the folder was written for {name} {plan[name]}, this is {value}; give the "
                "--target and --threads that it was written with, and write new folders after an update"
            )
    missing = [kernel["name"] for kernel in plan["kernels"] if ledger.search_of(kernel["name"]) is None]
    if missing:
        raise TuneError(
            f"--offline-in {path}: {missing[0]}: no kernel of this network; give the network that the folder was "
            "written for"
        )


def _take(ledger: Ledger, result: CandidateResult) -> None:
    """Record a result, unless its candidate is known: it may have come back before."""
    search = ledger.search_of(result.kernel)
    assert search is not None
    if search.knows(result.decisions) or result.rule != search.space.rule:
        return
    incumbent = None if result.incumbent is None else search.record_of(result.incumbent)
    ledger.take(search, result.decisions, result.outcome, incumbent)


def _keep(ledger: Ledger) -> Verdict:
    """Have what won be chosen: it was compared at length where it was measured, in a loop."""
    kept = {}
    for search in waiting_of(ledger):
        assert search.incumbent is not None
        kept[search.workload.name] = (search.incumbent.time_s, ledger.keep(search).time_s)
    return Verdict("better" if kept else "nothing", kept=kept)


def _write(request: TuneRequest, machine: Machine, ledger: Ledger, on_phase: OnPhase) -> Written:
    from effgen.tuning.offline.folder import write_folder

    output = request.route.offline_out
    assert output is not None
    chosen = plan_round(ledger.searches, request.limits.trials)
    if not chosen:
        raise TuneError(f"--offline-out {output}: no candidate is left that was not measured; nothing to write")
    on_phase(f"build {sum(len(one.candidates) for one in chosen)} candidates of {len(chosen)} kernels")
    with staged_directory(output, request.route.force, OFFLINE_FOLDER) as folder:
        plan, unbuilt = write_folder(folder, chosen, machine)
        if not plan["kernels"]:
            raise TuneError(f"--offline-out {output}: no candidate can be built: {unbuilt[0].error}")
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        remember(ledger.file.path, plan)
    for failed in unbuilt:
        if not failed.search.knows(failed.decisions):
            ledger.take(failed.search, failed.decisions, Outcome("build_error", failed.error), None)
    candidates = sum(len(kernel["candidates"]) - (kernel["incumbent"] is not None) for kernel in plan["kernels"])
    return Written(str(output), plan["id"], len(plan["kernels"]), candidates, len(unbuilt), size)
