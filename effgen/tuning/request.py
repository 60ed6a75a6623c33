"""`effgen tune`: the request checked, the kernels of a network listed, the tuner run, its outcome as a report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from effgen.compiler.blocks import kernel_counts
from effgen.compiler.repertoire import CPU_KERNELS, Repertoire, kernels_for
from effgen.errors import TuneError
from effgen.files.staging import check_directory
from effgen.kernels.workload import Workload
from effgen.machines.host import describe_host
from effgen.machines.machine import Cpu, Machine
from effgen.machines.microarchitecture import this_microarchitecture
from effgen.machines.processor import default_threads, missing_features, usable_cpus
from effgen.machines.target import check_target, load_target, stated_target
from effgen.machines.toolchain import check_programs, linker
from effgen.measure.protocol import DEFAULT_PROVIDER, SpaceProvider, provider_from_name
from effgen.measure.routes import OFFLINE_FOLDER, RouteOptions, route_of
from effgen.network import Network, NetworkRequest
from effgen.network.file_network import OnnxNetwork, OnnxRequest
from effgen.network.model import resolve
from effgen.records.database import RecordFile, default_database
from effgen.records.shipped import promote
from effgen.runtime.library import prepare_tvm
from effgen.tuning.ledger import Ledger, measured_here, now
from effgen.tuning.search import KernelSearch
from effgen.tuning.tuner import Limits
from effgen.words import Engine, Route

if TYPE_CHECKING:  # a Space needs TVM
    from effgen.schedules.space import Space


#: Makes the search for a kernel that is called so often, with its space and a seed; None where an engine cannot.
SearchFor = Callable[[Workload, int, "Space", int], KernelSearch | None]


@dataclass(frozen=True)
class TuneRequest:
    """What `effgen tune` was asked for. `threads` None: all CPUs of this process; `database` None: the user's own.

    `fresh` forgets what the database holds of these kernels; `promote` is a folder of shipped records to merge into.
    """

    network: NetworkRequest | OnnxRequest
    target: str = "cpu"
    limits: Limits = field(default_factory=Limits)
    threads: int | None = None
    database: Path | None = None
    fresh: bool = False
    promote: Path | None = None
    seed: int = 0
    provider: str = DEFAULT_PROVIDER
    engine: Engine = "effgen"
    route: RouteOptions = field(default_factory=RouteOptions)


def check_tune_request(request: TuneRequest) -> Network | OnnxNetwork:
    """The network asked for, once all that can be checked without working was; raises an EffgenError."""
    network = resolve(request.network)
    check_target(request.target)
    route = route_of(request.target, request.route)
    limits = request.limits
    if limits.trials is not None and limits.trials < 1:
        raise TuneError(f"--trials {limits.trials}: expected 1 or more candidates")
    if limits.seconds is not None and not 0 < limits.seconds < float("inf"):
        raise TuneError(f"--minutes {limits.seconds / 60:g}: expected a time above 0")
    if route == "offline" and limits.seconds is not None:
        raise TuneError("--minutes: a round takes as long as it does on the machine; give --trials to make it smaller")
    if route == "offline" and request.engine != "effgen":
        raise TuneError(
            f"--engine {request.engine}: learns from each candidate what to try next, and cannot write a folder of "
            "them ahead; give --measure local or rpc"
        )
    _check_threads(request, route)
    _check_promote(request.promote)
    if request.route.offline_out is not None:
        check_directory(request.route.offline_out, request.route.force, OFFLINE_FOLDER)
    RecordFile(request.database or default_database()).check()
    return network


def _check_threads(request: TuneRequest, route: Route) -> None:
    if route == "local":
        most, what = len(usable_cpus()), "the CPUs that this process may use"
    else:
        most, what = stated_target(request.target).cores or len(usable_cpus()), "the cores of the target"
    if request.threads is not None and not 1 <= request.threads <= most:
        raise TuneError(f"--threads {request.threads}: expected from 1 to {most}, {what}")


def _check_promote(folder: Path | None) -> None:
    if folder is None:
        return
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise TuneError(f"--promote {folder}: {nearest} is a file; expected a folder, e.g. schedules/records/x86-64-v4")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise TuneError(f"--promote {folder}: no permission to write in {nearest}; give another folder")


def begin(
    request: TuneRequest,
    network: Network | OnnxNetwork,
    machine: Machine,
    search_for: SearchFor = KernelSearch,
    operators: Mapping[Workload, int] = MappingProxyType({}),
) -> tuple[RecordFile, list[KernelSearch], list[str]]:
    """The database, without what `fresh` forgets; a search for each kernel, and for each of the `operators` that are
    left to TVM; the names of those without one."""
    calls = calls_of_network(network, kernels_for(machine))
    calls.update(operators)
    file = RecordFile(request.database or default_database())
    if request.fresh:
        names = {workload.name for workload in calls}
        file.discard(lambda record: record.kernel in names and measured_here(record, machine))
    return file, *searches_of(calls, machine, provider_from_name(request.provider), request.seed, search_for)


def calls_of_network(network: Network | OnnxNetwork, kernels: Repertoire = CPU_KERNELS) -> Counter[Workload]:
    """How often one inference calls each kernel: those that the importer would make of the same graph."""
    return kernel_counts(network.graph, kernels)


def searches_of(
    calls: Mapping[Workload, int],
    machine: Machine,
    space_of: SpaceProvider,
    seed: int = 0,
    search_for: SearchFor = KernelSearch,
) -> tuple[list[KernelSearch], list[str]]:
    """A search for every kernel with a schedule space that `search_for` can search, and the names of the others."""
    spaces = {workload: space_of(workload, machine) for workload in calls}
    found = {w: None if space is None else search_for(w, calls[w], space, seed) for w, space in spaces.items()}
    return [search for search in found.values() if search], [w.name for w, search in found.items() if not search]


def machine_for_folder(request: TuneRequest) -> Machine:
    """The target with the threads asked for, whose kernels are measured elsewhere, from a folder that is written here.

    Raises BuildError where a program that takes is missing.
    """
    machine = _described(request)
    check_programs(machine)
    return machine.with_threads(request.threads)


def machine_to_measure(request: TuneRequest, route: Route) -> Cpu:
    """The target with the threads asked for. Raises TuneError where its kernels cannot be measured by the route."""
    machine = _described(request)
    if not isinstance(machine, Cpu):
        raise TuneError(
            f"--target {request.target}: kernels of GPUs are measured from a folder, there and here: give "
            "--offline-out DIR"
        )
    if route == "local":
        # Whatever micro-architecture the target names, or does not: what is recorded is of this computer.
        here = this_microarchitecture() or machine.microarchitecture
        return replace(measured_here_as(request.target, machine, request.threads), microarchitecture=here)
    linker(machine)
    return machine.with_threads(request.threads)


def _described(request: TuneRequest) -> Machine:
    prepare_tvm()
    return load_target(request.target)


def measured_here_as(target: str, machine: Cpu, threads: int | None) -> Cpu:
    """The machine with the threads that its kernels are measured with on this computer (None: `default_threads`).

    Raises TuneError where this processor cannot run them.
    """
    missing = missing_features(machine.features)
    if missing:
        raise TuneError(
            f"--target {target}: this processor lacks {', '.join(missing)}: kernels are measured here; "
            "tune on such a machine, or give --measure rpc or --offline-out"
        )
    return machine.with_threads(threads or default_threads())


def promote_found(
    request: TuneRequest, network: Network | OnnxNetwork, machine: Machine, route: Route, ledger: Ledger
) -> int:
    """Merge the records that are chosen into the shipped ones that were asked for; returns how many are new or
    better."""
    assert request.promote is not None
    found = [record for search in ledger.searches if (record := search.chosen)]
    facts = {
        "network": f"{network.title}, batch {network.graph.batch}",
        "tvm": version("apache-tvm"),
        "date": now(),
        "route": route,
        "machine": ", ".join(sorted({record.device for record in found if record.device})),
        "mcpu": machine.processor,
        "microarchitecture": machine.microarchitecture,
        "lanes": machine.lanes,
        "cores": machine.threads,
        "candidates": ledger.trials + ledger.resumed,
    }
    return promote(found, request.promote, facts | (_local_facts() if route == "local" else {}))


def _local_facts() -> dict[str, Any]:
    host = describe_host()
    return {"machine": host.cpu, "virtual": host.virtual, "system": host.system}
