"""Whether the rules choose better with the costs of this machine than with those that they inherit.

    effgen calibrate
    python benchmarks/calibrated.py 0 3 --threads 2 --rounds 15

Each network is compiled twice by rules alone, no tuning record taken: with the inherited costs, and with those that
`effgen calibrate` keeps (or with `--costs FILE.toml`, as its -o writes). The kernels whose schedules differ are listed,
with the cycles that the rule estimates of both by the calibrated costs; then both libraries are timed in turn, each in
a process of its own. `--estimate` leaves the timing out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import EffgenError, TargetError
from effgen.judge.messages import Entry, Refused
from effgen.judge.race import Contender, run_race
from effgen.machines.calibrated import calibrated_file, load_calibrated
from effgen.machines.host import watch_other_work
from effgen.machines.machine import Cpu
from effgen.machines.target import this_cpu
from effgen.machines.target_file import Costs
from effgen.network import NetworkRequest, build_network
from effgen.report.calibrate import text_of_cost
from effgen.report.compare import markdown_table
from effgen.results.reports import OURS, Plan
from effgen.runtime.library import prepare_tvm

INHERITED, CALIBRATED = "inherited", "calibrated"


def costs_here(machine: Cpu, file: Path | None) -> Costs:
    """The measured costs: of the file, or what is kept of this machine. Raises TargetError where there are none."""
    if file is not None:
        return Costs.model_validate(machine.costs.model_dump() | tomllib.loads(file.read_text())["costs"])
    found = load_calibrated(machine.vector_bytes)
    if found is None:
        raise TargetError(f"{calibrated_file(machine.vector_bytes)}: not there; run effgen calibrate, or give --costs")
    return found.over(machine.costs)


def target_text(costs: Costs) -> str:
    """This machine with these costs, as a target's file."""
    lines = (f"{name} = {text_of_cost(value)}" for name, value in costs.model_dump().items())
    return "\n".join(['description = "this machine"', "detect = true", "[costs]", *lines]) + "\n"


def differing(phi: str, machines: Mapping[str, Cpu]) -> list[tuple[str, ...]]:
    """The network's kernels whose rules decide otherwise: calls, estimated cycles of both, what changes."""
    from effgen.schedules import space_of
    from effgen.tuning.request import calls_of_network

    rows = []
    for workload, calls in calls_of_network(build_network(NetworkRequest(phi=phi))).items():
        spaces = {name: space_of(workload, machine) for name, machine in machines.items()}
        before, after = spaces[INHERITED], spaces[CALIBRATED]
        if before is None or after is None or before.default == after.default:
            continue
        changes = [f"{key} {before.default[key]} -> {after.default[key]}" for key in after.default
                   if before.default[key] != after.default[key]]  # fmt: skip
        estimates = ["", ""] if after.cycles is None else [f"{after.cycles(s.default):,.0f}" for s in (before, after)]
        rows.append((workload.name, str(calls), *estimates, ", ".join(changes)))
    return rows


def by_rules_alone(phi: str, costs: Costs, folder: Path, threads: int | None) -> Path:
    """A bundle without any tuning record."""
    bundle, target = folder / "bundle", folder / "this.toml"
    target.write_text(target_text(costs))
    with patch("effgen.records.choice.record_sources", return_value=()):
        compile_bundle(CompileRequest(NetworkRequest(phi=phi), bundle, str(target), threads=threads))
    return bundle


def raced(bundles: Mapping[str, Path], threads: int, plan: Plan) -> dict[str, list[float]]:
    """Seconds of every timed call by name. Raises EffgenError where a library does not run."""
    with ExitStack() as stack:
        racers = {name: stack.enter_context(Contender(Entry(OURS, path, threads))) for name, path in bundles.items()}
        for name, racer in racers.items():
            if isinstance(racer.told, Refused):
                raise racer.told.error or EffgenError(f"{name}: {racer.told.reason}")
        race = run_race(racers, plan)
    for name, reason in race.lost.items():
        raise EffgenError(f"{name}: {reason}")
    return dict(race.samples)


def run(options: argparse.Namespace) -> None:
    """Raises EffgenError for a user's error."""
    prepare_tvm()
    inherited = this_cpu(calibrated=False).with_threads(options.threads)
    costs = {INHERITED: inherited.costs, CALIBRATED: costs_here(inherited, options.costs)}
    machines = {name: replace(inherited, costs=each) for name, each in costs.items()}
    threads = inherited.threads
    timed = []
    for phi in options.phis:
        rows = differing(phi, machines)
        print(f"\nphi {phi}, {threads} threads: {len(rows)} kernels have another schedule\n")
        print(markdown_table(("kernel", "calls", "cycles before", "cycles after", "decisions"), rows))
        if options.estimate or not rows:
            continue
        with tempfile.TemporaryDirectory() as folder, watch_other_work() as other:
            bundles = {}
            for name, each in costs.items():
                Path(folder, name).mkdir()
                bundles[name] = by_rules_alone(phi, each, Path(folder, name), threads)
            samples = raced(bundles, threads, Plan(options.rounds, options.seconds))
        timed.append((phi, *_figures(samples), "" if other.cpus is None else f"{other.cpus:.1f}"))
    if timed:
        header = ("phi", "inherited, ms", "calibrated, ms", "inherited / calibrated", "of medians", "other work, CPUs")
        print("\nLower quartiles:\n\n" + markdown_table(header, timed))


def _figures(samples: Mapping[str, list[float]]) -> tuple[str, ...]:
    """Lower quartiles in milliseconds, their ratio, the medians' ratio."""
    quarter, half = ({name: float(np.percentile(found, mark)) for name, found in samples.items()} for mark in (25, 50))
    ratios = (each[INHERITED] / each[CALIBRATED] for each in (quarter, half))
    return (*(f"{1e3 * quarter[name]:.3f}" for name in (INHERITED, CALIBRATED)), *(f"{ratio:.3f}" for ratio in ratios))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phis", nargs="*", default=["0"], metavar="PHI", help="of EfficientNet; default: 0")
    parser.add_argument("--threads", type=int, metavar="N", help="default: this process's physical cores")
    parser.add_argument("--costs", type=Path, metavar="FILE", help="a [costs] table instead of what is kept here")
    parser.add_argument("--rounds", type=int, default=15, help="of one burst each")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each library over all rounds")
    parser.add_argument("--estimate", action="store_true", help="say what changes, time nothing")
    try:
        run(parser.parse_args())
    except EffgenError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
