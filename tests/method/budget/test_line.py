"""The compound line: its stretches of phi meet, each is one network, and nothing shrinks along it."""

from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import tiny_spec
from random_specs import random_specs

from effgen.errors import SpecError
from effgen.method.budget.line import STEPS, Line, Rung, phi_text
from effgen.network.lowering.network import lower
from effgen.network.scaling import Overrides, coefficients_for, scale
from effgen.network.spec import NetworkSpec, load_spec

LINE = Line(load_spec("efficientnet"))


def rungs(line: Line, first: float, last: float) -> list[Rung]:
    """All networks between two phi."""
    found = [line.rung(round(first * STEPS))]
    while found[-1].last < last * STEPS and (above := line.above(found[-1])):
        found.append(above)
    return found


def test_the_line_ends_where_there_is_no_network() -> None:
    """31.5 pixels of a total stride of 32 are rounded up; 20 is as far as phi goes."""
    assert (LINE.low, LINE.high) == (-14_035_712, 20_000_000)
    assert LINE.spec(LINE.low).input.resolution == 32
    with pytest.raises(SpecError, match="total stride"):
        LINE.spec(LINE.low - 1)
    assert LINE.below(LINE.rung(LINE.low)) is None
    assert LINE.above(LINE.rung(LINE.high)) is None


def test_the_line_ends_with_the_last_network_that_a_spec_may_describe() -> None:
    stage = LINE.baseline.stages[0].model_copy(update={"repeats": 200})
    line = Line(LINE.baseline.model_copy(update={"stages": [stage]}))
    assert line.spec(line.high).stages[0].repeats == 512
    with pytest.raises(SpecError, match="makes 513 repeats; expected at most 512"):
        line.spec(line.high + 1)


def test_the_baseline_ends_at_phi_0() -> None:
    """Repeats are rounded up: any phi above 0 adds a block to each stage."""
    rung = LINE.rung(0)
    assert (rung.last, rung.text) == (0, "0")
    assert LINE.spec(1).stages[0].repeats == 2
    assert scale(LINE.baseline, coefficients_for(LINE.baseline, "0", "formula")) == LINE.spec(rung.first)


def test_stretches_meet_and_differ() -> None:
    line = rungs(LINE, 0.8, 1.2)
    assert len(line) > 20
    for lower_one, higher in pairwise(line):
        assert higher.first == lower_one.last + 1
        assert LINE.spec(higher.first) != LINE.spec(lower_one.last)
        assert LINE.spec(higher.first) == LINE.spec(higher.last)
        assert LINE.below(higher) == lower_one


@given(random_specs(), st.floats(-6, 6))
def test_the_printed_phi_gives_the_very_network(spec: NetworkSpec, phi: float) -> None:
    line = Line(spec)
    step = round(phi * STEPS)
    assume(line.low <= step <= line.high)
    rung = line.rung(step)
    assert rung.first <= step <= rung.last
    for text in (rung.text, phi_text(rung.first / STEPS)):
        assert scale(spec, coefficients_for(spec, text, "formula")) == line.spec(step)


@settings(max_examples=60)
@given(random_specs(), st.floats(-5, 4))
def test_counts_never_fall_along_the_line(spec: NetworkSpec, phi: float) -> None:
    """But for a bottleneck's shortcut: its convolution goes where rounding makes the channels equal."""
    assume(all(stage.block != "bottleneck" for stage in spec.stages))
    line = Line(spec)
    step = round(phi * STEPS)
    assume(line.low <= step <= line.high)
    smaller = line.rung(step)
    larger = line.above(smaller)
    assume(larger is not None)
    before, after = (lower(line.spec(rung.first)) for rung in (smaller, larger))
    assert before.macs <= after.macs
    assert before.parameter_count <= after.parameter_count


def test_overrides_hold_all_along() -> None:
    line = Line(tiny_spec(), Overrides(classes=3))
    assert line.spec(line.low).classifier.classes == line.spec(STEPS).classifier.classes == 3


def test_a_range_is_kept_to_the_millionth() -> None:
    line = Line(LINE.baseline, min_phi=0.1, max_phi=1.1)
    assert (line.low, line.high) == (100_000, 1_100_000)
    assert line.rung(line.high).last == line.high
    assert line.above(line.rung(line.high)) is None


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ({"min_phi": -15}, r"--min-phi -15: resolution 28 \(from the formula .*\): expected from 32"),
        ({"max_phi": 21}, "--max-phi 21: expected a number from -20 to 20"),
        ({"max_phi": float("nan")}, "--max-phi nan: expected a number"),
        ({"min_phi": 2, "max_phi": 1}, "--min-phi 2: expected at most --max-phi 1"),
        (
            {"min_phi": 0.1234567, "max_phi": 0.1234568},
            "--min-phi 0.1234567: expected a millionth or more below --max-phi 0.1234568",
        ),
    ],
    ids=["no network", "far", "nan", "turned round", "empty"],
)
def test_ranges_that_make_no_sense(ends: dict[str, float], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Line(LINE.baseline, **ends)


@pytest.mark.parametrize(
    ("phi", "text"), [(0.0, "0"), (-0.0, "0"), (1.2, "1.2"), (-3.000001, "-3.000001"), (20.0, "20"), (1e-6, "0.000001")]
)
def test_phi_as_text(phi: float, text: str) -> None:
    assert phi_text(phi) == text
