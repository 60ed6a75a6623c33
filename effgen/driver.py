"""The way through, from a request to what is on disk: `effgen compile` and `effgen export`."""

from __future__ import annotations

import dataclasses
import logging
import math
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from effgen.compiler.dump import Dump
from effgen.deploy.executors import Images, executor_of
from effgen.deploy.standalone import BUNDLE, STANDALONE, check_emit, check_name, write_standalone
from effgen.deploy.standalone.c_name import library_name
from effgen.errors import BuildError, VerifyError, candidates
from effgen.files.staging import check_directory, staged_directory, staged_file
from effgen.files.standard_error import Captured, captured_standard_error
from effgen.files.strict import StrictModel
from effgen.files.temporary import temporary_folder
from effgen.graph import Graph
from effgen.graph.output_kind import output_kind
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.judge.case import (
    Case,
    golden_cases,
    golden_pair,
    is_finite,
    new_golden_pair,
    save_golden_pair,
    stored_golden_pair,
    tolerance_of_codes,
    worst_of,
)
from effgen.judge.reading import check_reading
from effgen.judge.standalone import check_standalone
from effgen.machines.abilities import running_here
from effgen.machines.machine import Machine, archs_of_a_cpu
from effgen.machines.target import load_target, stated_target
from effgen.network import Network, NetworkRequest, build_network
from effgen.network.checkpoints import AS_MEANT
from effgen.network.file_network import OnnxNetwork, OnnxRequest
from effgen.network.model import Model, model_from_network, model_of, resolve
from effgen.network.weight_sets import WeightsChoice
from effgen.runtime.answers import Answer, answer_of
from effgen.runtime.labels import labels_from_option
from effgen.runtime.library import prepare_tvm
from effgen.runtime.manifest import BUNDLE_FOLDER, DTYPES, LABELS, MANIFEST, MODEL, Manifest, sha256_of
from effgen.words import OnPhase

log = logging.getLogger(__name__)

_TOO_LARGE = "out of memory; a smaller --batch, --resolution or --phi needs less"


@dataclass(frozen=True)
class CompileRequest:
    """What `effgen compile` was asked for. `threads` None: all cores of this process; `database`: of tuning records,
    None: the user's own; `emit`: of `effgen.deploy.standalone.EMITS`; `labels`: a file of the classes' names or
    "imagenet", None: the bundle has numbers only; `name`: of the C library, None: the network's own; `choice`: which
    weights of the file `weights`, under which names. An ONNX file brings its own weights."""

    network: NetworkRequest | OnnxRequest
    output: Path
    target: str = "cpu"
    weights: Path | None = None
    seed: int = 0
    threads: int | None = None
    dtype: str = "float32"
    cuda_archs: tuple[str, ...] = ()
    force: bool = False
    debug_dump: Path | None = None
    database: Path | None = None
    emit: tuple[str, ...] = (BUNDLE,)
    labels: str | None = None
    name: str | None = None
    choice: WeightsChoice = AS_MEANT


