"""effgen's search beside TVM's MetaSchedule, at equal minutes: `python benchmarks/engines.py --phi 0 --minutes 20`.

Tunes a network's kernels with each engine into a database of its own, from nothing; then has what each found meet the
rule's default schedule once more, in turn and at length: of many candidates one wins by luck. Prints, for each kernel,
microseconds of a call by the default, by the record that ships, by the best of effgen's search and by the best of
MetaSchedule's traces (also where that is worse than all others), and the sums over all calls of an inference. Needs a
quiet machine: what else worked meanwhile is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from effgen.kernels.workload import Workload
from effgen.machines.host import describe_host, watch_other_work
from effgen.machines.machine import Cpu
from effgen.measure.measurer import Measurer
from effgen.measure.protocol import Setup
from effgen.network import NetworkRequest
from effgen.network.model import resolve
from effgen.records.database import RecordFile
from effgen.records.lookup import find_decisions, record_sources
from effgen.records.record import Record, decision_key
from effgen.tuning.request import TuneRequest, calls_of_network, machine_to_measure
from effgen.tuning.session import tune_network
from effgen.tuning.tuner import Limits
from effgen.words import Engine

Decisions = Mapping[str, int]

#: What a contender is called that is no engine.
SHIPPED = "shipped"
ENGINES: tuple[Engine, ...] = get_args(Engine)


@dataclass(frozen=True)
class Row:
    """One kernel: microseconds of a call by its default, and of each contender the share of the default's time
    (missing: it has none, or it failed), with the candidates that each engine measured."""

    kernel: str
    calls: int
    default_us: float
    ratios: Mapping[str, float]
    measured: Mapping[str, int]

    def us(self, contender: str) -> float:
        """A call; the default's where the contender has no schedule of its own."""
        return self.default_us * self.ratios.get(contender, 1.0)


def best_of(records: Iterable[Record], kernel: str, engine: Engine) -> tuple[Decisions | None, int]:
    """The fastest right candidate of the engine's own for a kernel, and how many it measured."""
    own = [
        record
        for record in records
        if record.kernel == kernel and ("metaschedule" in record.decisions) == (engine == "metaschedule")
    ]
    right = [record for record in own if record.status == "ok"]
    best = min(right, key=lambda record: record.time_s, default=None)
    return None if best is None else best.decisions, len({decision_key(record.decisions) for record in own})


def duel(
    measurer: Measurer, workload: Workload, default: Decisions, contenders: Mapping[str, Decisions]
) -> tuple[float, dict[str, float]]:
    """Microseconds of a call by the default, and the share of its time that each contender takes; all at length."""
    alone = measurer.measure(workload, default)
    assert alone.timing is not None, f"{workload.name}: {alone.error}"
    seconds, ratios = [alone.timing.seconds], dict[str, float]()
    for name, decisions in contenders.items():
        timing = measurer.measure(workload, decisions, default, alone.timing.seconds, thorough=True).timing
        if timing is not None and timing.incumbent_seconds is not None:
            seconds.append(timing.incumbent_seconds)
            ratios[name] = timing.ratio
    return statistics.median(seconds) * 1e6, ratios


def text_of(rows: Sequence[Row]) -> str:
    """The table; last the sums over all calls: of each column, and with the best of each kernel."""
    contenders = (SHIPPED, *ENGINES)
    lines = [f"{'kernel':<72} calls   rule us " + "".join(f"{name:>22}" for name in contenders) + "    tried"]
    for row in sorted(rows, key=lambda row: -row.calls * row.default_us):
        cells = [
            f"{row.us(name):>14.1f} {row.ratios[name]:>6.3f}x" if name in row.ratios else f"{'-':>22}"
            for name in contenders
        ]
        tried = " ".join(str(row.measured.get(engine, 0)) for engine in ENGINES)
        lines.append(f"{row.kernel:<72} {row.calls:>5} {row.default_us:>9.1f} {' '.join(cells)}    {tried}")
    default = sum(row.calls * row.default_us for row in rows)
    sums = [sum(row.calls * row.us(name) for row in rows) for name in contenders]
    best = sum(row.calls * min(row.default_us, *(row.us(name) for name in contenders)) for row in rows)
    lines.append(
        f"{'all calls':<72} {sum(row.calls for row in rows):>5} {default:>9.1f} "
        + " ".join(f"{value:>14.1f} {value / default:>6.3f}x" for value in sums)
    )
    shares = ({"rule": 1.0, **row.ratios} for row in rows)
    wins = Counter(min(share, key=share.__getitem__) for share in shares)
    lines.append(f"best of each kernel: {best:.1f} us, {best / default:.3f}x; fastest: {dict(wins)}")
    return "\n".join(lines)


def tuned(request: TuneRequest, engine: Engine, minutes: float, database: Path) -> tuple[Record, ...]:
    """All that an engine measured in so many minutes, from nothing."""
    limits = Limits(seconds=minutes * 60)
    run = TuneRequest(request.network, request.target, limits, request.threads, database, engine=engine)
    report = tune_network(run, lambda phase: print(f"{engine}: {phase}", flush=True))
    print(f"{engine}: {report.trials} candidates, {dict(report.outcomes)}; other work: {report.other_cpus} CPUs")
    for kernel, reason in report.engine.failures.items():
        print(f"{engine}: {kernel}: {reason}")
    return RecordFile(database).load().records


def compared(request: TuneRequest, found: Mapping[Engine, Sequence[Record]], machine: Cpu, empty: Path) -> list[Row]:
    """Every kernel's contenders beside its default."""
    from effgen.schedules import space_of  # loads TVM

    shipped = [source for source in record_sources(machine, empty) if not source.own]
    rows = []
    with Measurer(Setup(machine)) as measurer:
        for workload, calls in calls_of_network(resolve(request.network)).items():
            space = space_of(workload, machine)
            assert space is not None, workload
            best = {engine: best_of(records, workload.name, engine) for engine, records in found.items()}
            contenders: dict[str, Decisions] = {
                engine: decisions for engine, (decisions, _) in best.items() if decisions is not None
            }
            known = find_decisions(workload, machine, space, shipped)
            contenders |= {} if known is None else {SHIPPED: known}
            default_us, ratios = duel(measurer, workload, space.default, contenders)
            rows.append(
                Row(workload.name, calls, default_us, ratios, {name: count for name, (_, count) in best.items()})
            )
            print(f"compared {workload.name}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spec", default="efficientnet")
    parser.add_argument("--phi", default="0")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--minutes", type=float, default=20, help="for each engine")
    parser.add_argument("--keep", type=Path, help="a folder for the databases: what is in them is not done again")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    request = TuneRequest(NetworkRequest(options.spec, options.phi), options.target, threads=options.threads)
    with tempfile.TemporaryDirectory(prefix="effgen-engines-") as temporary, watch_other_work() as other:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found: dict[Engine, Sequence[Record]] = {}
        for engine in ENGINES:
            found[engine] = tuned(request, engine, options.minutes, folder / f"{engine}.jsonl")
        machine = machine_to_measure(request, "local")
        rows = compared(request, found, machine, Path(temporary) / "none")
    print(f"{describe_host().cpu}, {machine.threads} threads, {options.minutes:g} minutes for each engine; ", end="")
    print(f"other work: {other.cpus} CPUs\n{text_of(rows)}")
    if options.json:
        facts = {"machine": asdict(describe_host()), "threads": machine.threads, "minutes": options.minutes}
        options.json.write_text(json.dumps(facts | {"rows": [asdict(row) for row in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
