"""Latencies of several networks beside peers, as stored by benchmarks/compare_peers.py, and the gate against them.

The gate compares ratios, effgen's latency over the best peer's, and not milliseconds: a slow moment of a machine, or a
slower machine, hits both. Plain data and arithmetic; nothing is measured here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError

from effgen.bench import OURS
from effgen.errors import EffgenError, RegressionError

#: Raised when a reader of the old form could misread a new file.
FORMAT_VERSION = 1

_PLAIN = ConfigDict(frozen=True, allow_inf_nan=False)


class Measured(BaseModel):
    """One network: median milliseconds a call by backend, effgen's among them; why others have none; its size.

    `macs` and `parameters` are of one image. `other_cpus` is other processes' work meanwhile, in CPUs.
    """

    model_config = _PLAIN

    phi: str
    batch: PositiveInt
    threads: PositiveInt
    resolution: PositiveInt
    parameters: PositiveInt
    macs: PositiveInt
    medians_ms: dict[str, PositiveFloat | None]
    left_out: dict[str, str] = {}
    other_cpus: float | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """What makes two measurements comparable."""
        return (self.phi, self.batch, self.threads)

    @property
    def title(self) -> str:
        """For messages."""
        return f"phi={self.phi} batch {self.batch} threads {self.threads}"

    @property
    def ours_ms(self) -> float:
        """effgen's median; NaN where there is none."""
        return _number(self.medians_ms.get(OURS))

    @property
    def peers_ms(self) -> dict[str, float]:
        """Medians of the peers that have one."""
        return {name: _number(time) for name, time in self.medians_ms.items() if name != OURS and time is not None}


class Comparison(BaseModel):
    """What was measured together. `machine` is `machine.Host` as JSON; `peak_gflops` is of the threads used."""

    model_config = _PLAIN

    format_version: int = FORMAT_VERSION
    machine: dict[str, Any]
    peak_gflops: PositiveFloat
    networks: list[Measured]


def _number(time: float | None) -> float:
    return math.nan if time is None else time


def best_peer(network: Measured, among: Collection[str] | None = None) -> tuple[str, float] | None:
    """The fastest peer and its milliseconds, out of `among` where given; None where none was measured."""
    times = {name: time for name, time in network.peers_ms.items() if among is None or name in among}
    return min(times.items(), key=lambda item: item[1]) if times else None


def speedup(network: Measured, among: Collection[str] | None = None) -> float:
    """The best peer's latency over effgen's, above 1 where effgen is faster; NaN where either is missing."""
    best = best_peer(network, among)
    return best[1] / network.ours_ms if best else math.nan


def peak_share(network: Measured, backend: str, peak_gflops: float) -> float:
    """The part of the multiply-add peak that a backend reaches: 2 * MACs / latency / peak. NaN where it has no time."""
    seconds = _number(network.medians_ms.get(backend)) / 1e3
    return 2 * network.macs * network.batch / seconds / (peak_gflops * 1e9)


def check_comparable(
    wanted: Sequence[tuple[str, int, int]], peers: Collection[str], baseline: Sequence[Measured]
) -> None:
    """Raise EffgenError, before anything is measured, where `baseline` could not judge it.

    `wanted` are keys as `Measured.key`; `peers` are those that will be measured.
    """
    known = {network.key: network for network in baseline}
    for key in wanted:
        if key not in known:
            phi, batch, threads = key
            have = "; ".join(network.title for network in baseline) or "nothing"
            raise EffgenError(
                f"--baseline: no phi={phi} batch {batch} threads {threads} in it (it has {have}); "
                f"measure one of those, or store a new baseline"
            )
        missing = sorted(known[key].peers_ms.keys() - set(peers))
        if missing:
            raise EffgenError(f"--peers: the baseline has {', '.join(missing)} too; measure the same ones")


def check_gate(now: Sequence[Measured], baseline: Sequence[Measured], max_ratio: float) -> list[str]:
    """A line for each network: its ratio of latencies (effgen / best peer) now and in the baseline.

    The best peer is the best of those that the baseline has: a peer that was added since is no regression. Raises
    EffgenError where the two cannot be compared, RegressionError where a ratio is above `max_ratio` times the
    baseline's or is no number.
    """
    for network in now:
        check_comparable([network.key], {*network.peers_ms, *network.left_out}, baseline)
    known = {network.key: network for network in baseline}
    lines, worse = [], []
    for network in now:
        line, passed = _judged(network, known[network.key], max_ratio)
        lines.append(line)
        if not passed:
            worse.append(line)
    if worse:
        raise RegressionError(f"slower than --max-ratio {max_ratio:g} times the baseline allows: {'; '.join(worse)}")
    return lines


def _judged(now: Measured, before: Measured, max_ratio: float) -> tuple[str, bool]:
    missing = sorted(before.peers_ms.keys() - now.peers_ms.keys())
    if missing:
        reasons = ", ".join(f"{name} ({now.left_out.get(name, 'no time')})" for name in missing)
        raise EffgenError(f"{now.title}: peers of the baseline without a time now: {reasons}; measure the same ones")
    ratio, allowed = (1 / speedup(network, before.peers_ms) for network in (now, before))
    line = f"{now.title}: effgen / best peer {ratio:.3f}, baseline {allowed:.3f}"
    return line, passes_gate(ratio, allowed, max_ratio)


def passes_gate(ratio: float, baseline: float, max_ratio: float) -> bool:
    """Whether `ratio` is at most `max_ratio` times `baseline`. What is not finite never passes."""
    finite = math.isfinite(ratio) and math.isfinite(baseline) and math.isfinite(max_ratio)
    return finite and ratio <= baseline * max_ratio


def read_comparison(path: Path, option: str) -> Comparison:
    """What benchmarks/compare_peers.py wrote. Raises EffgenError, naming `option`, where it is something else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EffgenError(f"{option} {path}: {error.strerror}; expected the JSON of compare_peers.py --out") from None
    except ValueError as error:
        raise EffgenError(f"{option} {path}: not JSON: {error}") from None
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise EffgenError(f"{option} {path}: format_version = {version}: expected {FORMAT_VERSION}; measure again")
    try:
        return Comparison.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise EffgenError(f"{option} {path}: {where}: {first['msg']}; measure again") from None


def growth(networks: Sequence[Measured], backend: str = OURS) -> list[tuple[float, float]]:
    """(MACs, latency) of the networks in which `backend` has a time, both relative to the first network's.

    Empty where the backend has no time in the first one.
    """
    first = networks[0]
    base = first.medians_ms.get(backend)
    if base is None:
        return []
    times = [(network.macs * network.batch, network.medians_ms.get(backend)) for network in networks]
    return [(macs / (first.macs * first.batch), time / base) for macs, time in times if time is not None]


def worst_growth(points: Sequence[tuple[float, float]]) -> float:
    """The largest factor by which latency has grown more than multiply-adds; at most 1 where it never has."""
    return max(latency / macs for macs, latency in points)
