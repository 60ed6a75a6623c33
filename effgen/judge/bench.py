"""Latency of a bundle beside other runtimes, so measured that the ratio means something.

All backends live in one process and are timed in turn, round after round, so that whatever else the machine does hits
all of them. It does not hit them alike, though: how much other work there was is part of the report.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effgen.errors import BundleError
from effgen.judge.case import golden_pair, is_finite, relative_l2
from effgen.judge.peers import DEFAULT_PEERS, PEERS, PeerJob, Run, check_peer_names, peer_version
from effgen.machines.host import describe_host, watch_other_work
from effgen.machines.load import busy_processes
from effgen.machines.processor import default_threads
from effgen.results.provenance import facts_of, origin_of
from effgen.results.reports import DEFAULT_PLAN, OURS, BenchReport, LeftOut, Plan, Result
from effgen.runtime import LoadedModel, read_manifest
from effgen.runtime.answers import Answer
from effgen.runtime.cuda import CudaModel
from effgen.runtime.manifest import MODEL
from effgen.runtime.model import load_checked
from effgen.version import __version__
from effgen.words import OnPhase

#: A peer whose logits are further away than this (relative L2) computes something else; its time is not reported.
WRONG_ANSWER = 1e-3

#: Worker threads of the backend before spin for a moment after its last call: let them go to sleep.
REST_S = 0.03

#: Calls that start within this time of a burst are not counted: caches and threads of the backend wake up.
WAKE_S = 0.03

#: Where one call takes longer than this, waking up is lost in it and no call of a burst is thrown away.
SLOW_CALL_S = 0.5

#: Warm-up ends when the medians of two windows in a row agree to this share, or after the time limit.
_STABLE_SHARE = 0.03
_WINDOW_S = 0.15
_LONGEST_WARM_UP_S = 5.0


@dataclass(frozen=True)
class Backend:
    """Something to time: one call of `run` computes a whole batch. `rel_l2` is how far it is from effgen's answer."""

    name: str
    version: str
    run: Run
    rel_l2: float = 0.0


def bench_bundle(
    path: Path,
    peers: Sequence[str] = DEFAULT_PEERS,
    threads: int | None = None,
    plan: Plan = DEFAULT_PLAN,
    on_phase: OnPhase = lambda phase: None,
) -> BenchReport:
    """Time the bundle at `path` and `peers` with `threads` threads each (default: the CPUs of the affinity mask).

    A peer that is not installed, cannot run the model or gives another answer is left out with its reason. Raises
    EffgenError for an unknown peer and BundleError where the bundle itself cannot be loaded.
    """
    check_peer_names(peers)
    on_phase("look at the machine")
    host = describe_host()
    on_phase("load the bundle")
    model = load_to_time(path, threads)
    job = PeerJob(path / MODEL, golden_pair(path)[0], model.threads)
    answer = model(job.image)
    if not is_finite(answer):
        raise BundleError(f"{path}: the library's output is not finite; see effgen verify")
    outcomes: list[Backend | LeftOut] = [Backend(OURS, __version__, lambda: model(job.image))]
    for name in dict.fromkeys(peers):
        if isinstance(model, CudaModel):
            outcomes.append(LeftOut(name, "runs on the CPU here: compare on the GPU by benchmarks/gpu (docs/cuda.md)"))
            continue
        on_phase(f"prepare {name}")
        outcomes.append(prepare_peer(name, job, answer))
    backends = [outcome for outcome in outcomes if isinstance(outcome, Backend)]
    with busy_processes(plan.load), watch_other_work() as other_work:
        samples = measure(backends, plan, on_phase)
    ours_ms = float(np.median(samples[OURS])) * 1e3
    return BenchReport(
        origin=origin_of(model.manifest),
        model=facts_of(model.manifest, path),
        target=str(model.manifest.target["name"]),
        threads=job.threads,
        plan=plan,
        results=tuple(
            result_from_samples(backend, samples[backend.name], len(job.image), ours_ms) for backend in backends
        ),
        left_out=tuple(outcome for outcome in outcomes if isinstance(outcome, LeftOut)),
        machine=host,
        other_cpus=_beyond(plan.load, other_work.cpus),
    )


def _beyond(load: int, other_cpus: float | None) -> float | None:
    """The other work that was not asked for, at least: the processes that were have less than a CPU each where all
    together have fewer."""
    return None if other_cpus is None else max(0.0, other_cpus - load)


