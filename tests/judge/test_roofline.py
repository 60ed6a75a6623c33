"""Ceilings: buffer sizes, the higher of two measurements, and that the probes run. No test judges a speed."""

import math

import pytest

from effgen.judge.roofline import MEMORY, Probes, best_ceilings, working_sets
from effgen.machines.host import describe_host
from effgen.results.ceilings import Bandwidth, Ceilings

MIB, GIB = 1 << 20, 1 << 30


def test_working_sets_stay_in_their_level_or_leave_it() -> None:
    sizes = working_sets({"L1d": 32 << 10, "L2": 1 * MIB, "L3": 32 * MIB}, threads=4, memory_bytes=16 * GIB)
    assert sizes == {"L2": 2 * MIB, "L3": 16 * MIB, MEMORY: 128 * MIB}


def test_working_sets_of_odd_machines() -> None:
    # Four cores with more second level together than the third.
    assert working_sets({"L2": 2 * MIB, "L3": 4 * MIB}, 4, 16 * GIB)[MEMORY] == 32 * MIB
    assert working_sets({"L2": MIB}, 1, 16 * GIB) == {"L2": MIB // 2, MEMORY: 4 * MIB}
    assert working_sets({}, 2, 16 * GIB) == {MEMORY: 256 * MIB}
    assert working_sets({"L3": GIB}, 2, 8 * GIB)[MEMORY] == GIB  # an eighth of the memory, not half of it


def test_best_of_two_measurements() -> None:
    one = Ceilings(2, 100.0, (Bandwidth("L2", 8, 10.0, 20.0), Bandwidth(MEMORY, 64, 5.0, 4.0)))
    other = Ceilings(2, 90.0, (Bandwidth("L2", 8, 11.0, 19.0), Bandwidth(MEMORY, 64, 4.0, 6.0)))
    best = Ceilings(2, 100.0, (Bandwidth("L2", 8, 11.0, 20.0), Bandwidth(MEMORY, 64, 5.0, 6.0)))
    assert best_ceilings(one, other) == best_ceilings(other, one) == best
    assert (best.bandwidth("L2"), best.bandwidth(MEMORY)) == (20.0, 6.0)
    with pytest.raises(KeyError):
        best.bandwidth("L3")


def test_probes_run() -> None:
    # A size that is no multiple of anything, and one smaller than a step of all threads.
    found = Probes(1, {"odd": 1_000_003, "tiny": 1}).measure()
    assert [bandwidth.level for bandwidth in found.bandwidths] == ["odd", "tiny"]
    assert 0 < found.bandwidths[0].working_set <= 1_000_003
    for value in (found.peak_gflops, *(bandwidth.best for bandwidth in found.bandwidths)):
        assert math.isfinite(value) and value > 0


def test_peak_of_a_machine() -> None:
    value = Probes(1, {}).measure().peak_gflops
    assert math.isfinite(value) and value > 0


def test_working_sets_of_this_machine() -> None:
    host = describe_host(sample_s=0.0)
    assert working_sets(host.caches, 1, host.memory_bytes)[MEMORY] > 0