def compile_bundle(
    request: CompileRequest,
    on_phase: OnPhase = lambda text: None,
    network: Network | OnnxNetwork | None = None,
) -> Manifest:
    """Compile a network and write its bundle directory; returns its manifest. `network`: what `check_request` gave.

    `on_phase` is told the name of each phase as it begins. Raises an EffgenError (one line) for anything that the
    user can mend; then, as on Ctrl-C, nothing is left at `request.output`.
    """
    network = network or check_request(request)
    dump = _debug_dump(request.debug_dump)
    with (
        staged_directory(request.output, request.force, kind=BUNDLE_FOLDER) as staging,
        temporary_folder("objects") as objects,
    ):
        machine = _machine(request, on_phase)
        model = model_of(network, request.weights, request.seed, on_phase, request.choice)
        tolerance = _write_golden(model, staging, request, machine, on_phase)
        if isinstance(network, OnnxNetwork):
            model = _checked(model, network, tolerance, staging, on_phase)
        _write_onnx(model, staging / MODEL, True, on_phase)
        _write_labels(request.labels, model, staging)
        facts = _write_code(staging, machine, request, dump, model, objects, on_phase)
        manifest = _manifest(model, machine, facts, request.dtype, tolerance, staging)
        if STANDALONE in request.emit:
            on_phase("compile and link the standalone library")
            kernels = sorted(objects.iterdir())
            manifest = write_standalone(manifest, request.name or library_name(network), staging, kernels, request.emit)
        (staging / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        golden = _check_golden(staging, machine, on_phase)
        manifest = dataclasses.replace(manifest, network={**manifest.network, **golden})
        (staging / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def check_request(request: CompileRequest) -> Network | OnnxNetwork:
    """The network asked for, once everything that can be checked without working was; raises an EffgenError."""
    _check_device(request)
    check_directory(request.output, request.force, kind=BUNDLE_FOLDER)
    if request.choice != AS_MEANT and request.weights is None:
        raise BuildError("--weights-key and --rename are about --weights FILE: give that too, or leave them out")
    if request.threads is not None and not 1 <= request.threads <= 1024:
        raise BuildError(f"--threads {request.threads}: expected from 1 to 1024")
    if isinstance(request.network, OnnxRequest) and request.weights is not None:
        raise BuildError(f"--weights {request.weights}: {request.network.file} holds its own; leave one of them out")
    network = resolve(request.network)
    if request.labels is not None:
        labels_from_option(request.labels, network.graph.classes)
    return network


def _check_device(request: CompileRequest) -> None:
    stated = stated_target(request.target)
    check_emit(request.emit, request.target, stated)
    check_name(request.name, request.emit)
    processor = stated.processor
    if request.dtype not in DTYPES:
        raise BuildError(f"--dtype {request.dtype}: {candidates(request.dtype, DTYPES)}")
    if request.dtype not in processor.dtypes:
        raise BuildError(f"--dtype {request.dtype}: kernels for CPUs are float32 yet; expected a CUDA --target")
    if request.cuda_archs and not processor.has_archs:
        raise archs_of_a_cpu(request.target, request.cuda_archs)


def export_network(
    request: NetworkRequest,
    output: Path,
    weights: Path | None,
    seed: int,
    fold: bool,
    force: bool,
    on_phase: OnPhase = lambda text: None,
    choice: WeightsChoice = AS_MEANT,
) -> tuple[list[Path], Model]:
    """Write the network as ONNX, batch norms folded or not; returns the files written, and what is in them."""
    network = build_network(request)
    with staged_file(output, force) as staged:
        model = model_from_network(network, weights, seed, on_phase, choice)
        files = _write_onnx(model, staged, fold, on_phase)
        names = [file.name for file in files]
    return [output.parent / name for name in names], model


def _debug_dump(folder: Path | None) -> Dump:
    """Raises BuildError before the work where the folder cannot be written."""
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"--debug-dump {folder}: cannot be written: {error.strerror}; expected a directory") from None
    return Dump(folder)


def _machine(request: CompileRequest, on_phase: OnPhase) -> Machine:
    """The target, its kernels shared out over the threads asked for."""
    on_phase(f"load TVM, describe the target {request.target}")
    prepare_tvm()
    from effgen.kernels.lowering import tvm_target  # loads TVM, so that its seconds count here

    machine = load_target(request.target).with_threads(request.threads)
    machine = machine.with_archs(request.cuda_archs) if request.cuda_archs else machine
    tvm_target(machine)  # refused before the work, not behind it
    return machine


def _write_golden(model: Model, staging: Path, request: CompileRequest, machine: Machine, on_phase: OnPhase) -> float:
    """The input/output pair that a bundle carries: the unfolded graph run by PyTorch. Gives the relative L2 that the
    code's answers may be off: the target's, but for a network of codes."""
    on_phase("golden pair by PyTorch")
    try:
        from effgen.graph.reference import reference_outputs
    except ModuleNotFoundError:
        raise BuildError("PyTorch computes the golden pair: install it, e.g. pip install effgen[torch]") from None

    def judged(image: Images, rounding: bool = True) -> Answer:
        return answer_of(reference_outputs(model.graph, model.weights, image, rounding))

    of_codes, tolerance = bool(model.graph.codes), getattr(machine.tolerance, request.dtype)
    stable = math.inf if of_codes else machine.tolerance.float32
    try:
        image, answer = new_golden_pair(judged, model.graph.input.shape, request.seed, stable)
        if of_codes:
            tolerance = max(tolerance, tolerance_of_codes(answer, judged(image, rounding=False)))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise BuildError(f"{model.title}: {_TOO_LARGE}") from None
    if not is_finite(answer):
        raise BuildError(f"{model.title}: PyTorch's output is not finite with these weights; nothing to verify")
    save_golden_pair(staging, image, answer)
    return float(tolerance)


def _checked(model: Model, network: OnnxNetwork, tolerance: float, staging: Path, on_phase: OnPhase) -> Model:
    """The model, its facts with what came of holding it to the file."""
    on_phase("the file's own answer by onnxruntime")
    graph = model.graph
    answers = [tuple(graph.values[name].shape) for name in graph.outputs]
    image, answer = stored_golden_pair(staging, tuple(graph.input.shape), answers)
    reading = check_reading(network, image, answer, tolerance)
    if not reading.not_checked:
        on_phase(reading.agreement)
    return dataclasses.replace(model, facts={**model.facts, "onnx": {**model.facts["onnx"], "reading": reading.facts}})


def _write_onnx(model: Model, path: Path, fold: bool, on_phase: OnPhase) -> list[Path]:
    on_phase("export ONNX")
    from effgen.graph.onnx.write import onnx_from_graph, save_onnx

    graph, weights = model.graph, model.weights
    if fold:
        graph, weights = fold_batchnorm(graph, weights)
    return save_onnx(onnx_from_graph(graph, weights, model.metadata), path)


def _write_labels(option: str | None, model: Model, staging: Path) -> None:
    """The names that the user gives, else those that the network brings."""
    labels = model.labels if option is None else labels_from_option(option, model.graph.classes)
    if labels is not None:
        (staging / LABELS).write_text("".join(f"{name}\n" for name in labels), encoding="utf-8")


@dataclass(frozen=True)
class _CodeFacts:
    device: dict[str, Any]
    kernels: list[dict[str, Any]]
    steps: list[str]
    workspace_bytes: int
    outputs: tuple[int, ...]
    compiler: str


def _write_code(
    staging: Path,
    machine: Machine,
    request: CompileRequest,
    dump: Dump,
    model: Model,
    objects: Path,
    on_phase: OnPhase,
) -> _CodeFacts:
    """Compile what was exported: the ONNX file is read back."""
    from effgen.compiler.backend import backend_of
    from effgen.compiler.importer import relax_from_graph
    from effgen.compiler.pipeline import schedule_module
    from effgen.graph.onnx import graph_from_onnx
    from effgen.kernels.lowering import tvm_target
    from effgen.records.choice import KernelChoices

    backend = backend_of(machine)
    dump.write("graph", model.graph.dump())
    on_phase("import ONNX")
    graph, weights = graph_from_onnx(staging / MODEL)
    dump.write("onnx_as_read", graph.dump())
    try:
        with captured_standard_error() as said, tvm_target(machine):
            on_phase("schedule kernels")
            chosen = KernelChoices(machine, request.database)
            imported = relax_from_graph(graph, weights, machine, chosen.kernel, request.dtype)
            scheduled = schedule_module(imported, machine, chosen, dump)
            on_phase(backend.phase)
            built = backend.write(scheduled, staging, dump, objects)
    finally:
        _log_compiler(said, dump)
    program = scheduled.program
    return _CodeFacts(
        device=built.device,
        kernels=[dataclasses.asdict(kernel) for kernel in scheduled.kernels],
        steps=[step.kernel for step in program.steps],
        workspace_bytes=program.workspace_bytes,
        outputs=program.outputs,
        compiler=built.compiler,
    )


def _log_compiler(said: Captured, dump: Dump) -> None:
    """What TVM and LLVM wrote to standard error, for those who look: warnings without a place, of no use to others."""
    for line in dict.fromkeys(said.lines):
        log.debug("TVM: %s", line)
    if said.lines:
        dump.write("said_by_tvm", said.text)


def _manifest(
    model: Model, machine: Machine, facts: _CodeFacts, dtype: str, tolerance: float, staging: Path
) -> Manifest:
    graph = model.graph
    return Manifest(
        name=model.title,
        network=dict(model.facts),
        target={
            "name": machine.name,
            "description": machine.description,
            "llvm": machine.llvm,
            "features": list(machine.needed_features),
            "toolchain": _plain(machine.toolchain),
            "emulator": _plain(machine.emulator),
        },
        device=facts.device,
        versions={**_versions(), "compiler": facts.compiler},
        threads=machine.threads,
        files={file.name: sha256_of(file) for file in sorted(staging.iterdir())},
        input={
            "name": graph.input.name,
            "shape": list(graph.input.shape),
            "dtype": "float32",
            "layout": "NCHW",
            **model.preparation.facts,
        },
        outputs=_outputs(graph, facts.outputs),
        kernels=facts.kernels,
        steps=facts.steps,
        workspace_bytes=facts.workspace_bytes,
        parameters=graph.parameter_count,
        macs=graph.macs,
        dtype=dtype,
        tolerance={"rel_l2": tolerance},
    )


def _outputs(graph: Graph, starts: tuple[int, ...]) -> list[dict[str, Any]]:
    """What a manifest says of the outputs, which begin at `starts`; of a classifier's it need not say that."""
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "shape": list(graph.values[name].shape),
            "dtype": "float32",
            "kind": output_kind(graph, name),
            "start": start,
        }
        for name, start in zip(graph.outputs, starts, strict=True)
    ]
    if graph.classes is not None:
        del found[0]["start"]
    return found


