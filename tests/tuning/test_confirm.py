"""What replaces a record: nothing but what made the network faster, in an arena whose times are given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from effgen.judge.duel import Duel
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.workload import Workload
from effgen.machines.target import load_target
from effgen.measure.carried.timing import Timing
from effgen.measure.protocol import Outcome
from effgen.records.database import RecordFile
from effgen.records.lookup import RecordSource, find_record, record_sources
from effgen.records.record import Record
from effgen.schedules.space import Decisions, Space
from effgen.tuning.confirm import Verdict, confirm, waiting_of
from effgen.tuning.ledger import Ledger
from effgen.tuning.search import KernelSearch
from effgen.tuning.session import Clock
from effgen.tuning.tuner import Limits

MACHINE = replace(load_target("x86-64-v3"), cores=1)
A, B, C, D = (ChannelScale(1, 2, 2, 16 * number) for number in range(1, 5))
KERNELS = (A, B, C, D)

TODAY, BETTER, OTHER = {"x": 0}, {"x": 1}, {"x": 2}


def space() -> Space:
    def build(decisions: Decisions) -> None:
        raise AssertionError("nothing is built")

    return Space("toy", {"x": (0, 1, 2)}, TODAY, build)


def ratio_of(ratio: float, other_cpus: float = 0.0) -> Duel:
    """Every round's ratio."""
    return Duel(((1e-3,) * 8,) * 5, ((1e-3 * ratio,) * 8,) * 5, other_cpus)


@dataclass
class FakeArena:
    """`ratios` of kernels inside the network; a network's is `whole` of the kernels that are new in it."""

    ratios: Mapping[Workload, float]
    whole_of: Callable[[frozenset[str]], float]
    other_cpus: Sequence[float] = (0.0, 0.0, 0.0, 0.0)
    another_s: float = 10.0
    networks: list[frozenset[str]] = field(default_factory=list)
    olds: list[list[Record]] = field(default_factory=list)

    def kernels(self, old: Sequence[Record], new: Sequence[Record]) -> Mapping[str, Duel]:
        self.olds.append(list(old))
        return {kernel.name: ratio_of(self.ratios.get(kernel, 1.0), self.other_cpus[0]) for kernel in KERNELS}

    def whole(self, old: Sequence[Record], new: Sequence[Record]) -> Duel:
        assert all(record.chosen for record in new)
        self.networks.append(frozenset(record.kernel for record in new if record not in old))
        return ratio_of(self.whole_of(self.networks[-1]), self.other_cpus[len(self.networks)])


def measured(decisions: Decisions, ratio: float = 1.0, seconds: float = 1e-3) -> Outcome:
    return Outcome("ok", timing=Timing(ratio * seconds, seconds, ratio, float(ratio < 1), 10))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


def searched(path: Path, sources: Sequence[RecordSource] = ()) -> Ledger:
    """Of every kernel BETTER is half as fast again in its loop."""
    ledger = Ledger([KernelSearch(kernel, 2, space()) for kernel in KERNELS], MACHINE, RecordFile(path))
    ledger.begin_from(sources)
    for search in ledger.searches:
        if not search.started:
            ledger.take(search, search.today, measured(search.today), None)
        if not search.knows(BETTER):
            ledger.take(search, BETTER, measured(BETTER, 0.5), search.best)
    return ledger


def judged(ledger: Ledger, arena: FakeArena, left_s: float | None = None) -> Verdict:
    with ledger.alone():
        return confirm(ledger, record_sources(MACHINE, ledger.file.path), arena, lambda: left_s)


def chosen_of(path: Path) -> dict[Workload, Mapping[str, int]]:
    """The kernels that compile would take from the database, with their decisions."""
    sources = [RecordSource("database", RecordFile(path).load().records, own=True)]
    found = {kernel: find_record(kernel, MACHINE, space(), sources) for kernel in KERNELS}
    return {kernel: record[0].decisions for kernel, record in found.items() if record is not None}


def test_kernels_that_win_inside_a_faster_network_are_chosen(path: Path) -> None:
    ledger = searched(path)
    assert chosen_of(path) == {} and len(waiting_of(ledger)) == 4
    arena = FakeArena({A: 0.8, B: 0.9, C: 1.2, D: 1.0}, lambda new: 0.9)
    verdict = judged(ledger, arena)
    assert verdict.said == "better" and verdict.whole is not None and verdict.whole.ratio == pytest.approx(0.9)
    assert chosen_of(path) == {A: BETTER, B: BETTER}
    assert arena.networks == [{A.name, B.name}]
    assert verdict.kept[A.name] == (pytest.approx(5e-4), pytest.approx(4e-4))  # of one of its two calls
    # Those that are no faster inside the network than what is there are found out for good.
    again = searched(path)
    assert waiting_of(again) == [] and judged(again, arena).said == "nothing"


def test_no_kernel_is_chosen_where_the_network_is_not_faster(path: Path) -> None:
    ledger, arena = searched(path), FakeArena(dict.fromkeys(KERNELS, 0.8), lambda new: 1.0)
    verdict = judged(ledger, arena)
    assert verdict.said == "equal" and not verdict.kept and chosen_of(path) == {}
    assert [len(new) for new in arena.networks] == [4, 2, 1]
    # What is known stays so, and may try again.
    again = Ledger([KernelSearch(kernel, 2, space()) for kernel in KERNELS], MACHINE, RecordFile(path))
    assert again.resumed == 8 and len(waiting_of(again)) == 4


