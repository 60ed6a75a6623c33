"""Writing the folder: libraries of candidates, inputs and expected outputs, TVM's runtime, the runner, and the plan."""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.kernels.reference import random_inputs
from effgen.kernels.workload import Workload
from effgen.machines.machine import Machine
from effgen.measure.carried.candidate import error_text
from effgen.measure.carried.lines import PLAN, digest_of
from effgen.measure.case import TOLERANCE
from effgen.measure.measurer import CANDIDATE_LIMIT_S
from effgen.tuning.ledger import now
from effgen.tuning.offline.code import Code, code_of
from effgen.tuning.offline.plan import Chosen
from effgen.tuning.search import KernelSearch
from effgen.version import __version__

#: What goes with a folder, as it is: the room that measures there, and what it imports.
_CARRIED = "measure/carried"
_NEEDED = ("errors.py", "machines/cuda_driver.py", "machines/identity.py", "runtime/tvm_abi.py")

_RUN = '''"""Measures the kernels in this folder: python3 run.py"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from effgen.measure.carried.runner import main

main()
'''


@dataclass(frozen=True)
class Unbuilt:
    """A candidate that could not be built."""

    search: KernelSearch
    decisions: Mapping[str, int]
    error: str


def write_folder(folder: Path, chosen: Sequence[Chosen], machine: Machine) -> tuple[dict[str, Any], list[Unbuilt]]:
    """Fill the new `folder`; returns its plan and the candidates that could not be built, which it leaves out.

    Raises BuildError where the runtime or the linker for the machine is missing.
    """
    code = code_of(machine)
    for path in code.runtime_libraries():
        _copy(path, folder / "runtime" / path.name)
    (folder / "kernels").mkdir()
    kernels, unbuilt, first = [], [], 0
    for number, one in enumerate(chosen):
        kernel, failed = _write_kernel(folder, number, first, one, machine, code)
        unbuilt += failed
        if kernel is not None:
            kernels.append(kernel)
            first = kernel["candidates"][-1]["index"] + 1
    content = {
        "format": 1,
        "effgen": __version__,
        "tvm": version("apache-tvm"),
        "date": now(),
        "target": machine.name,
        "mcpu": machine.processor,
        "device": code.device(),
        "lanes": machine.lanes,
        "cores": machine.threads,
        "architecture": machine.architecture,
        "features": list(machine.needed_features),
        "tolerance": TOLERANCE,
        "limit_s": CANDIDATE_LIMIT_S,
        "flush": _write_flush(folder, code),
        "kernels": kernels,
    }
    plan = {"id": digest_of(content), **content}
    (folder / PLAN).write_text(json.dumps(plan), encoding="utf-8")
    _write_runner(folder)
    return plan, unbuilt


def quantised(array: NDArray[np.float32]) -> tuple[NDArray[np.int8], float | None]:
    """int8 numbers and the scale that makes float32 of them again; all NaN: none and None."""
    if np.isnan(array).all():
        return np.empty(0, np.int8), None
    scale = float(np.abs(array).max()) / 127 or 1.0
    return np.rint(array / scale).astype(np.int8), scale


def dequantised(numbers: NDArray[np.int8], scale: float | None, shape: Sequence[int]) -> NDArray[np.float32]:
    """The float32 array that the runner makes of them."""
    if scale is None:
        return np.full(shape, np.nan, np.float32)
    return (numbers.astype(np.float64) * scale).astype(np.float32).reshape(shape)


