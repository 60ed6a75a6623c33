"""How far latency predictions are off, on random networks that nothing was learned from.

    python benchmarks/predictor.py --networks 20 --seed 0

Calibrates this machine where that was not done, predicts the latency of each network, completes the table of measured
kernels for them and predicts again, then compiles them and measures all of them in turn. Prints every error, and the
median and worst. Exits 3 with --gate where the median is above so many percent. What was measured is kept in the
folder --table (default: a new one each time), so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from effgen.errors import EffgenError, RegressionError
from effgen.latency.calibration import calibrate
from effgen.latency.interleaved import measure_networks
from effgen.latency.predictor import Prediction, open_predictor
from effgen.latency.samples import sample_networks
from effgen.latency.table import complete_table
from effgen.network import Network, network_from_spec
from effgen.report_compare import markdown_table
from effgen.results import Plan

_HEADER = ("network", "pixels", "MMACs", "kernels", "measured ms", "predicted", "error", "known", "with table", "error")


@dataclass(frozen=True)
class Judged:
    """A network's latency in seconds: measured, predicted by estimates, and predicted from its kernels' own times."""

    network: str
    resolution: int
    macs: int
    kernels: int
    measured: float
    predicted: float
    known: float
    from_table: float

    @property
    def error(self) -> float:
        """Of the prediction, relative."""
        return self.predicted / self.measured - 1

    @property
    def table_error(self) -> float:
        """Of the prediction with a completed table, relative."""
        return self.from_table / self.measured - 1


def judge(networks: Sequence[Network], options: argparse.Namespace, folder: Path) -> list[Judged]:
    """Predictions come before measurements. Raises EffgenError where this machine cannot be measured."""
    database, threads = folder / "records.jsonl", options.threads
    start = time.monotonic()

    def tell(phase: str) -> None:
        print(f"{time.monotonic() - start:7.1f} s  {phase}", file=sys.stderr, flush=True)

    calibrate("cpu", threads, database, tell)
    graphs = [network.graph for network in networks]
    before = [open_predictor("cpu", threads, database).predict(graph) for graph in graphs]
    with_table = before
    if not options.no_table:
        # A table of its own, which the next run's predictions do not see.
        completed = folder / "completed.jsonl"
        tell("complete the table")
        table = completed.with_suffix(".times.jsonl")
        if not table.exists():
            table.write_bytes(database.with_suffix(".times.jsonl").read_bytes())
        measured = complete_table(graphs, "cpu", threads, completed)
        tell(f"{measured} kernels measured")
        with_table = [open_predictor("cpu", threads, completed).predict(graph) for graph in graphs]
    tell("compile and measure")
    plan, named = Plan(10, options.seconds), {network.spec.name: network for network in networks}
    reports = measure_networks(named, "cpu", threads, plan, database, tell).values()
    seconds = [report.results[0].median_ms / 1e3 for report in reports]
    return [judged(*row) for row in zip(networks, seconds, before, with_table, strict=True)]


def judged(network: Network, seconds: float, before: Prediction, with_table: Prediction) -> Judged:
    """One row."""
    pixels = network.spec.input.resolution
    return Judged(
        network.spec.name,
        pixels,
        network.graph.macs,
        before.kernels,
        seconds,
        before.seconds,
        before.measured_share,
        with_table.seconds,
    )


def rows(found: Sequence[Judged]) -> Iterable[Sequence[str]]:
    """A row a network."""
    for one in found:
        size = (str(one.resolution), f"{one.macs / 1e6:.0f}", str(one.kernels), f"{one.measured * 1e3:.3f}")
        predicted = (f"{one.predicted * 1e3:.3f}", f"{one.error:+.1%}", f"{one.known:.0%}")
        yield (one.network, *size, *predicted, f"{one.from_table * 1e3:.3f}", f"{one.table_error:+.1%}")


def summary(name: str, errors: Sequence[float]) -> str:
    """Median and worst, by size, and the median as signed."""
    sizes = [abs(error) for error in errors]
    return (
        f"{name}: median error {statistics.median(sizes):.1%}, worst {max(sizes):.1%}, "
        f"bias {statistics.median(errors):+.1%}"
    )


def run(options: argparse.Namespace) -> None:
    """Raises EffgenError for a user's error, RegressionError where the median error is above --gate."""
    networks = [network_from_spec(spec) for spec in sample_networks(options.networks, f"judge_{options.seed}")]
    with tempfile.TemporaryDirectory(prefix="effgen-predictor-") as fresh:
        folder = options.table or Path(fresh)
        folder.mkdir(parents=True, exist_ok=True)
        found = judge(networks, options, folder)
    print(markdown_table(_HEADER, rows(found)))
    print()
    print(summary("predicted", [one.error for one in found]))
    print(summary("with a completed table", [one.table_error for one in found]))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n", encoding="utf-8")
    median = statistics.median(abs(one.error) for one in found)
    if options.gate is not None and not median * 100 <= options.gate:
        raise RegressionError(f"the median error is {median:.1%}; --gate {options.gate:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=20, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    parser.add_argument("--threads", type=int, help="default: all CPUs")
    parser.add_argument("--seconds", type=float, default=1.0, help="timed calls of each network")
    parser.add_argument("--table", type=Path, metavar="DIR", help="keep what is measured here")
    parser.add_argument("--no-table", action="store_true", help="do not complete the table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--gate", type=float, metavar="PERCENT", help="the largest median error of the predictions")
    try:
        run(parser.parse_args())
    except EffgenError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
