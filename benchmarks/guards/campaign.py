"""Trials in processes of their own: where one dies, that is a fault with a name, and the rest go on in the next."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from guards.child import JOB, NONE, WORKSPACES, Finding, Parameter, Trial

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Fault:
    """An access outside a buffer, or what shows one."""

    symbol: str
    what: str

    def __str__(self) -> str:
        return f"{self.symbol}: {self.what}"


@dataclass(frozen=True)
class Tally:
    """What a campaign found: functions called, calls, arrays of their own that were guarded too, and the faults."""

    functions: int
    calls: int
    own_arrays: int
    faults: tuple[Fault, ...]

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.functions + other.functions,
            self.calls + other.calls,
            self.own_arrays + other.own_arrays,
            self.faults + other.faults,
        )


#: No campaign yet.
NOTHING = Tally(0, 0, 0, ())


def build_guards(folder: Path) -> None:
    """Compile the guarding allocator into `folder`."""
    source = _HERE / "workspaces.c"
    command = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", str(source)]
    subprocess.run([*command, "-o", str(folder / WORKSPACES)], check=True)


def run_functions(folder: Path, functions: Mapping[str, Sequence[Parameter]]) -> Tally:
    """Call each function of the library in `folder` twice, its buffers at the end and at the start of their pages."""
    trials = [Trial(symbol, placement) for symbol in functions for placement in ("end", "start")]
    results = run_trials(folder, functions, trials)
    faults = [fault for symbol in functions for fault in _faults(folder, functions, symbol, results)]
    arrays = sum(found.own_arrays for found in results.values() if isinstance(found, Finding))
    return Tally(len(functions), len(trials), arrays, tuple(faults))


def _faults(
    folder: Path, functions: Mapping[str, Sequence[Parameter]], symbol: str, results: Mapping[Trial, Finding | str]
) -> Iterable[Fault]:
    """What is wrong with one function: where it died, which buffer it was at."""
    sums = set()
    for trial in (trial for trial in results if trial.symbol == symbol):
        found = results[trial]
        if isinstance(found, str):
            culprits = _culprits(folder, functions, trial)
            yield Fault(symbol, f"{found} with its buffers at the {trial.placement}: {culprits}")
            continue
        sums.add(found.sum)
        yield from (Fault(symbol, text) for text in _wrongs(found, trial))
    if len(sums) > 1:
        yield Fault(symbol, "other outputs when its buffers lie elsewhere")


def _wrongs(found: Finding, trial: Trial) -> Iterable[str]:
    if found.status:
        yield f"status {found.status}"
    yield from (f"wrote beside {name}, placed at the {trial.placement}" for name in found.beside)
    yield from (f"left or spread poison in {name}" for name in found.poisoned)
    if found.own_broken:
        yield f"wrote beside {found.own_broken} arrays of its own"


def _culprits(folder: Path, functions: Mapping[str, Sequence[Parameter]], trial: Trial) -> str:
    """The buffers at whose borders alone it dies too; a kernel's own arrays are guarded all the time."""
    names = {NONE: "an array of its own"} | dict(enumerate(each.name for each in functions[trial.symbol]))
    found = run_trials(folder, functions, [Trial(trial.symbol, trial.placement, only) for only in names])
    died = [names[each.only] for each, result in found.items() if isinstance(result, str) and each.only is not None]
    return died[0] if names[NONE] in died else ", ".join(died) or "several together"


def run_trials(
    folder: Path, functions: Mapping[str, Sequence[Parameter]], trials: Sequence[Trial]
) -> dict[Trial, Finding | str]:
    """What became of each trial: a finding, or the signal that ended the process."""
    job = {
        "functions": {symbol: [asdict(each) for each in parameters] for symbol, parameters in functions.items()},
        "trials": [asdict(trial) for trial in trials],
    }
    (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
    results: dict[Trial, Finding | str] = {}
    while len(results) < len(trials):
        findings, died = _child(folder, len(results))
        for finding in findings:
            results[trials[len(results)]] = finding
        if died:
            results[trials[len(results)]] = died
    return results


def _child(folder: Path, first: int) -> tuple[list[Finding], str]:
    """The findings of one process, and what ended it early; an error of its own, not a kernel's, is raised."""
    command = [sys.executable, "-m", "guards.child", str(folder), str(first)]
    process = subprocess.run(command, cwd=_HERE.parent, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    lines = process.stdout.decode().splitlines()
    findings = [Finding(**json.loads(line)) for line in lines if not line.startswith("at ")]
    if process.returncode >= 0:
        if process.returncode:
            raise RuntimeError(process.stderr.decode())
        return findings, ""
    if len(lines) == 2 * len(findings):  # it died before a trial, or after the last
        raise RuntimeError(f"the process died outside a trial: {signal.Signals(-process.returncode).name}")
    return findings, signal.Signals(-process.returncode).name
