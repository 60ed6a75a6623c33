"""Quantities as people write them, and which limit holds where."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effgen.errors import BudgetError
from effgen.method.budget.limits import KINDS, Limit, LimitKind, limit_for, limits_from_texts, quantity_from_text


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("latency", "20ms", 0.02),
        ("latency", "1.5s", 1.5),
        ("latency", "250 us", 250e-6),
        ("latency", "1e-2s", 0.01),
        ("macs", "1G", 1e9),
        ("macs", "400M", 4e8),
        ("macs", "1.8B", 1.8e9),
        ("macs", "385814752", 385814752),
        ("params", "5.3m", 5.3e6),
        ("params", "200k", 2e5),
        ("memory", "64MB", 64e6),
        ("memory", "64MiB", 64 * 2**20),
        ("size", "25 mb", 25e6),
        ("size", ".5GiB", 2**29),
        ("size", "900B", 900),
    ],
)
def test_quantities(kind: LimitKind, text: str, value: float) -> None:
    assert quantity_from_text(kind, text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("latency", "20"),
        ("latency", "20MB"),
        ("latency", "0ms"),
        ("latency", "-3ms"),
        ("latency", "fast"),
        ("latency", ""),
        ("latency", "1e999s"),
        ("macs", "1GB"),
        ("macs", "nan"),
        ("params", "1,000"),
        ("memory", "64"),
        ("size", "64MBs"),
    ],
)
def test_what_is_no_quantity_is_refused_in_one_line(kind: LimitKind, text: str) -> None:
    with pytest.raises(BudgetError) as caught:
        quantity_from_text(kind, text)
    message = str(caught.value)
    assert message.startswith(f"--max-{kind} {text}: expected a ") and "e.g. " in message and "\n" not in message


@given(st.sampled_from(KINDS), st.text("0123456789.eE+-mskMGBi µ", max_size=8))
def test_no_text_is_more_than_refused(kind: LimitKind, text: str) -> None:
    with contextlib.suppress(BudgetError):
        assert quantity_from_text(kind, text) > 0


@given(st.floats(1e-5, 1e4), st.sampled_from(["us", "ms", "s"]))
def test_values_are_written_in_the_unit_of_the_limit(amount: float, unit: str) -> None:
    text = f"{amount:.4g}{unit}"
    limit = Limit("latency", quantity_from_text("latency", text), text)
    assert limit.written(limit.most) == text


def test_a_bare_count_is_written_whole() -> None:
    assert Limit("macs", 4e8, "400000000").written(385814752.0) == "385,814,752"


def test_a_limit_of_one_target_goes_before_that_of_all() -> None:
    limits = limits_from_texts("latency", ["20ms", "rpi4=80ms"], ["cpu", "rpi4"])
    assert [limit.option for limit in limits] == ["--max-latency 20ms", "--max-latency rpi4=80ms"]
    assert limit_for("latency", limits, "cpu") == limits[0]
    assert limit_for("latency", limits, "rpi4") == limits[1]
    assert limit_for("size", limits, "cpu") is None


@pytest.mark.parametrize(
    ("kind", "texts", "message"),
    [
        ("latency", ["rpi5=80ms"], "'rpi5' is no --target given; did you mean rpi4? known: cpu, rpi4"),
        ("latency", ["cpu=80"], "--max-latency cpu=80: expected a time"),
        ("latency", ["cpu="], "--max-latency cpu=: expected a time"),
        ("latency", ["1ms", "2ms"], "--max-latency 1ms: a second limit; expected one"),
        ("memory", ["rpi4=1MB", "rpi4=2MB"], "--max-memory rpi4=1MB: a second limit of rpi4; expected one"),
        ("macs", ["rpi4=1G"], "--max-macs rpi4=1G: is the same on every machine"),
    ],
    ids=["unknown", "no unit", "nothing", "twice", "twice on one", "of no machine"],
)
def test_limits_that_make_no_sense(kind: LimitKind, texts: list[str], message: str) -> None:
    with pytest.raises(BudgetError) as caught:
        limits_from_texts(kind, texts, ["cpu", "rpi4"])
    assert message in str(caught.value)
