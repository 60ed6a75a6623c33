"""Two sets of results: which cases have become slower, and the gate.

effgen's latency is set beside the best peer's of the same run, where both sets have one: a slow moment of the machine
hits both. Peers are the yardstick; they are not judged themselves, and one whose version changed measures nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from effgen.errors import RegressionError, ResultsError
from effgen.results.reports import OURS, OWN, BenchReport
from effgen.results.rows import Setting, setting_of
from effgen.results.sources import BenchSource


@dataclass(frozen=True)
class BenchCase:
    """What two sets have to share to be compared."""

    model: str
    setting: Setting

    @property
    def title(self) -> str:
        """For tables and messages."""
        return f"{self.model}, {self.setting.title}"


@dataclass(frozen=True)
class Change:
    """A case in both sets: effgen's median, and what is judged: over the best of the `peers` that both sets have in
    one version, or where there is none (empty) the median itself. Several runs of a set count as their median.
    """

    case: BenchCase
    before_ms: float
    now_ms: float
    peers: tuple[str, ...]
    before: float
    now: float
    note: str

    @property
    def change(self) -> float:
        """How much slower, as a part of 1; below 0 is faster."""
        return self.now / self.before - 1

    @property
    def change_ms(self) -> float:
        """How much slower in milliseconds, as a part of 1, whatever is judged."""
        return self.now_ms / self.before_ms - 1


@dataclass(frozen=True)
class Regressions:
    """Changes, the worst first, and the cases of one set only."""

    changes: tuple[Change, ...]
    only_now: tuple[BenchCase, ...]
    only_before: tuple[BenchCase, ...]


def regressions_of(now: Sequence[BenchSource], before: Sequence[BenchSource]) -> Regressions:
    """Every case that is in either set."""
    new, old = _by_case(now), _by_case(before)
    changes = [_change(case, new[case], old[case]) for case in new if case in old]
    return Regressions(
        changes=tuple(sorted(changes, key=lambda change: -change.change)),
        only_now=tuple(case for case in new if case not in old),
        only_before=tuple(case for case in old if case not in new),
    )


def check_gate(regressions: Regressions, percent: float, allow_missing: bool = False) -> None:
    """Raise RegressionError, naming the worst, where a case is more than `percent` slower than before, or where the
    baseline has a case that was not measured again: that is no pass, unless `allow_missing`.

    Raises ResultsError where no case is in both sets: nothing was judged.
    """
    if not regressions.changes:
        raise ResultsError(
            f"--gate {percent:g}: no case of --baseline was measured again (same model, machine, target, threads, "
            f"batch, dtype, load); measure those, or give another baseline"
        )
    failed = [change for change in regressions.changes if not passes(change, percent)]
    if failed:
        worst = max(failed, key=lambda change: change.change)
        raise RegressionError(
            f"{len(failed)} of {len(regressions.changes)} cases more than {percent:g}% slower than --baseline; "
            f"worst: {worst.case.title}: {judged_text(worst)}: {worst.change:+.1%}"
        )
    if regressions.only_before and not allow_missing:
        gone = len(regressions.only_before)
        raise RegressionError(
            f"{gone} of {gone + len(regressions.changes)} cases of --baseline not measured again; first: "
            f"{regressions.only_before[0].title}; measure what is missing, or add --allow-missing"
        )


def passes(change: Change, percent: float) -> bool:
    """Whether the case is at most `percent` slower. What is not finite never passes."""
    return math.isfinite(change.change) and math.isfinite(percent) and change.change <= percent / 100


def judged_text(change: Change) -> str:
    """Both sides of a change, in words."""
    if change.peers:
        return f"effgen / best peer {change.now:.3f}, was {change.before:.3f}"
    return f"effgen {change.now:.3f} ms, was {change.before:.3f} ms"


def _by_case(sources: Sequence[BenchSource]) -> dict[BenchCase, list[BenchReport]]:
    cases: dict[BenchCase, list[BenchReport]] = {}
    for source in sources:
        cases.setdefault(BenchCase(source.report.model.name, setting_of(source.report)), []).append(source.report)
    return cases


def _change(case: BenchCase, now: Sequence[BenchReport], before: Sequence[BenchReport]) -> Change:
    both = _peers(now) & _peers(before)
    changed = {peer: words for peer in sorted(both) if (words := _version_change(peer, now, before))}
    peers = both - changed.keys()
    before_ms, now_ms = (median(_ours(report) for report in reports) for reports in (before, now))
    change = Change(
        case=case,
        before_ms=before_ms,
        now_ms=now_ms,
        peers=tuple(sorted(peers)),
        before=_judged(before, peers),
        now=_judged(now, peers),
        note="",
    )
    return replace(change, note="; ".join(_notes(change, changed, now, before)))


def _notes(
    change: Change, changed: Mapping[str, str], now: Sequence[BenchReport], before: Sequence[BenchReport]
) -> Iterator[str]:
    """What a reader has to know before he trusts the change; `changed`: peers that became others, in words."""
    if changed:
        yield f"{', '.join(changed.values())}: no yardstick"
    if not change.peers:
        which = "peer of one version" if changed else "peer"
        yield f"no {which} in both: milliseconds, which a busy machine inflates"
    elif changed:
        yield f"in milliseconds {change.change_ms:+.1%}"
    unknown = [peer for peer in change.peers if not (_versions(peer, now) and _versions(peer, before))]
    if unknown:
        yield f"version not kept in both: {', '.join(unknown)}"
    missing = sorted(_peers(before) - _peers(now))
    if missing and change.peers:
        yield f"without {', '.join(missing)}, which the baseline has"
    sides = {"now": now, "the baseline": before}
    disturbed = [side for side, reports in sides.items() if any(report.disturbed for report in reports)]
    if disturbed:
        yield f"disturbed by other processes: {' and '.join(disturbed)}"


def _version_change(peer: str, now: Sequence[BenchReport], before: Sequence[BenchReport]) -> str:
    """`onnxruntime 1.32.0, was 1.30.0`; empty where all that is known of both sets is one version."""
    new, old = _versions(peer, now), _versions(peer, before)
    if len({*new, *old}) < 2:
        return ""
    return f"{peer} {'/'.join(new) or 'unknown'}, was {'/'.join(old) or 'unknown'}"


def _versions(peer: str, reports: Sequence[BenchReport]) -> list[str]:
    found = (result.version for report in reports for result in report.results if result.backend == peer)
    return sorted({version for version in found if version is not None})


def _judged(reports: Sequence[BenchReport], peers: frozenset[str]) -> float:
    """effgen's median over that of the best of `peers`; milliseconds where there are none."""
    return median(_ours(report) / (_best(report, peers) if peers else 1.0) for report in reports)


def _peers(reports: Sequence[BenchReport]) -> frozenset[str]:
    """Those that every report has a time for."""
    return frozenset.intersection(*(frozenset(_medians(report)) - OWN for report in reports))


def _ours(report: BenchReport) -> float:
    return _medians(report)[OURS]


def _best(report: BenchReport, peers: frozenset[str]) -> float:
    return min(time for name, time in _medians(report).items() if name in peers)


def _medians(report: BenchReport) -> dict[str, float]:
    return {result.backend: result.median_ms for result in report.results}
