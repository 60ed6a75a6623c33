"""How far latency predictions are off, on random networks that nothing was learned from.

    python benchmarks/predictor.py --networks 20 --seed 0

Calibrates this machine where that was not done, predicts the latency of each network, completes the table of measured
kernels for them and predicts again, then compiles them and measures all of them in turn. Prints every error, and the
median and worst. Exits 3 with --gate where the median is above so many percent. The calibration is kept in the folder
--table (default: a new one each time) and serves the next run; the table is completed in a copy, each time anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from effgen.errors import EffgenError, RegressionError
from effgen.files.text import check_writable, write_text
from effgen.graph import Graph
from effgen.method.latency.calibration import calibrate
from effgen.method.latency.interleaved import measure_networks
from effgen.method.latency.predictor import LatencyPrediction, open_predictor
from effgen.method.latency.samples import sample_networks
from effgen.method.latency.table import complete_table
from effgen.method.latency.times import table_path
from effgen.network import Network, network_from_spec
from effgen.report.compare import markdown_table
from effgen.results.reports import Plan

_HEADER = ("network", "pixels", "MMACs", "kernels", "measured ms", "predicted", "error", "known")
_TABLE_HEADER = ("with table", "error")


@dataclass(frozen=True)
class Judged:
    """A network's latency in seconds: measured, predicted by estimates, and predicted from its kernels' own times (None
    with --no-table)."""

    network: str
    resolution: int
    macs: int
    kernels: int
    measured: float
    predicted: float
    known: float
    from_table: float | None

    @property
    def error(self) -> float:
        """Of the prediction, relative."""
        return self.predicted / self.measured - 1

    @property
    def table_error(self) -> float | None:
        """Of the prediction with a completed table, relative."""
        return None if self.from_table is None else self.from_table / self.measured - 1


def judge(networks: Sequence[Network], options: argparse.Namespace, folder: Path) -> list[Judged]:
    """Predictions come before measurements. Raises EffgenError where this machine cannot be measured."""
    database, threads = folder / "records.jsonl", options.threads
    start = time.monotonic()

    def tell(phase: str) -> None:
        print(f"{time.monotonic() - start:7.1f} s  {phase}", file=sys.stderr, flush=True)

    calibrate("cpu", threads, database, tell)
    graphs = [network.graph for network in networks]
    before = [open_predictor("cpu", threads, database).predict(graph) for graph in graphs]
    with_table: list[float | None] = [None] * len(networks)
    if not options.no_table:
        tell("complete the table")
        with_table = [*predicted_from_kernels(graphs, threads, database, tell)]
    tell("compile and measure")
    plan, named = Plan(10, options.seconds), {network.spec.name: network for network in networks}
    reports = measure_networks(named, "cpu", threads, plan, database, tell).values()
    seconds = [report.results[0].median_ms / 1e3 for report in reports]
    return [judged(*row) for row in zip(networks, seconds, before, with_table, strict=True)]


def predicted_from_kernels(
    graphs: Sequence[Graph], threads: int | None, database: Path, tell: Callable[[str], None]
) -> list[float]:
    """Seconds of each network, after all that can be measured of their kernels was.

    That goes into a copy of the table, and the copy away: the next run's first predictions must see nothing of it.
    """
    with tempfile.TemporaryDirectory(prefix="effgen-completed-") as folder:
        completed = Path(folder) / database.name
        for file, copy in ((database, completed), (table_path(database), table_path(completed))):
            if file.exists():
                shutil.copyfile(file, copy)
        measured = complete_table(graphs, "cpu", threads, completed)
        tell(f"{measured} kernels measured")
        predictor = open_predictor("cpu", threads, completed)
        return [predictor.predict(graph).seconds for graph in graphs]


def judged(network: Network, seconds: float, before: LatencyPrediction, with_table: float | None) -> Judged:
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
        with_table,
    )


def rows(found: Sequence[Judged]) -> Iterable[Sequence[str]]:
    """A row a network."""
    for one in found:
        size = (str(one.resolution), f"{one.macs / 1e6:.0f}", str(one.kernels), f"{one.measured * 1e3:.3f}")
        predicted = (f"{one.predicted * 1e3:.3f}", f"{one.error:+.1%}", f"{one.known:.0%}")
        yield (one.network, *size, *predicted, *from_table(one))


def from_table(one: Judged) -> tuple[str, ...]:
    """The cells of the prediction with a completed table; none without."""
    if one.from_table is None or one.table_error is None:
        return ()
    return f"{one.from_table * 1e3:.3f}", f"{one.table_error:+.1%}"


def summary(name: str, errors: Sequence[float]) -> str:
    """Median and worst, by size, and the median as signed."""
    sizes = [abs(error) for error in errors]
    return (
        f"{name}: median error {statistics.median(sizes):.1%}, worst {max(sizes):.1%}, "
        f"bias {statistics.median(errors):+.1%}"
    )


def check(options: argparse.Namespace) -> None:
    """Raises EffgenError for what cannot be done, before anything is measured."""
    if options.networks < 1:
        raise EffgenError(f"--networks {options.networks}: expected 1 or more")
    if options.json is not None:
        check_writable("--json", options.json)
    if options.table is not None and options.table.exists() and not options.table.is_dir():
        raise EffgenError(f"--table {options.table}: not a folder; give another path")


def show(found: Sequence[Judged]) -> None:
    """Print the table and its summary."""
    table_errors = [one.table_error for one in found if one.table_error is not None]
    print(markdown_table((*_HEADER, *(_TABLE_HEADER if table_errors else ())), rows(found)))
    print()
    print(summary("predicted", [one.error for one in found]))
    if table_errors:
        print(summary("with a completed table", table_errors))


def run(options: argparse.Namespace) -> None:
    """Raises EffgenError for a user's error, RegressionError where the median error is above --gate."""
    check(options)
    networks = [network_from_spec(spec) for spec in sample_networks(options.networks, f"judge_{options.seed}")]
    with tempfile.TemporaryDirectory(prefix="effgen-predictor-") as fresh:
        found = judge(networks, options, options.table or Path(fresh))
    show(found)
    if options.json is not None:
        write_text("--json", options.json, json.dumps([asdict(one) for one in found], indent=2) + "\n")
    median = statistics.median(abs(one.error) for one in found)
    if options.gate is not None and not median * 100 <= options.gate:
        raise RegressionError(f"the median error is {median:.1%}; --gate {options.gate:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=20, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    parser.add_argument("--threads", type=int, help="default: all CPUs")
    parser.add_argument("--seconds", type=float, default=1.0, help="timed calls of each network")
    parser.add_argument("--table", type=Path, metavar="DIR", help="keep the calibration here")
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
