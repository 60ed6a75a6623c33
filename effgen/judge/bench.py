"""Latency of a bundle beside other runtimes, so measured that the ratio means something: a race (`judge.race`).

Other work does not hit all of them alike: how much there was is part of the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effgen.errors import BundleError
from effgen.judge.case import is_finite, relative_l2
from effgen.judge.messages import Entered, Entry, Refused
from effgen.judge.peers import DEFAULT_PEERS, PEERS, check_peer_names, peer_version
from effgen.judge.race import Contender, run_race
from effgen.machines.host import describe_host, watch_other_work
from effgen.machines.load import busy_processes
from effgen.machines.processor import default_threads
from effgen.results.provenance import facts_of, origin_of
from effgen.results.reports import DEFAULT_PLAN, OURS, BenchReport, LeftOut, Plan, Result
from effgen.runtime import LoadedModel, Manifest, read_manifest
from effgen.runtime.answers import Answer
from effgen.runtime.cuda import CudaModel
from effgen.runtime.model import load_checked
from effgen.version import __version__
from effgen.words import OnPhase

#: A peer whose logits are further away than this (relative L2) computes something else; its time is not reported.
WRONG_ANSWER = 1e-3
#: Of a network of codes: so many times what its own rounding may do. Peers round other tensors, by their own lights.
_OTHER_ROUNDINGS = 4

_NOT_ON_A_GPU = "runs on the CPU here: compare on the GPU by benchmarks/gpu (docs/cuda.md)"


@dataclass(frozen=True)
class Backend:
    """What was timed. `rel_l2` is how far it is from effgen's answer; `memory` what it took beyond a Python with NumPy,
    bytes."""

    name: str
    version: str
    rel_l2: float = 0.0
    memory: int | None = None


def bench_bundle(
    path: Path,
    peers: Sequence[str] = DEFAULT_PEERS,
    threads: int | None = None,
    plan: Plan = DEFAULT_PLAN,
    on_phase: OnPhase = lambda phase: None,
) -> BenchReport:
    """Time the bundle at `path` and `peers` with `threads` threads each (default: physical cores within the quota).

    A peer that is not installed, cannot run the model, crashes or gives another answer is left out with its reason.
    Raises EffgenError for an unknown peer and BundleError where the bundle itself cannot be run.
    """
    check_peer_names(peers)
    on_phase("look at the machine")
    host = describe_host()
    on_phase("load the bundle")
    manifest = native_manifest(path)
    threads = _threads_to_time(manifest, threads)
    with ExitStack() as stack:
        field = _entered(path, manifest, peers, threads, stack, on_phase)
        with busy_processes(plan.load), watch_other_work() as other_work:
            race = run_race(field.racers, plan, on_phase)
    if OURS in race.lost:
        raise BundleError(f"{path}: {race.lost[OURS]}")
    samples = race.samples
    lost = [LeftOut(name, reason) for name, reason in race.lost.items()]
    ours_ms, batch = float(np.median(samples[OURS])) * 1e3, manifest.input["shape"][0]
    return BenchReport(
        origin=origin_of(manifest),
        model=facts_of(manifest, path),
        target=str(manifest.target["name"]),
        threads=threads,
        plan=plan,
        results=tuple(
            result_from_samples(each, samples[each.name], batch, ours_ms)
            for each in field.backends
            if each.name in samples
        ),
        left_out=(*field.left_out, *lost),
        machine=host,
        other_cpus=other_work.cpus,
    )


def native_manifest(path: Path) -> Manifest:
    """The manifest of a bundle that can be timed here. Raises BundleError for another architecture's: an emulator takes
    other times."""
    manifest = read_manifest(path)
    if manifest.is_foreign:
        raise BundleError(
            f"{path}: compiled for {manifest.target['name']} ({manifest.architecture}): the times of an emulator say "
            f"nothing about it; give --rpc-tracker, or copy the bundle and effgen-run there (docs/native.md)"
        )
    return manifest


def _threads_to_time(manifest: Manifest, threads: int | None) -> int:
    return threads or manifest.device_kind.most_threads or default_threads()


def load_to_time(path: Path, threads: int | None) -> LoadedModel | CudaModel:
    """The bundle at `path` with `threads` threads (None: `default_threads`; a GPU takes one), in this process.

    Raises BundleError where it cannot be loaded or not be timed here.
    """
    manifest = native_manifest(path)
    return load_checked(path, manifest, _threads_to_time(manifest, threads))


@dataclass
class _Field:
    """Who takes part."""

    racers: dict[str, Contender]
    backends: list[Backend]
    left_out: list[LeftOut]


def _entered(
    path: Path, manifest: Manifest, peers: Sequence[str], threads: int, stack: ExitStack, on_phase: OnPhase
) -> _Field:
    """The bundle and its peers, ready to be timed until `stack` ends. Raises what `_our_entry` does."""
    ours = stack.enter_context(Contender(Entry(OURS, path, threads)))
    answer, backend = our_entry(path, ours.told)
    field = _Field({OURS: ours}, [backend], [])
    for name in dict.fromkeys(peers):
        if not manifest.device_kind.on_cpu:
            field.left_out.append(LeftOut(name, _NOT_ON_A_GPU))
            continue
        on_phase(f"prepare {name}")
        outcome = _peer_entry(Entry(name, path, threads), answer, wrong_answer(manifest), stack)
        if isinstance(outcome, LeftOut):
            field.left_out.append(outcome)
        else:
            field.racers[name], found = outcome
            field.backends.append(found)
    return field


def our_entry(path: Path, told: Entered | Refused) -> tuple[Answer, Backend]:
    """What the bundle answered. Raises what loading or running it raised."""
    if isinstance(told, Refused):
        raise told.error or BundleError(f"{path}: {told.reason}")
    if not is_finite(told.answer):
        raise BundleError(f"{path}: the library's output is not finite; see effgen verify")
    return told.answer, Backend(OURS, __version__, memory=told.memory)


def wrong_answer(manifest: Manifest) -> float:
    """The relative L2 from effgen's answer beyond which a peer computes something else."""
    return max(WRONG_ANSWER, _OTHER_ROUNDINGS * manifest.tolerance["rel_l2"])


