"""Two bundles in turn: what counts as better, by given times; and that real ones are compared kernel by kernel."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from effgen.errors import BundleError
from effgen.judge import duel as duel_module
from effgen.judge.duel import Duel, duel_of_bundles, duel_of_kernels, duel_s, kernels_of_bundle
from effgen.machines.host import OtherWork
from effgen.measure.carried.timing import chance_of
from effgen.results.reports import DISTURBING_CPUS


def duel(*seatings: list[float], other_cpus: float | None = 0.0) -> Duel:
    """One whose old side takes 2 s in each round, the new one these shares of it."""
    before = tuple(tuple(2.0 for _ in seating) for seating in seatings)
    return Duel(before, tuple(tuple(2.0 * ratio for ratio in seating) for seating in seatings), other_cpus)


def test_sign_test() -> None:
    assert chance_of(0, 10) == 1.0 and chance_of(10, 10) == 2.0**-10
    assert chance_of(8, 10) == pytest.approx((45 + 10 + 1) / 1024)
    assert chance_of(27, 40) > 0.01 > chance_of(28, 40)


def test_faster_in_nearly_every_round() -> None:
    found = duel([0.9] * 8, [0.9] * 7 + [1.5], [0.92] * 8)
    assert found.won and found.better and not found.disturbed
    assert (found.wins, found.rounds) == (23, 24) and found.ratio == pytest.approx(0.9)
    assert found.before_s == 2.0 and found.after_s == pytest.approx(1.8)
    assert found.quartiles == (pytest.approx(0.9), pytest.approx(0.92))


def test_as_often_slower_is_not_better() -> None:
    rounds = [0.5, 1.01] * 12  # the median ratio is far below 1, and says nothing
    assert not duel(rounds).won and not duel(rounds).better
    assert not duel([1.0] * 24).won and not duel([1.1] * 24).won


def test_is_not_better_where_one_pair_of_processes_says_otherwise() -> None:
    """Its places in memory may have been the better ones in the others."""
    found = duel(*[[0.99] * 8] * 4, [1.01] * 8)
    assert found.wins == 32 and found.won and not found.better


def test_pairs_rounds_not_medians() -> None:
    """Both get slower from round to round, by more than they differ."""
    slower = np.linspace(1.0, 3.0, 24)
    found = Duel((tuple(slower),), (tuple(slower * 0.99),))
    assert found.better and found.ratio == pytest.approx(0.99)


@pytest.mark.parametrize(("other_cpus", "disturbed"), [(None, False), (0.0, False), (DISTURBING_CPUS * 2, True)])
def test_other_work_disturbs(other_cpus: float | None, disturbed: bool) -> None:
    assert duel([0.5] * 8, other_cpus=other_cpus).disturbed is disturbed


def test_time_of_a_duel_grows_with_that_of_a_call() -> None:
    assert duel_s(1.0, 1e-3) == duel_s(1.0, 1e-2) < duel_s(1.0, 1.0) < duel_s(2.0, 1.0)


def test_bundles_are_compared_kernel_by_kernel(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle with itself: every kernel of it, and about the same times on both sides; what is claimed of them depends
    on the machine."""
    monkeypatch.setattr(duel_module, "SEATINGS", 2)
    monkeypatch.setattr(duel_module, "ROUNDS", 2)
    monkeypatch.setattr(duel_module, "BURST_S", 0.0)
    names = kernels_of_bundle(tiny_bundle)
    assert not any("_ahead" in name for name in names)
    found = duel_of_kernels(tiny_bundle, tiny_bundle, 1)
    assert list(found) == list(dict.fromkeys(names))
    assert all(each.rounds == 4 and min(chain(*each.before, *each.after)) > 0 for each in found.values())
    whole = duel_of_bundles(tiny_bundle, tiny_bundle, 1)
    assert [len(seating) for seating in whole.before] == [2, 2] and min(chain(*whole.before, *whole.after)) > 0


def test_bundle_that_cannot_be_run_is_an_error(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="absent"):
        duel_of_bundles(tiny_bundle, tmp_path / "absent", 1)


def test_other_work_is_that_of_the_duel(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    monkeypatch.setattr(duel_module, "SEATINGS", 1)
    monkeypatch.setattr(duel_module, "ROUNDS", 1)
    monkeypatch.setattr(duel_module, "watch_other_work", lambda: nullcontext(OtherWork(1.5)))
    found = duel_of_bundles(tiny_bundle, tiny_bundle, 1)
    assert found.disturbed and not replace(found, other_cpus=None).disturbed