def _plain(table: StrictModel | None) -> dict[str, Any] | None:
    return None if table is None else table.model_dump(mode="json")


def _versions() -> dict[str, str]:
    """Of everything that shaped the bundle."""
    names = {"effgen": "effgen", "tvm": "apache-tvm", "tvm_ffi": "apache-tvm-ffi"}
    names |= {name: name for name in ("onnx", "numpy", "torch")}
    found = {"python": platform.python_version()}
    for key, package in names.items():
        try:
            found[key] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _check_golden(staging: Path, machine: Machine, on_phase: OnPhase) -> dict[str, Any]:
    """Run the new code once, under an emulator where it is another machine's: a bundle that misses its tolerance is
    not written. One that nothing can run here is, unchecked. Returns what the manifest's `network` says of it."""
    runs, reason = running_here(machine)
    if runs == "no" and not machine.is_foreign:
        return _not_checked(reason)
    on_phase("check the golden pair")
    try:
        executor = executor_of(staging, on_phase=on_phase)
    except BuildError as error:
        return _not_checked(str(error))
    if machine.is_foreign:
        on_phase(f"run it by {executor.name}")
    image, expected = golden_pair(staging)
    tolerance = executor.manifest.tolerance["rel_l2"]
    case = worst_of(golden_cases(staging, executor(image), executor.manifest.output_names, tolerance))
    if not case.passed:
        raise VerifyError(
            f"{executor.manifest.name}: the compiled library disagrees with PyTorch{case.of_output}: relative L2 "
            f"{case.rel_l2:.2e}, expected at most {tolerance:g}; no bundle was written"
        )
    if executor.manifest.standalone is not None:
        check_standalone(staging, executor.manifest, image, expected, on_phase)
    return _checked_by(executor.name, case)


def _not_checked(reason: str) -> dict[str, Any]:
    return {"golden": {"not_checked": reason}}


def _checked_by(name: str, case: Case) -> dict[str, Any]:
    unjudged = {} if case.judged else {"golden_not_judged": {"noise": case.noise, "rel_l2": case.rel_l2}}
    return {"golden": {"checked_by": name, "rel_l2": case.rel_l2}, **unjudged}
