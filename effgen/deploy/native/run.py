"""A bundle run by `effgen-run` in a process of its own, under an emulator where one is given."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BundleError
from effgen.files.temporary import temporary_folder
from effgen.machines.programs import run_program
from effgen.runtime.answers import Answer, answer_of

# Exit statuses of effgen-run (native/main.cc).
_PASSED, _USER_ERROR, _USAGE_ERROR, _MISSED = 0, 1, 2, 3


@dataclass(frozen=True)
class Runner:
    """The program (`build_runner`), and the command before it where it is another machine's
    (`effgen.machines.toolchain.emulator_command`)."""

    program: Path
    emulator: tuple[str, ...] = ()


@dataclass(frozen=True)
class NativeReport:
    """What `effgen-run` found. `rel_l2` is as in `effgen.judge.verify`: infinite where the output is not finite.

    `runs_ms` are the milliseconds of each timed run, `steps_ms` the median of each step (empty unless asked for).
    """

    model: str
    target: str
    threads: int
    rel_l2: float
    tolerance: float
    passed: bool
    runs_ms: tuple[float, ...]
    steps_ms: tuple[float, ...]


def run_bundle(
    runner: Runner,
    bundle: Path,
    threads: int | None = None,
    runs: int = 0,
    min_seconds: float = 0.0,
    layers: bool = False,
    timeout_s: float | None = None,
) -> NativeReport:
    """Compare a bundle with its golden pair, then time it: `runs` runs at least (0: none), `min_seconds` at least.

    `threads` None: as many as the bundle was compiled for. A miss is no error here: see `NativeReport.passed`. Raises
    BundleError where the bundle cannot be run, or not within `timeout_s` seconds.
    """
    options = ["--json", "--runs", str(runs), "--min-time", str(min_seconds), *(["--layers"] if layers else [])]
    data = json.loads(_run(runner, bundle, threads, options, timeout_s))
    return NativeReport(
        model=data["model"],
        target=data["target"],
        threads=data["threads"],
        rel_l2=float("inf") if data["rel_l2"] is None else data["rel_l2"],
        tolerance=data["tolerance"],
        passed=data["passed"],
        runs_ms=tuple(data["runs_ms"]),
        steps_ms=tuple(data.get("steps_ms", ())),
    )


def run_images(
    runner: Runner,
    bundle: Path,
    images: NDArray[np.float32],
    threads: int | None = None,
    timeout_s: float | None = None,
) -> Answer:
    """The bundle's answer, logits `(n, classes)` say, to images `(n, channels, height, width)`, n any multiple of its
    batch.

    Raises BundleError as `run_bundle` does, and where the images have another shape or dtype.
    """
    with temporary_folder("run") as folder:
        source, result = folder / "images.npy", Path(folder) / "answer.npy"
        np.save(source, np.ascontiguousarray(images))
        _run(runner, bundle, threads, ["--input", str(source), "--output", str(result)], timeout_s)
        files = [result] if result.exists() else sorted(folder.glob("answer.*.npy"), key=_number)
        return answer_of([np.load(file) for file in files])


def _number(file: Path) -> int:
    """Of an output, in the name of its file: `answer.2.npy`."""
    return int(file.suffixes[0].removeprefix("."))


def _run(runner: Runner, bundle: Path, threads: int | None, options: Sequence[str], timeout_s: float | None) -> str:
    """Standard output of effgen-run."""
    command: list[Any] = [*runner.emulator, runner.program, bundle, *options]
    if threads is not None:
        command += ["--threads", str(threads)]
    if runner.emulator:
        command.append("--skip-features")  # an emulator shows this machine's /proc/cpuinfo
    where = f"{bundle}: {runner.program.name}" + (f" under {Path(runner.emulator[0]).name}" if runner.emulator else "")
    try:
        done = run_program(command, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise BundleError(f"{where} was stopped: expected to end within {timeout_s:g} s") from None
    if done.returncode in (_PASSED, _MISSED):
        return done.stdout
    lines = done.stderr.strip().splitlines() or ["it said nothing"]
    prefix = f"{runner.program.name}: "
    said = next((line for line in lines if line.startswith(prefix)), lines[-1])
    if done.returncode in (_USER_ERROR, _USAGE_ERROR):
        raise BundleError(said.removeprefix(prefix))
    if done.returncode < 0:
        raise BundleError(
            f"{where} died of {signal.Signals(-done.returncode).name}: is the library for a processor like this one?"
        )
    raise BundleError(f"{where} ended with status {done.returncode}: {said}")
