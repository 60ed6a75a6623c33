"""Each dimension alone at equal multiply-adds: the nearest step, by the shortest multiplier."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effgen.errors import SpecError
from effgen.method.budget.equal_macs import nearest_step, networks_of_equal_macs
from effgen.network import NetworkRequest, build_network
from effgen.network.scaling import Overrides


@pytest.mark.parametrize(
    ("wanted", "found"),
    [(1.9, 2.0), (3.1, 3.0), (3.6, 4.0), (7.0, 7.0), (99.0, 8.0)],
)
def test_the_nearest_step_of_whole_numbers(wanted: float, found: float) -> None:
    assert nearest_step(math.floor, wanted, 1.0, 8.0) == found


@given(st.integers(1, 40), st.floats(1.01, 60), st.floats(0.05, 3))
def test_no_other_number_is_nearer_and_none_on_its_step_is_shorter(step: int, wanted: float, slope: float) -> None:
    def macs(value: float) -> int:
        return step * math.ceil(slope * value)

    low, high = 1.0, 64.0
    if macs(low) >= wanted:
        return
    found = nearest_step(macs, wanted, low, high)
    assert low <= found <= high
    tried = [low + (high - low) * index / 500 for index in range(501)]
    assert abs(macs(found) - wanted) <= min(abs(macs(value) - wanted) for value in tried)
    if found != round(found):
        whole = [float(n) for n in range(math.ceil(low), int(high) + 1)]
        assert all(macs(value) != macs(found) for value in (math.floor(found), math.ceil(found)) if value in whole)


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_each_way_changes_what_it_says(factor: float, tiny_spec: Path) -> None:
    found = networks_of_equal_macs(str(tiny_spec), factor)
    assert list(found) == ["baseline", "depth", "width", "resolution", "compound"]
    base = found["baseline"].coefficients
    assert (base.depth, base.width, base.resolution) == (1, 1, 32)
    for dimension in ("depth", "width", "resolution"):
        by = found[dimension].coefficients
        changed = {key for key in ("depth", "width", "resolution") if getattr(by, key) != getattr(base, key)}
        assert changed == {dimension}
    by = found["compound"].coefficients
    assert by.phi is not None and (by.depth, by.width) == (1.2**by.phi, 1.1**by.phi)


def test_the_nearest_step_may_be_the_baseline(tiny_spec: Path) -> None:
    """The next step of this width has 2.3 times the multiply-adds."""
    found = networks_of_equal_macs(str(tiny_spec), 1.5)
    assert found["width"].graph.macs == found["baseline"].graph.macs < found["depth"].graph.macs


@pytest.mark.parametrize("factor", [1.1, 7.3])
def test_no_resolution_is_nearer(factor: float) -> None:
    found = networks_of_equal_macs("mobilenet_v1", factor)
    wanted, pixels = factor * found["baseline"].graph.macs, found["resolution"].coefficients.resolution
    distance = abs(found["resolution"].graph.macs - wanted)
    for other in (pixels - 1, pixels + 1):
        network = build_network(NetworkRequest("mobilenet_v1", overrides=Overrides(resolution=other)))
        assert abs(network.graph.macs - wanted) >= distance


def test_the_paper_s_compound_coefficients_lie_on_b0_s_line() -> None:
    """At the multiply-adds of Table 7's compound row (d 1.4, w 1.2, r 1.3: 291 pixels) the line passes beside it."""
    found = networks_of_equal_macs("efficientnet", 1_800_091_280 / 385_814_752)["compound"].coefficients
    assert (round(found.depth, 1), round(found.width, 1)) == (1.4, 1.2)
    assert abs(found.resolution - 291) <= 1


@pytest.mark.parametrize("factor", [1.0, 0.5, -2.0, 65.0, math.nan, math.inf])
def test_a_factor_that_is_none(factor: float) -> None:
    with pytest.raises(SpecError, match=r"^--factor .*: expected a number above 1, up to 64$"):
        networks_of_equal_macs("efficientnet", factor)


def test_a_line_that_leads_nowhere(tiny_spec: Path, tmp_path: Path) -> None:
    path = tmp_path / "flat.toml"
    path.write_text(tiny_spec.read_text() + "[scaling]\nalpha = 1\nbeta = 1\ngamma = 1\n")
    with pytest.raises(SpecError, match=r"flat.toml: scaling.alpha, beta and gamma are 1: expected one of them larger"):
        networks_of_equal_macs(str(path), 2.0)


def test_a_line_that_ends_early_is_searched_to_its_end(tiny_spec: Path, tmp_path: Path) -> None:
    """Beyond phi 3 depth alone is 64; doubling phi must not run past that and miss what lies before it."""
    path = tmp_path / "deep.toml"
    path.write_text(tiny_spec.read_text() + "[scaling]\nalpha = 4\nbeta = 1\ngamma = 1\n")
    wanted = 20 * build_network(NetworkRequest(str(path))).graph.macs
    found = networks_of_equal_macs(str(path), 20.0)
    assert 2 < (found["compound"].coefficients.phi or 0) < 3
    assert found["compound"].graph.macs == pytest.approx(wanted, rel=0.05)
    assert found["depth"].graph.macs == found["compound"].graph.macs


def test_a_dimension_that_cannot_reach_it_goes_as_far_as_it_can(tiny_spec: Path, tmp_path: Path) -> None:
    path = tmp_path / "shallow.toml"
    path.write_text(tiny_spec.read_text().replace("repeats", "scale_depth = false\nrepeats"))
    found = networks_of_equal_macs(str(path), 2.0)
    assert found["depth"].graph.macs == found["baseline"].graph.macs
    assert found["resolution"].graph.macs > found["baseline"].graph.macs