def _peer_entry(entry: Entry, answer: Answer, wrong: float, stack: ExitStack) -> tuple[Contender, Backend] | LeftOut:
    """The peer, ready to be timed until `stack` ends, or why it gets no time; `answer` is effgen's."""
    name = entry.backend
    with ExitStack() as own:
        try:
            version = installed_version(name)
            contender = own.enter_context(Contender(entry))
            backend = peer_entry(name, version, contender.told, answer, wrong)
        except UnfitError as error:
            return LeftOut(name, str(error))
        stack.push(own.pop_all())
    return contender, backend


class UnfitError(Exception):
    """A peer cannot be timed; the text says why."""


def installed_version(name: str) -> str:
    """A peer's version. Raises UnfitError where it is not installed."""
    installed = peer_version(name)
    if installed is None:
        raise UnfitError(f"not installed: pip install 'effgen[{PEERS[name].extra}]'")
    return installed


def peer_entry(
    name: str, version: str, told: Entered | Refused, answer: Answer, wrong: float = WRONG_ANSWER
) -> Backend:
    """The peer, held against effgen's `answer`. Raises UnfitError."""
    if isinstance(told, Refused):
        raise UnfitError(f"cannot run the model: {told.reason}")
    try:
        distance = relative_l2(told.answer, answer)
    except ValueError:  # of another shape
        distance = float("inf")
    if not distance <= wrong:
        raise UnfitError(f"wrong answer: relative L2 {distance:.1e} from effgen's output")
    return Backend(name, version, distance, told.memory)


def result_from_samples(backend: Backend, seconds: Sequence[float], batch: int, ours_ms: float) -> Result:
    """Statistics of a backend's counted calls, each of `batch` images; `ours_ms` is effgen's median."""
    milliseconds = np.asarray(seconds) * 1e3
    marks = (10, 25, 50, 90, 99)
    low, quarter, median, high, worst = (float(value) for value in np.percentile(milliseconds, marks))
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
        p25_ms=quarter,
        memory_bytes=backend.memory,
    )
