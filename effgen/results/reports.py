"""What `effgen bench` finds out, as it is kept: with the machine, versions and date that give a time its meaning.

A file holds one report, told by its `format` and `kind`. Plain data: nothing is measured here.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError, with_config

from effgen.errors import ResultsError
from effgen.files.bounded import MOST_JSON_BYTES, UnreadableError, read_bytes, value_from_json
from effgen.files.strict import STRICT, first_problem
from effgen.machines.host import Host
from effgen.results.ceilings import Ceilings

#: Raised when a reader of the old form could misread a new file.
FORMAT = 1

#: The bundle's own row; the others are named as in `effgen.judge.peers.PEERS`.
OURS = "effgen"

#: Rows of effgen's own kernels, which are no peers: the bundle, and the C library beside it.
OWN = frozenset({OURS, "standalone"})

#: Of what is measured; beyond it, what tables and figures compute of two such numbers is none any more.
_LEAST, _MOST = 1e-12, 1e15
Positive: TypeAlias = Annotated[float, Field(ge=_LEAST, le=_MOST)]
NotNegative: TypeAlias = Annotated[float, Field(ge=0, le=_MOST)]

#: CPUs' worth of other work from which on times are worth a warning: a spinning thread that has to share its CPU
#: costs its pool whole time slices.
DISTURBING_CPUS = 0.2


@dataclass(frozen=True)
class Plan:
    """How long to measure: `min_time_s` seconds of timed calls for each backend, in `rounds` bursts; `load`: beside so
    many processes that keep a CPU busy each."""

    rounds: int = 10
    min_time_s: float = 2.0
    load: NonNegativeInt = 0


DEFAULT_PLAN = Plan()


@dataclass(frozen=True)
class Origin:
    """When, by what and how it was measured.

    `date` is UTC, `2026-11-25T22:45:00Z`; `revision` is the commit of effgen's checkout, `+dirty` where files were
    changed, None outside of one. `versions` are those of this run, `compiled_by` those that made the bundle. `route`
    rpc: on a device elsewhere.
    """

    date: str | None
    revision: str | None
    versions: dict[str, str]
    compiled_by: dict[str, str]
    route: Literal["local", "rpc"] = "local"


@dataclass(frozen=True)
class ModelFacts:
    """The network: for one of a family its name, phi (below 0: shrunk) and law; resolution (height, width); counts for
    one image.

    Bytes are of what is needed to run: code (`lib.so` or a GPU's kernels) and weights; `onnx_bytes` is what the peers
    read. None is unknown, of a family that it has none.
    """

    name: str
    family: str | None
    phi: float | None
    law: str | None
    resolution: tuple[PositiveInt, PositiveInt]
    batch: PositiveInt
    dtype: str
    macs: PositiveInt
    parameters: PositiveInt
    code_bytes: PositiveInt | None
    weights_bytes: PositiveInt | None
    onnx_bytes: PositiveInt | None

    @property
    def bundle_bytes(self) -> int | None:
        """Code and weights."""
        if self.code_bytes is None or self.weights_bytes is None:
            return None
        return self.code_bytes + self.weights_bytes


@dataclass(frozen=True)
class Result:
    """Times of one backend over its timed calls: milliseconds a call of a whole batch.

    `mad_ms` is the median distance from the median. `ratio` is its median over effgen's: above 1 is slower than
    effgen. `rel_l2` is the distance of its logits from effgen's (effgen's own over RPC: from the golden pair).
    `memory_bytes` is the most that loading and calling it took beyond a Python with NumPy. None stands for what was not
    kept.
    """

    backend: str
    version: str | None
    calls: PositiveInt | None
    median_ms: Positive
    p10_ms: Positive | None
    p90_ms: Positive | None
    min_ms: Positive | None
    mad_ms: NotNegative | None
    images_per_second: Positive
    ratio: Positive
    rel_l2: NotNegative | None
    mean_ms: Positive | None = None
    p99_ms: Positive | None = None
    p25_ms: Positive | None = None
    memory_bytes: NonNegativeInt | None = None

    @property
    def spread(self) -> float | None:
        """(p90 - p10) / median: how wide four calls of five are."""
        if self.p10_ms is None or self.p90_ms is None:
            return None
        return (self.p90_ms - self.p10_ms) / self.median_ms


@dataclass(frozen=True)
class LeftOut:
    """A backend without a time, and why."""

    backend: str
    reason: str


@with_config(STRICT)
@dataclass(frozen=True)
class BenchReport:
    """Results in the order asked for, effgen's first; what could not be measured; and where it was measured.

    `plan` None: not kept. `other_cpus` is how many CPUs' worth of work other processes did meanwhile, but those that
    were asked for, None where nobody can tell.
    """

    origin: Origin
    model: ModelFacts
    target: str
    threads: PositiveInt
    plan: Plan | None
    results: tuple[Result, ...]
    left_out: tuple[LeftOut, ...]
    machine: Host
    other_cpus: NotNegative | None

    @property
    def disturbed(self) -> bool:
        """Whether other work, beyond what was asked for, was enough to doubt the times."""
        return is_disturbing(self.other_cpus)

    @property
    def load(self) -> int:
        """Busy processes that were asked for."""
        return 0 if self.plan is None else self.plan.load


@dataclass(frozen=True)
class Rates:
    """What `seconds` of work come to. All None where the work is not counted.

    `intensity` is flop a byte; `peak_share` and `roofline_share` are parts of 1: of the multiply-add peak, and of what
    peak and bandwidth allow together (above 1 where data comes from a nearer cache than the whole network's does).
    """

    gflops: float | None
    gbytes_per_s: float | None
    intensity: float | None
    peak_share: float | None
    roofline_share: float | None


@dataclass(frozen=True)
class LayerTime:
    """A kernel with all its calls: microseconds of one, milliseconds of all, their share of the network's latency."""

    name: str
    family: str
    source: str
    calls: PositiveInt
    call_us: NotNegative
    total_ms: NotNegative
    share: NotNegative
    macs: NonNegativeInt | None
    bytes: NonNegativeInt | None
    rates: Rates


@dataclass(frozen=True)
class FamilyTotal:
    """All kernels of a family. Rates are over the counted work."""

    family: str
    kernels: PositiveInt
    calls: PositiveInt
    total_ms: NotNegative
    share: NotNegative
    rates: Rates


@with_config(STRICT)
@dataclass(frozen=True)
class LayersReport:
    """Kernels in the order of their first call, and what is left.

    `latency_ms` is of undisturbed calls, between which the ones with clocks were measured; `outside_ms` is what the
    kernels do not account for: the call itself, the copy of the output. `clock_us` is what a clock adds to each
    call's time. `peak_share` is of the network's own multiply-adds.
    """

    origin: Origin
    model: ModelFacts
    target: str
    threads: PositiveInt
    plan: Plan
    latency_ms: Positive
    kernels_ms: NotNegative
    outside_ms: Annotated[float, Field(ge=-_MOST, le=_MOST)]
    gflops: Positive
    peak_share: Positive
    clock_us: NotNegative
    layers: tuple[LayerTime, ...]
    families: tuple[FamilyTotal, ...]
    ceilings: Ceilings
    machine: Host
    other_cpus: NotNegative | None

    @property
    def disturbed(self) -> bool:
        """Whether other work was enough to doubt the times."""
        return is_disturbing(self.other_cpus)


@dataclass(frozen=True)
class StreamsResult:
    """Images a second of one backend, of each burst: all its streams together.

    `processes` of `threads` each, and, where one process has several calls under way, its `streams`. `ratio` is
    effgen's median over the backend's: above 1 is slower than effgen. `memory_bytes` and `rel_l2` as of a `Result`, the
    sum of all processes and the worst one's.
    """

    backend: str
    version: str
    processes: PositiveInt
    threads: PositiveInt
    streams: PositiveInt | None
    median: Positive
    p25: Positive
    best: Positive
    ratio: Positive
    rel_l2: NotNegative
    memory_bytes: NonNegativeInt | None


@with_config(STRICT)
@dataclass(frozen=True)
class StreamsReport:
    """Results of `streams` instances at once, on `cpus` each, effgen's first; the rest as in a `BenchReport`."""

    origin: Origin
    model: ModelFacts
    target: str
    streams: PositiveInt
    threads: PositiveInt
    cpus: tuple[tuple[NonNegativeInt, ...], ...]
    plan: Plan
    results: tuple[StreamsResult, ...]
    left_out: tuple[LeftOut, ...]
    machine: Host
    other_cpus: NotNegative | None

    @property
    def disturbed(self) -> bool:
        """Whether other work, beyond what was asked for, was enough to doubt the numbers."""
        return is_disturbing(self.other_cpus)


#: What a comparison is of; `AnyReport` is what a file may hold.
Report = BenchReport | LayersReport
AnyReport = Report | StreamsReport

_KINDS: dict[str, type[BenchReport] | type[LayersReport] | type[StreamsReport]] = {
    "bench": BenchReport,
    "layers": LayersReport,
    "streams": StreamsReport,
}


def is_disturbing(other_cpus: float | None) -> bool:
    """Whether so many CPUs' worth of other work is enough to doubt times; None is unknown, and no reason to."""
    return other_cpus is not None and other_cpus > DISTURBING_CPUS


def json_from_report(report: AnyReport) -> dict[str, Any]:
    """What a file holds: `format`, `kind`, then keys as the fields of the report."""
    kind = next(name for name, form in _KINDS.items() if type(report) is form)
    return {"format": FORMAT, "kind": kind, **asdict(report)}


def read_report(path: Path) -> AnyReport:
    """The report in a file that `effgen bench --json` wrote.

    Raises ResultsError: no such file, no JSON, something else, of a newer effgen, or with a value that cannot be.
    """
    head = _json_in(path)
    if not isinstance(head, dict) or head.keys().isdisjoint({"format", "kind"}):
        raise ResultsError(f"{path}: no results of effgen bench (no format, no kind); make some with --json FILE")
    found, kind = head.pop("format", None), head.pop("kind", None)
    if type(found) is int and found > FORMAT:
        raise ResultsError(f"{path}: format = {found}: written by a newer effgen, this one reads {FORMAT}; update it")
    if type(found) is not int or found != FORMAT:
        raise ResultsError(f"{path}: format = {found!r}: expected {FORMAT}; measure again")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ResultsError(f"{path}: kind = {kind!r}: expected {', '.join(_KINDS)}, as effgen bench --json writes")
    head.pop("effgen", None)
    try:
        report: AnyReport = TypeAdapter(_KINDS[kind]).validate_json(json.dumps(head))
    except ValidationError as error:
        raise ResultsError(f"{path}: {first_problem(error)}") from None
    _check_rows(report, path)
    return report


def _json_in(path: Path) -> Any:
    try:
        text = read_bytes(path, MOST_JSON_BYTES)
    except UnreadableError as error:
        raise ResultsError(f"{path}: {error}; expected what effgen bench --json wrote") from None
    try:
        return value_from_json(text)
    except UnreadableError as error:
        raise ResultsError(f"{path}: no JSON, or cut short: {error}; measure again") from None


def _check_rows(report: AnyReport, path: Path) -> None:
    if isinstance(report, LayersReport):
        return
    names = [result.backend for result in report.results]
    if names[:1] != [OURS]:
        raise ResultsError(f"{path}: results[0] = {names[:1]}: expected {OURS}, which the others are compared with")
    if len(set(names)) < len(names):
        raise ResultsError(f"{path}: results: a backend is there twice; expected each once")