def load_to_time(path: Path, threads: int | None) -> LoadedModel | CudaModel:
    """The bundle at `path` with `threads` threads (None: `default_threads`; a GPU takes one).

    Raises BundleError where it cannot be loaded, and for another architecture's: an emulator takes other times.
    """
    manifest = read_manifest(path)
    if manifest.is_foreign:
        raise BundleError(
            f"{path}: compiled for {manifest.target['name']} ({manifest.architecture}): the times of an emulator say "
            f"nothing about it; give --rpc-tracker, or copy the bundle and effgen-run there (docs/native.md)"
        )
    return load_checked(path, manifest, threads or manifest.device_kind.most_threads or default_threads())


def prepare_peer(name: str, job: PeerJob, answer: Answer) -> Backend | LeftOut:
    """The peer set up and called once, or why it gets no time; `answer` is what effgen's library computed.

    Peers are other people's code: any exception is a reason.
    """
    installed = peer_version(name)
    if installed is None:
        return LeftOut(name, f"not installed: pip install 'effgen[{PEERS[name].extra}]'")
    try:
        run = PEERS[name].prepare(job)
        distance = relative_l2(run(), answer)
    except Exception as error:
        first_line = (str(error).strip() or "no message").splitlines()[0]
        return LeftOut(name, f"cannot run the model: {type(error).__name__}: {first_line}")
    if distance > WRONG_ANSWER:
        return LeftOut(name, f"wrong answer: relative L2 {distance:.1e} from effgen's output")
    return Backend(name, installed, run, distance)


def measure(backends: Sequence[Backend], plan: Plan, on_phase: OnPhase = lambda phase: None) -> dict[str, list[float]]:
    """Seconds of every timed call by backend: warm-up of each, then `plan.rounds` rounds of one burst each.

    The order turns from round to round, so that no backend always follows the same one.
    """
    on_phase("warm up")
    call_s = {backend.name: warm_up(backend.run) for backend in backends}
    on_phase(f"measure {plan.rounds} rounds of {len(backends)} backends")
    samples: dict[str, list[float]] = {backend.name: [] for backend in backends}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(plan.rounds):
            for backend in _rotated(backends, turn):
                time.sleep(REST_S)
                wake_s = 0.0 if call_s[backend.name] > SLOW_CALL_S else WAKE_S
                samples[backend.name] += burst(backend.run, plan.min_time_s / plan.rounds, wake_s)
    finally:
        if collecting:
            gc.enable()
    return samples


def _rotated(backends: Sequence[Backend], turn: int) -> Iterable[Backend]:
    first = turn % len(backends)
    return [*backends[first:], *backends[:first]]


def burst(run: Callable[[], object], time_s: float, wake_s: float) -> list[float]:
    """Seconds of each call until they add up to `time_s` (at least one call), after `wake_s` of uncounted calls."""
    start = time.perf_counter()
    while time.perf_counter() - start < wake_s:
        run()
    samples: list[float] = []
    total = 0.0
    while not samples or total < time_s:
        samples.append(_timed(run))
        total += samples[-1]
    return samples


def warm_up(run: Callable[[], object]) -> float:
    """Call until two windows in a row agree, or for a few seconds; returns the median of the last window, seconds."""
    start, before = time.perf_counter(), float("inf")
    while True:
        now = float(np.median(burst(run, _WINDOW_S, wake_s=0.0)))
        if abs(now - before) <= _STABLE_SHARE * now or time.perf_counter() - start > _LONGEST_WARM_UP_S:
            return now
        before = now


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def result_from_samples(backend: Backend, seconds: Sequence[float], batch: int, ours_ms: float) -> Result:
    """Statistics of a backend's counted calls, each of `batch` images; `ours_ms` is effgen's median."""
    milliseconds = np.asarray(seconds) * 1e3
    low, median, high, worst = (float(value) for value in np.percentile(milliseconds, (10, 50, 90, 99)))
    return Result(
        backend=backend.name,
        version=backend.version,
        calls=len(milliseconds),
        median_ms=median,
        p10_ms=low,
        p90_ms=high,
        min_ms=float(milliseconds.min()),
        mad_ms=float(np.median(np.abs(milliseconds - median))),
        images_per_second=batch / median * 1e3,
        ratio=median / ours_ms,
        rel_l2=backend.rel_l2,
        mean_ms=float(milliseconds.mean()),
        p99_ms=worst,
    )
