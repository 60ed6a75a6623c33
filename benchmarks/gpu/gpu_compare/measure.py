"""Rounds of bursts: all backends of a configuration take turns in one process, so that what disturbs one hits all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpu_compare.backends import OURS, PRECISIONS, Backend

#: Runs of a burst that are not counted: caches and clocks wake up.
_SETTLE = 2
_FEWEST, _MOST = 3, 200

#: What the fastest peer's time over effgen's shall be, by batch: latency at 1, throughput above.
GOALS: Mapping[bool, float] = {True: 1.3, False: 1.0}


@dataclass(frozen=True)
class Timing:
    """How long to measure: `seconds` of timed runs for each backend and clock, in `rounds` bursts."""

    rounds: int = 10
    seconds: float = 1.0


@dataclass(frozen=True)
class Samples:
    """Milliseconds of a backend's counted runs by the device's clock and by the host's, copies included."""

    device: list[float]
    host: list[float]


def measure(backends: Sequence[Backend], timing: Timing) -> list[Samples]:
    """Samples of each backend, in their order. The order of turns changes from round to round."""
    samples = [Samples([], []) for _ in backends]
    counts = [_runs_of_a_burst(backend, timing) for backend in backends]
    for turn in range(timing.rounds):
        for place in range(len(backends)):
            index = (turn + place) % len(backends)
            backend, (on_device, on_host) = backends[index], counts[index]
            backend.prepare()
            samples[index].device.extend(backend.device_ms(on_device + _SETTLE)[_SETTLE:])
            samples[index].host.extend(backend.host_ms(on_host + _SETTLE)[_SETTLE:])
    return samples


def _runs_of_a_burst(backend: Backend, timing: Timing) -> tuple[int, int]:
    """How many runs by each clock; runs it for a while, as a warm-up."""
    burst_ms = timing.seconds * 1e3 / timing.rounds
    backend.prepare()
    return tuple(  # type: ignore[return-value]
        int(np.clip(round(burst_ms / max(float(np.median(clock(10))), 1e-3)), _FEWEST, _MOST))
        for clock in (backend.device_ms, backend.host_ms)
    )


def summary(milliseconds: Sequence[float]) -> dict[str, float]:
    """Median, p10 and p90 in milliseconds, and the number of runs."""
    low, median, high = (round(float(value), 5) for value in np.percentile(milliseconds, (10, 50, 90)))
    return {"median": median, "p10": low, "p90": high, "runs": len(milliseconds)}


def timed(backend: Backend, samples: Samples, batch: int) -> dict[str, Any]:
    """A backend's entry of the results."""
    device = summary(samples.device)
    return {
        "backend": backend.name,
        "precision": backend.precision,
        "rel_l2": backend.rel_l2,
        "device_ms": device,
        "host_ms": summary(samples.host),
        "images_per_second": round(batch / device["median"] * 1e3, 1) if device["median"] else None,
    }


def comparisons(entries: Sequence[Mapping[str, Any]], dtype: str, batch: int) -> list[dict[str, Any]]:
    """For each precision of the peers: the fastest, its median on the device over effgen's, whether the goal is met.

    A precision without peers that could be timed is left out.
    """
    ours = next(entry for entry in entries if entry["backend"] == OURS)["device_ms"]["median"]
    goal, found = GOALS[batch == 1], []
    for precision in PRECISIONS[dtype]:
        peers = [entry for entry in entries if entry["backend"] != OURS and entry["precision"] == precision]
        if not peers or not ours:
            continue
        best = min(peers, key=lambda entry: entry["device_ms"]["median"])
        ratio = best["device_ms"]["median"] / ours
        found.append(
            {
                "precision": precision,
                "best_peer": best["backend"],
                "ratio": round(ratio, 3),
                "goal": goal,
                "met": ratio >= goal,
            }
        )
    return found
