"""Candidates of equal multiply-adds: the single dimensions, the paper's point, and the grid around it."""

from __future__ import annotations

import re
from itertools import combinations

import pytest
from networks import tiny_spec
from searches import FINE

from effgen.errors import StudyError
from effgen.method.studies.grid import SINGLE, Grid, GridPlan, make_grid, with_coefficients
from effgen.network import network_from_spec
from effgen.network.scaling import coefficients_for, scale
from effgen.network.spec import NetworkSpec, load_spec, parse_spec


@pytest.fixture(scope="module")
def fine() -> NetworkSpec:
    return parse_spec(FINE, "fine.toml")


@pytest.fixture(scope="module")
def grid(fine: NetworkSpec) -> Grid:
    return make_grid(fine, 1.0)


def test_single_dimensions_come_first_and_scale_nothing_else(grid: Grid) -> None:
    before = grid.unscaled.network.spec
    for candidate, kind in zip(grid.candidates, SINGLE, strict=False):
        after = candidate.network.spec
        changed = {
            "depth": [stage.repeats for stage in after.stages] != [stage.repeats for stage in before.stages],
            "width": after.stem.channels != before.stem.channels,
            "resolution": after.input.resolution != before.input.resolution,
        }
        assert candidate.kind == kind and [name for name, differs in changed.items() if differs] == [kind]


def test_compound_candidates_have_the_multiply_adds_asked_for(grid: Grid) -> None:
    compound = [candidate for candidate in grid.candidates if candidate.kind == "compound"]
    assert len(compound) > 4
    for candidate in compound:
        assert candidate.macs == pytest.approx(grid.goal, rel=0.05)
        assert min(candidate.alpha, candidate.beta, candidate.gamma) >= 1
        assert sum(value > 1 for value in candidate.nominal) > 1
        alpha, beta, gamma = candidate.nominal
        assert alpha * beta**2 * gamma**2 == pytest.approx(2, rel=0.06)


def test_no_network_is_there_twice(grid: Grid) -> None:
    assert all(a.network.spec != b.network.spec and a.key != b.key for a, b in combinations(grid.candidates, 2))


def test_every_point_is_a_candidate_or_left_out_for_a_reason(grid: Grid) -> None:
    points = [candidate.nominal for candidate in grid.candidates] + [item.nominal for item in grid.left_out]
    assert len(points) == len(set(points)) and {*SINGLE.values(), (1.2, 1.1, 1.15)} <= set(points)
    assert all(re.search("same network|of the multiply-adds|alone|reaches", item.reason) for item in grid.left_out)


def test_the_coefficients_written_down_make_the_very_network(grid: Grid, fine: NetworkSpec) -> None:
    for candidate in grid.candidates:
        written = with_coefficients(fine, candidate.alpha, candidate.beta, candidate.gamma)
        made = scale(written, coefficients_for(written, "1"))  # as `--phi 1`, which knows no law
        assert network_from_spec(made).graph.macs == candidate.macs
        assert made.model_copy(update={"scaling": fine.scaling}) == candidate.network.spec


def test_published_rows_do_not_come_before_what_was_found() -> None:
    family = load_spec("efficientnet")
    found = with_coefficients(family, 1.3, 1.1, 1.05)
    assert coefficients_for(found, 1.0).depth == 1.3 and coefficients_for(family, 1.0).source == "published row b1"


@pytest.mark.parametrize("phi", [0.5, 2.0])
def test_the_goal_grows_with_phi(fine: NetworkSpec, phi: float) -> None:
    grid = make_grid(fine, phi, GridPlan(step=0.2))
    assert grid.goal == pytest.approx(2**phi * grid.unscaled.macs)
    assert all(0.8 < candidate.macs / grid.goal < 1.25 for candidate in grid.candidates)


def test_smaller_steps_make_more_candidates(fine: NetworkSpec, grid: Grid) -> None:
    assert len(make_grid(fine, 1.0, GridPlan(step=0.2)).candidates) < len(grid.candidates)


def test_a_tighter_tolerance_leaves_candidates_out(fine: NetworkSpec, grid: Grid) -> None:
    strict = make_grid(fine, 1.0, GridPlan(macs_tolerance=0.01))
    kept = [candidate.macs / grid.goal for candidate in strict.candidates if candidate.kind == "compound"]
    assert kept and all(abs(share - 1) <= 0.01 for share in kept)
    assert len(strict.candidates) < len(grid.candidates)


@pytest.mark.parametrize(
    "phi, plan, told",
    [
        (0.0, GridPlan(), "--phi 0: expected a number above 0"),
        (9.0, GridPlan(), "--phi 9: "),
        (1.0, GridPlan(step=0.001), "--step 0.001: expected a number from 0.01 to 1"),
        (1.0, GridPlan(tolerance=0.0), "--tolerance 0: "),
        (1.0, GridPlan(macs_tolerance=1.5), "--macs-tolerance 1.5: "),
        (1.0, GridPlan(step=1.0, macs_tolerance=1e-9), "fine|tiny: no compound network has"),
        (float("nan"), GridPlan(), "--phi nan: "),
    ],
    ids=["zero", "large", "step", "tolerance", "share", "empty", "nan"],
)
def test_a_plan_that_makes_no_grid_is_refused(fine: NetworkSpec, phi: float, plan: GridPlan, told: str) -> None:
    with pytest.raises(StudyError, match=told) as error:
        make_grid(fine, phi, plan)
    assert "\n" not in str(error.value)


def test_a_baseline_of_coarse_rounding_says_what_to_do() -> None:
    with pytest.raises(StudyError, match=r"rounded too coarsely \(\[rounding\] of the spec\)"):
        make_grid(tiny_spec(), 1.0, GridPlan(macs_tolerance=0.001))