def test_half_that_saves_most_may_be_faster_alone(path: Path) -> None:
    def whole(new: frozenset[str]) -> float:
        return 1.1 if A.name in new else 0.9

    arena = FakeArena({A: 0.9, B: 0.7, C: 0.8, D: 0.95}, whole)
    assert judged(searched(path), arena).said == "better"
    assert arena.networks == [{kernel.name for kernel in KERNELS}, {B.name, C.name}]
    assert chosen_of(path) == {B: BETTER, C: BETTER}


def test_halves_are_not_tried_where_no_time_is_left(path: Path) -> None:
    arena = FakeArena(dict.fromkeys(KERNELS, 0.8), lambda new: 1.0, another_s=10.0)
    assert judged(searched(path), arena, left_s=9.0).said == "equal" and len(arena.networks) == 1


def test_nothing_wins_inside_the_network(path: Path) -> None:
    arena = FakeArena(dict.fromkeys(KERNELS, 1.3), lambda new: 0.5)
    verdict = judged(searched(path), arena)
    assert verdict.said == "equal" and verdict.whole is None and not arena.networks and chosen_of(path) == {}


@pytest.mark.parametrize("when", [0, 1, 2])
def test_beside_other_work_nothing_is_chosen_and_nothing_is_refuted(path: Path, when: int) -> None:
    """Whatever the times: in the comparison of the kernels, of the first network, of the half of it."""
    busy = [0.0, 0.0, 0.0, 0.0]
    busy[when] = 1.0
    arena = FakeArena({A: 0.5, B: 0.5, C: 1.5, D: 0.5}, lambda new: 1.0 if when == 2 and len(new) == 3 else 0.5, busy)
    verdict = judged(searched(path), arena)
    assert verdict.said == "disturbed" and verdict.other_cpus == 1.0 and chosen_of(path) == {}
    assert len(waiting_of(searched(path))) == 4
    assert judged(searched(path), replace(arena, other_cpus=[0.0] * 4, networks=[])).said == "better"


def test_a_failure_or_an_interrupt_chooses_nothing(path: Path) -> None:
    def interrupted(new: frozenset[str]) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(searched(path), FakeArena(dict.fromkeys(KERNELS, 0.5), interrupted))
    assert chosen_of(path) == {}
    assert judged(searched(path), FakeArena(dict.fromkeys(KERNELS, 0.5), lambda new: 0.5)).said == "better"


def test_new_network_has_new_records_in_the_place_of_old_ones(path: Path) -> None:
    """Also where the time of the old one is of another day: it is the network that says what is faster."""
    words = (A.name, "toy", OTHER, "ok", 1, MACHINE.processor, MACHINE.lanes)
    old = Record(*words, seconds=1e-9, kept=True)
    RecordFile(path).append(old)
    sources = record_sources(MACHINE, path)
    ledger = searched(path, sources)
    assert chosen_of(path) == {A: OTHER}
    arena = FakeArena(dict.fromkeys(KERNELS, 0.5), lambda new: 0.5)
    verdict = judged(ledger, arena)
    assert verdict.said == "better" and arena.olds == [[old]] and len(arena.networks[0]) == 4
    assert chosen_of(path) == dict.fromkeys(KERNELS, BETTER)


def test_what_another_tuner_replaced_meanwhile_is_what_is_to_be_beaten(path: Path) -> None:
    mine, other = searched(path), searched(path)
    assert judged(other, FakeArena({A: 0.5}, lambda new: 0.5)).said == "better"
    for search in mine.searches:
        if search.workload == A:
            mine.take(search, OTHER, measured(OTHER, 0.1), search.best)
    arena = FakeArena({A: 0.5}, lambda new: 0.5)
    judged(mine, arena)
    assert [(r.kernel, r.decisions) for r in arena.olds[0]] == [(A.name, BETTER)]
    assert chosen_of(path) == {A: OTHER}


def test_one_tuner_at_a_time_compares_networks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one waits, and then knows what was kept."""
    first, second = searched(path), searched(path)
    waits: list[float] = []

    def ends(seconds: float) -> None:
        waits.append(seconds)
        first.keep(next(search for search in first.searches if search.workload == A), 0.5)
        first.close()

    monkeypatch.setattr("effgen.tuning.ledger.time.sleep", ends)
    stack = first.alone()
    stack.__enter__()
    with second.alone():
        assert len(waits) == 1
        found = second.search_of(A.name)
        assert found is not None and found.chosen is not None


def test_time_for_the_comparison_is_kept_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("effgen.tuning.session.time.monotonic", lambda: 130.0)
    clock = Clock(Limits(trials=7, seconds=100.0), started=100.0)
    assert clock.left_s() == 70.0
    assert clock.limits_before(20.0) == Limits(trials=7, seconds=50.0)
    assert clock.limits_before(60.0) == Limits(trials=7, seconds=35.0)  # half of it is for the search
    assert Clock(Limits(seconds=10.0), started=100.0).left_s() == 0.0
    endless = Clock(Limits(trials=7), started=100.0)
    assert endless.left_s() is None and endless.limits_before(20.0) == Limits(trials=7)