def _write_kernel(
    folder: Path, number: int, first: int, chosen: Chosen, machine: Machine, code: Code
) -> tuple[dict[str, Any] | None, list[Unbuilt]]:
    """One kernel's library and data; None where no candidate of it can be built. `first`: its first free index."""
    search = chosen.search
    incumbent = search.best
    points = [*([incumbent.decisions] if incumbent else []), *chosen.candidates]
    names = [f"kernel{number}_candidate{point}" for point in range(len(points))]
    compiled, built, unbuilt = _build(search, points, names, code)
    if not set(built) - ({0} if incumbent else set()):
        return None, unbuilt
    library = folder / "kernels" / f"{number:03d}{code.suffix}"
    code.write(compiled, library)
    candidates = [
        {
            "index": first + place,
            "function": names[point],
            "decisions": dict(points[point]),
            **code.stated(compiled, names[point]),
        }
        for place, point in enumerate(built)
    ]
    known = candidates[0]["index"] if incumbent and 0 in built else None
    kernel = {
        "name": search.workload.name,
        "rule": search.space.rule,
        "library": _stated(folder, library),
        **_write_data(folder, number, search.workload, machine),
        "incumbent": known,
        "incumbent_s": incumbent.seconds if incumbent and known is not None else None,
        "candidates": candidates,
    }
    return kernel, unbuilt


def _build(
    search: KernelSearch, points: Sequence[Mapping[str, int]], names: Sequence[str], code: Code
) -> tuple[Any, list[int], list[Unbuilt]]:
    """What can be compiled, together; the numbers of those points, and the other points."""
    errors: dict[int, Exception] = {}
    functions = {}
    for number, decisions in enumerate(points):
        try:
            functions[names[number]] = search.space.kernel(dict(decisions))
        except Exception as error:  # TVM raises anything
            errors[number] = error
    try:
        compiled = code.compile(functions)
    except Exception:
        for number in set(range(len(points))) - set(errors):  # of several together nobody knows which one it was
            try:
                code.compile({names[number]: functions[names[number]]})
            except Exception as error:
                errors[number] = error
                del functions[names[number]]
        compiled = code.compile(functions) if functions else None
    built = [number for number in range(len(points)) if number not in errors]
    return compiled, built, [_unbuilt(search, points[number], errors[number]) for number in sorted(errors)]


def _unbuilt(search: KernelSearch, decisions: Mapping[str, int], error: Exception) -> Unbuilt:
    return Unbuilt(search, decisions, error_text(error))


def _write_data(folder: Path, number: int, workload: Workload, machine: Machine) -> dict[str, Any]:
    """Inputs as int8 and a scale each, then the outputs that they must make, float32: one file."""
    inputs = random_inputs(workload, machine, np.random.default_rng(zlib.crc32(workload.name.encode())))
    small = {name: quantised(array) for name, array in inputs.items()}
    exact = {name: dequantised(*small[name], array.shape) for name, array in inputs.items()}
    expected = workload.reference(exact)
    path = folder / "data" / f"{number:03d}.bin"
    path.parent.mkdir(exist_ok=True)
    parts = [numbers.tobytes() for numbers, _ in small.values()]
    path.write_bytes(b"".join([*parts, *(array.astype("<f4").tobytes() for array in expected)]))
    return {
        "data": _stated(folder, path),
        "inputs": [{"shape": list(inputs[name].shape), "scale": scale} for name, (_, scale) in small.items()],
        "outputs": [list(shape) for shape in workload.out_shapes],
    }


def _write_flush(folder: Path, code: Code) -> dict[str, Any]:
    """What makes caches cold between calls."""
    path = folder / "kernels" / f"flush{code.suffix}"
    flush = code.write_flush(path)
    return {**flush, "library": _stated(folder, path)} if path.exists() else flush


def carried_files() -> list[str]:
    """The files of this package that go with every folder."""
    room = resources.files("effgen") / _CARRIED
    return [*_NEEDED, *sorted(f"{_CARRIED}/{file.name}" for file in room.iterdir() if file.name.endswith(".py"))]


def _write_runner(folder: Path) -> None:
    (folder / "run.py").write_text(_RUN, encoding="utf-8")
    package = resources.files("effgen")
    for name in carried_files():
        path = folder / "effgen" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(package.joinpath(name).read_text(encoding="utf-8"), encoding="utf-8")
        for parent in path.relative_to(folder).parents[:-1]:
            (folder / parent / "__init__.py").touch()


def _stated(folder: Path, path: Path) -> dict[str, str]:
    return {"path": str(path.relative_to(folder)), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _copy(source: Path, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, path)
