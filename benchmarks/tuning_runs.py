"""What `effgen tune` does to a network, run after run, each from what ships, some beside a busy neighbour.

    python benchmarks/tuning_runs.py --phi 0 --runs 20 --loaded 10 --minutes 2.5 --json runs.jsonl

A run tunes with a database of its own, that is empty at first. Then the network is compiled with an empty database
(before) and with that one (after), and both are timed in turn, each in a process of its own, without the neighbour
(`effgen.judge.duel`). A row is printed as it comes: before / after, above 1 where tuning made it faster, beside what
`effgen tune` told; with a `?` where other work disturbed the timing, also when it was done again. Where both libraries
are the same, byte for byte, nothing is timed: `same`, which is 1. Ends with 1 where a run made the network slower than
0.99. With --json each row is a line of that file, and a benchmark that was stopped goes on there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from effgen.errors import EffgenError
from effgen.files.temporary import temporary_folder
from effgen.judge.duel import Duel, duel_of_bundles
from effgen.machines.load import busy_processes
from effgen.machines.processor import default_threads
from effgen.results.reports import DISTURBING_CPUS
from effgen.runtime.manifest import LIBRARY, WEIGHTS

#: A run that leaves the network slower than this, before / after, has harmed it.
HARM = 0.99

#: So often two networks are timed at most, where other work disturbs.
_ATTEMPTS = 3

#: Of a bundle, what runs.
_RUN = (LIBRARY, WEIGHTS)

#: Columns and their widths.
_COLUMNS = {"run": 3, "beside": 7, "candidates": 10, "replaced": 8, "said": 11, "told": 6, "median": 7, "quartile": 8}


@dataclass(frozen=True)
class Settings:
    """What all runs have in common."""

    spec: str | None
    phi: str
    threads: int
    minutes: float

    @property
    def network(self) -> list[str]:
        """The words that name it, and how it is compiled."""
        spec = [] if self.spec is None else ["--spec", self.spec]
        return [*spec, "--phi", self.phi, "--threads", str(self.threads)]


@dataclass(frozen=True)
class Row:
    """A run: `said`, `told` (its speedup), `candidates` and `replaced` records as `effgen tune` reported them; median
    and lower quartile of before / after over the rounds, and other work while these were timed; or `same`: the library
    is the one from before, and nothing was timed."""

    run: int
    loaded: bool
    candidates: int
    replaced: int
    said: str
    told: float | None
    median: float
    quartile: float
    other_cpus: float | None
    same: bool = False

    @property
    def line(self) -> str:
        """As it is printed."""
        beside, told = "busy" if self.loaded else "nobody", "" if self.told is None else f"{self.told:.3f}"
        doubt = " ?" if self.other_cpus is not None and self.other_cpus > DISTURBING_CPUS else ""
        ratios = ("same", "") if self.same else (f"{self.median:.3f}", f"{self.quartile:.3f}")
        return _aligned(self.run, beside, self.candidates, self.replaced, self.said, told, *ratios) + doubt


def is_loaded(run: int, runs: int, loaded: int) -> bool:
    """Whether the run of this number is one of those beside a neighbour, which are spread evenly."""
    return run * loaded // runs != (run + 1) * loaded // runs


def tuned(settings: Settings, run: int, loaded: bool, database: Path) -> dict[str, Any]:
    """The report of `effgen tune` into an empty database."""
    report = database.with_suffix(".report")
    words = ["--minutes", str(settings.minutes), "--seed", str(run), "--db", str(database), "--json", str(report)]
    with busy_processes(int(loaded)):
        _effgen("tune", *settings.network, *words)
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def compiled(settings: Settings, database: Path, bundle: Path) -> Path:
    """The network with what is in the database."""
    _effgen("compile", *settings.network, "--db", str(database), "-o", str(bundle), "--force")
    return bundle


def row_of(run: int, loaded: bool, report: dict[str, Any], duel: Duel | None) -> Row:
    """A run that was timed, or did not have to be."""
    return Row(
        run=run,
        loaded=loaded,
        candidates=report["trials"],
        replaced=sum(kernel["replaced"] for kernel in report["kernels"]),
        said=report["said"],
        told=report["speedup"],
        median=1 / duel.ratio if duel else 1.0,
        quartile=1 / duel.quartiles[1] if duel else 1.0,
        other_cpus=duel.other_cpus if duel else None,
        same=duel is None,
    )


def summary(rows: Sequence[Row]) -> list[str]:
    """Least and mean of all, and of those beside nobody and beside a neighbour."""
    groups = {
        "all": list(rows),
        "nobody": [row for row in rows if not row.loaded],
        "busy": [row for row in rows if row.loaded],
    }
    return [
        f"{name:>7}: {len(found)} runs, before / after: least {min(row.median for row in found):.3f}, "
        f"mean {statistics.fmean(row.median for row in found):.3f}"
        for name, found in groups.items()
        if found
    ]


def known(file: Path | None, settings: Settings) -> dict[int, Row]:
    """The runs that the file holds. Raises SystemExit where they are of other settings."""
    rows = {}
    for line in file.read_text().splitlines() if file is not None and file.is_file() else []:
        found = json.loads(line)
        if found.pop("settings") != asdict(settings):
            raise SystemExit(f"{file}: holds runs of other settings; give another --json")
        rows[found["run"]] = Row(**found)
    return rows


def measured(settings: Settings, run: int, loaded: bool, folder: Path) -> Row:
    """One run, from an empty database to times."""
    database = folder / f"{run}.jsonl"
    report = tuned(settings, run, loaded, database)
    after = compiled(settings, database, folder / "after")
    return row_of(run, loaded, report, timed(folder / "before", after, settings.threads))


def timed(before: Path, after: Path, threads: int) -> Duel | None:
    """The two in turn; once more where other work disturbs, which a row says that it did to the last. None where they
    are the same."""
    if all((before / name).read_bytes() == (after / name).read_bytes() for name in _RUN):
        return None
    for _ in range(_ATTEMPTS):
        duel = duel_of_bundles(before, after, threads)
        if not duel.disturbed:
            break
    return duel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--loaded", type=int, default=10, help="so many of the runs beside a busy process")
    parser.add_argument("--minutes", type=float, default=2.5)
    parser.add_argument("--spec")
    parser.add_argument("--phi", default="0")
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--json", type=Path, help="a file of lines, to go on from")
    options = parser.parse_args()
    if not 0 <= options.loaded <= options.runs or options.runs < 1:
        parser.error("expected 1 or more --runs, and no more --loaded ones")
    settings = Settings(options.spec, options.phi, options.threads, options.minutes)
    rows = known(options.json, settings)
    print(_aligned(*_COLUMNS), *(row.line for row in rows.values()), sep="\n", flush=True)
    with temporary_folder("tuning-runs") as folder:
        compiled(settings, folder / "none.jsonl", folder / "before")
        for run in range(options.runs):
            if run in rows:
                continue
            loaded = is_loaded(run, options.runs, options.loaded)
            rows[run] = measured(settings, run, loaded, folder)
            print(rows[run].line, flush=True)
            if options.json is not None:
                with options.json.open("a") as file:
                    file.write(json.dumps({"settings": asdict(settings), **asdict(rows[run])}) + "\n")
    print(*summary(list(rows.values())), sep="\n")
    raise SystemExit(int(not all(row.median >= HARM for row in rows.values())))


def _aligned(*cells: object) -> str:
    return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True))


def _effgen(*words: str) -> None:
    """Raises SystemExit with the command's own last line where it fails."""
    done = subprocess.run([sys.executable, "-m", "effgen", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"effgen {' '.join(words)}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


if __name__ == "__main__":
    try:
        main()
    except EffgenError as error:
        raise SystemExit(f"error: {error}") from None
