"""benchmarks/engines.py: what it says of given times."""

from collections.abc import Mapping
from typing import Any

import engines

from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.measure.carried.candidate import Outcome
from effgen.measure.carried.timing import Timing
from effgen.records.record import Record

WORKLOAD = ChannelScale(1, 8, 8, 16)
TRACE = {"metaschedule": 1, "sketch": 2}


class FakeMeasurer:
    """A call takes as many microseconds as decision `x` says; 0 fails."""

    def measure(
        self, workload: Any, decisions: Mapping[str, int], incumbent: Any = None, *_: Any, thorough: bool = False
    ) -> Outcome:
        assert thorough == (incumbent is not None)
        if not decisions["x"]:
            return Outcome("wrong", "no")
        mine, theirs = decisions["x"] * 1e-6, None if incumbent is None else incumbent["x"] * 1e-6
        return Outcome("ok", timing=Timing(mine, theirs, 1.0 if theirs is None else mine / theirs, 1.0, 10))


def record(decisions: dict[str, int], seconds: float | None) -> Record:
    return Record(WORKLOAD.name, "scale", decisions, "wrong" if seconds is None else "ok", 1, "x", 8, seconds)


def test_finds_the_best_of_each_engine() -> None:
    records = [record({"x": 1}, 3e-6), record({"x": 2}, 2e-6), record({"x": 3}, None), record(TRACE, 1e-6)]
    assert engines.best_of(records, WORKLOAD.name, "effgen") == ({"x": 2}, 3)
    assert engines.best_of(records, WORKLOAD.name, "metaschedule") == (TRACE, 1)
    assert engines.best_of(records, "another", "effgen") == (None, 0)


def test_table() -> None:
    contenders = {"shipped": {"x": 8}, "effgen": {"x": 5}, "metaschedule": {"x": 0}}
    default_us, ratios = engines.duel(FakeMeasurer(), WORKLOAD, {"x": 10}, contenders)  # type: ignore[arg-type]
    assert round(default_us, 6) == 10 and {name: round(ratio, 6) for name, ratio in ratios.items()} == {
        "shipped": 0.8,
        "effgen": 0.5,
    }
    rows = [
        engines.Row("one", 3, default_us, ratios, {"effgen": 7}),
        engines.Row("two", 1, 20.0, {"metaschedule": 0.25}, {"metaschedule": 2}),
    ]
    lines = engines.text_of(rows).splitlines()
    assert lines[1].startswith("one") and "0.500x" in lines[1] and lines[1].endswith("7 0")
    # 50 us by rule; 44 with what ships, 35 by effgen and 35 by MetaSchedule, which has nothing for the first.
    assert lines[3].split() == ["all", "calls", "4", "50.0", "44.0", "0.880x", "35.0", "0.700x", "35.0", "0.700x"]
    assert "20.0 us, 0.400x" in lines[4] and "'effgen': 1" in lines[4] and "'metaschedule': 1" in lines[4]
