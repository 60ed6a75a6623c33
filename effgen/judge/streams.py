"""Images a second of several instances at once, each on its share of the cores, beside other runtimes.

An instance is a process, held to its CPUs, as a server's workers are. Peers run so, too; those that have a form of
their own for throughput (`judge.queues`) run in that as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from effgen.errors import BundleError, EffgenError
from effgen.judge.bench import Backend, UnfitError, installed_version, native_manifest, our_entry, peer_entry
from effgen.judge.messages import Entered, Entry, Flow, Flowed, WarmUp
from effgen.judge.peers import check_peer_names
from effgen.judge.queues import QUEUES
from effgen.judge.race import Contender, run_race, together
from effgen.machines.host import describe_host, watch_other_work
from effgen.machines.load import busy_processes
from effgen.machines.processor import default_threads, shares_of_cores
from effgen.results.provenance import facts_of, origin_of
from effgen.results.reports import DEFAULT_PLAN, OURS, LeftOut, Plan, StreamsReport, StreamsResult
from effgen.runtime.answers import Answer
from effgen.words import OnPhase


@dataclass(frozen=True)
class Team:
    """Processes of one backend, all at it at the same time; `batch` images a call. A racer whose bursts are images a
    second."""

    contenders: Sequence[Contender]
    batch: int

    def warm_up(self) -> float:
        return float(max(together(self.contenders, WarmUp())))

    def burst(self, time_s: float, wake_s: float) -> list[float]:
        return [images_per_second(together(self.contenders, Flow(time_s, wake_s)), self.batch)]


def images_per_second(flows: Sequence[Flowed], batch: int) -> float:
    """Of processes that ran beside each other, each at its own rate."""
    return batch * sum(flow.calls / flow.seconds for flow in flows)


@dataclass(frozen=True)
class _Member:
    """A row, and what its processes are told; `peer`: whose it is, `OURS` or a peer."""

    name: str
    peer: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class _Entered:
    """A row that takes part; `streams`: of its process, where that has a queue."""

    member: _Member
    team: Team
    backend: Backend
    streams: int | None


def bench_streams(
    path: Path,
    streams: int,
    peers: Sequence[str] = (),
    plan: Plan = DEFAULT_PLAN,
    on_phase: OnPhase = lambda phase: None,
) -> StreamsReport:
    """Time `streams` instances of the bundle at `path`, and of each of `peers`, on an equal share of the cores each.

    Raises EffgenError for a number of streams that the cores do not allow and for unknown peers, BundleError where the
    bundle itself cannot be run.
    """
    check_peer_names(peers)
    shares = _shares(streams)
    on_phase("look at the machine")
    host = describe_host()
    manifest = native_manifest(path)
    if not manifest.device_kind.on_cpu:
        raise BundleError(f"{path}: runs on a GPU: --streams shares out the cores of a CPU; leave it out")
    threads = default_threads() // streams
    with ExitStack() as stack:
        entered, left_out = _field(path, manifest.input["shape"][0], peers, shares, threads, stack, on_phase)
        with busy_processes(plan.load), watch_other_work() as other_work:
            race = run_race({each.member.name: each.team for each in entered}, plan, on_phase)
    if OURS in race.lost:
        raise BundleError(f"{path}: {race.lost[OURS]}")
    lost = [LeftOut(name, reason) for name, reason in race.lost.items()]
    ours, there = race.samples[OURS], [each for each in entered if each.member.name in race.samples]
    return StreamsReport(
        origin=origin_of(manifest),
        model=facts_of(manifest, path),
        target=str(manifest.target["name"]),
        streams=streams,
        threads=threads,
        cpus=tuple(shares),
        plan=plan,
        results=tuple(_result(each, race.samples[each.member.name], ours) for each in there),
        left_out=(*left_out, *lost),
        machine=host,
        other_cpus=other_work.cpus,
    )


def _shares(streams: int) -> list[tuple[int, ...]]:
    cores = default_threads()
    if not 1 <= streams <= cores:
        raise EffgenError(
            f"--streams {streams}: expected from 1 to {cores}, the cores of this process within its quota: each stream "
            f"has one of its own at least"
        )
    return shares_of_cores(streams)


def _members(path: Path, peers: Sequence[str], shares: Sequence[tuple[int, ...]], threads: int) -> Iterator[_Member]:
    """A row of each, then those of its queues."""
    for peer in dict.fromkeys(peers):
        yield _Member(peer, peer, tuple(Entry(peer, path, threads, cpus) for cpus in shares))
        for name, form in QUEUES.items():
            if form.peer == peer:
                streams = len(shares) if form.told else None
                yield _Member(name, peer, (Entry(name, path, default_threads(), streams=streams),))


def _field(
    path: Path,
    batch: int,
    peers: Sequence[str],
    shares: Sequence[tuple[int, ...]],
    threads: int,
    stack: ExitStack,
    on_phase: OnPhase,
) -> tuple[list[_Entered], list[LeftOut]]:
    """Who takes part, until `stack` ends, effgen first, and who does not. Raises what `our_entry` does."""
    on_phase("load the bundle")
    (ours,) = _members(path, [OURS], shares, threads)
    contenders = _started(ours, stack)
    answers = [our_entry(path, each.told) for each in contenders]
    entered, left_out = [_entered(ours, contenders, [backend for _, backend in answers], batch)], []
    for member in _members(path, peers, shares, threads):
        on_phase(f"prepare {member.name}")
        with ExitStack() as own:
            try:
                entered.append(_peer_entered(member, batch, answers[0][0], own))
            except UnfitError as error:
                left_out.append(LeftOut(member.name, str(error)))
            else:
                stack.push(own.pop_all())
    return entered, left_out


def _peer_entered(member: _Member, batch: int, answer: Answer, stack: ExitStack) -> _Entered:
    """The processes of a peer, each held against effgen's `answer`. Raises UnfitError."""
    version = installed_version(member.peer)
    contenders = _started(member, stack)
    backends = [peer_entry(member.name, version, each.told, answer) for each in contenders]
    return _entered(member, contenders, backends, batch)


def _started(member: _Member, stack: ExitStack) -> list[Contender]:
    return [stack.enter_context(Contender(entry)) for entry in member.entries]


def _entered(member: _Member, contenders: Sequence[Contender], backends: Sequence[Backend], batch: int) -> _Entered:
    """The row of all its processes: the worst answer, the memory of all."""
    memory = [each.memory for each in backends if each.memory is not None]
    backend = replace(
        backends[0],
        rel_l2=max(each.rel_l2 for each in backends),
        memory=sum(memory) if len(memory) == len(backends) else None,
    )
    (streams,) = {each.told.streams for each in contenders if isinstance(each.told, Entered)}
    return _Entered(member, Team(contenders, batch), backend, streams)


def _result(entered: _Entered, rates: Sequence[float], ours: Sequence[float]) -> StreamsResult:
    """Statistics of images a second, one of each round."""
    entries, backend = entered.member.entries, entered.backend
    median = float(np.median(rates))
    return StreamsResult(
        backend=backend.name,
        version=backend.version,
        processes=len(entries),
        threads=entries[0].threads,
        streams=entered.streams,
        median=median,
        p25=float(np.percentile(rates, 25)),
        best=max(rates),
        ratio=float(np.median(ours)) / median,
        rel_l2=backend.rel_l2,
        memory_bytes=backend.memory,
    )
