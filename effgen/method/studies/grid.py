"""The small grid of the paper's first step (section 3.3): ways to spend 2^phi times the multiply-adds, at equal ones.

alpha (depth), beta (width), gamma (resolution) are each 1 or more with alpha * beta^2 * gamma^2 ~ 2. That product is
what the multiply-adds would grow by if channels and layers could be fractions. They are rounded, and stem and head do
not get deeper: EfficientNet-B0 has 0.97 to 1.42 times the goal at the points of the grid, and the largest network
would win for its size. Every candidate is therefore moved along its own compound line, (alpha^t, beta^t, gamma^t), to
the network whose multiply-adds are next to the goal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

from effgen.errors import SpecError, StudyError
from effgen.network import Network, network_from_spec
from effgen.network.scaling import coefficients_for, scale
from effgen.network.spec import NetworkSpec, ScalingSpec
from effgen.network.steps import around_step

CandidateKind = Literal["compound", "depth", "width", "resolution", "baseline"]

Triple = tuple[float, float, float]

#: One dimension alone: what compound scaling is compared with (paper, Table 3).
SINGLE: dict[CandidateKind, Triple] = {
    "depth": (2.0, 1.0, 1.0),
    "width": (1.0, 2**0.5, 1.0),
    "resolution": (1.0, 1.0, 2**0.5),
}

#: What the paper found for EfficientNet-B0 (section 3.3).
PAPER: Triple = (1.2, 1.1, 1.15)

#: Coefficients are written into specs with so many digits; the largest that a spec takes.
_DIGITS, LARGEST = 4, 4.0

#: Halvings of a candidate's range of t: finer than any rounding.
_HALVINGS = 16


@dataclass(frozen=True)
class GridPlan:
    """Which points: steps of alpha, beta and gamma, how far the product may be from 2 (as a share of 2), and how far a
    candidate's multiply-adds may be from the goal (as a share of it) after it was moved."""

    step: float = 0.1
    tolerance: float = 0.05
    macs_tolerance: float = 0.05


@dataclass(frozen=True)
class Candidate:
    """A way to scale: the grid's point, the coefficients that it was moved to, and what they make of the baseline.

    `network` is the baseline scaled by alpha^phi, beta^phi, gamma^phi.
    """

    kind: CandidateKind
    nominal: Triple
    alpha: float
    beta: float
    gamma: float
    network: Network

    @property
    def key(self) -> str:
        """Its name in the storage and in progress lines."""
        return f"{self.kind} {self.alpha:g}/{self.beta:g}/{self.gamma:g}"

    @property
    def macs(self) -> int:
        """Multiply-adds of one image."""
        return self.network.graph.macs


@dataclass(frozen=True)
class LeftOutPoint:
    """A point of the grid that is no candidate, and why."""

    nominal: Triple
    reason: str


@dataclass(frozen=True)
class Grid:
    """The candidates for one baseline, single dimensions first; `unscaled` is the baseline as it is.

    `goal` is 2^phi times the baseline's multiply-adds.
    """

    phi: float
    unscaled: Candidate
    goal: float
    candidates: tuple[Candidate, ...]
    left_out: tuple[LeftOutPoint, ...]


def make_grid(spec: NetworkSpec, phi: float, plan: GridPlan = GridPlan()) -> Grid:
    """The candidates for the baseline `spec`: single dimensions, the paper's point, then the grid, each network once.

    The single dimensions stay however far their nearest network is from the goal; other points further away than the
    tolerance, or of which rounding leaves one dimension, are left out, and whatever cannot reach the goal at all.
    Raises StudyError for a plan that makes no grid, SpecError for a baseline that makes no network.
    """
    _check(phi, plan)
    baseline = network_from_spec(spec)
    unscaled = Candidate("baseline", (1.0, 1.0, 1.0), 1.0, 1.0, 1.0, baseline)
    goal = 2**phi * unscaled.macs
    candidates: list[Candidate] = []
    left_out: list[LeftOutPoint] = []
    for kind, point in _points(plan):
        found = _nearest(spec, kind, point, phi, goal)
        if found is None:
            left_out.append(LeftOutPoint(point, f"no network of its balance reaches {goal:,.0f} multiply-adds"))
        elif any(found.network.spec == other.network.spec for other in candidates):
            left_out.append(LeftOutPoint(point, "the same network as another point"))
        elif kind == "compound" and len(changed := _scaled_dimensions(baseline.spec, found.network.spec)) < 2:
            left_out.append(LeftOutPoint(point, f"rounding leaves {changed[0] if changed else 'nothing'} alone of it"))
        elif kind == "compound" and abs(found.macs / goal - 1) > plan.macs_tolerance:
            left_out.append(
                LeftOutPoint(point, f"its nearest network has {found.macs / goal:.2f} of the multiply-adds")
            )
        else:
            candidates.append(found)
    if all(candidate.kind != "compound" for candidate in candidates):
        raise StudyError(
            f"{spec.name}: no compound network has {goal:,.0f} multiply-adds: its channels and repeats are rounded too "
            "coarsely ([rounding] of the spec); or give a smaller --step, a larger --macs-tolerance"
        )
    return Grid(phi, unscaled, goal, tuple(candidates), tuple(left_out))


def with_coefficients(spec: NetworkSpec, alpha: float, beta: float, gamma: float) -> NetworkSpec:
    """The baseline with these coefficients, and without published rows, which would come before the formula."""
    return spec.model_copy(update={"scaling": ScalingSpec(alpha=alpha, beta=beta, gamma=gamma)})


def _check(phi: float, plan: GridPlan) -> None:
    if not 0 < phi <= 4:
        raise StudyError(f"--phi {phi:g}: expected a number above 0, up to 4; the paper searches at 1")
    if not 0.01 <= plan.step <= 1:
        raise StudyError(f"--step {plan.step:g}: expected a number from 0.01 to 1")
    for option, value in (("--tolerance", plan.tolerance), ("--macs-tolerance", plan.macs_tolerance)):
        if not 0 < value < 1:
            raise StudyError(f"{option} {value:g}: expected a share above 0, below 1")


def _points(plan: GridPlan) -> Iterator[tuple[CandidateKind, Triple]]:
    yield from SINGLE.items()
    yield "compound", PAPER
    for alpha in _steps(2.0, plan.step):
        for beta in _steps(2**0.5, plan.step):
            for gamma in _steps(2**0.5, plan.step):
                several = sum(value > 1 for value in (alpha, beta, gamma)) > 1
                if several and abs(alpha * beta**2 * gamma**2 / 2 - 1) <= plan.tolerance:
                    yield "compound", (alpha, beta, gamma)


def _steps(highest: float, step: float) -> list[float]:
    return [round(1 + index * step, _DIGITS) for index in range(math.floor((highest - 1) / step + 1e-9) + 1)]


def _nearest(spec: NetworkSpec, kind: CandidateKind, point: Triple, phi: float, goal: float) -> Candidate | None:
    """The candidate of the point's balance whose multiply-adds are next to `goal`; None where all have fewer.

    Multiply-adds grow with t in steps: the last network below the goal and the first that is not are compared.
    """
    moved = cache(partial(_moved, spec, kind, point, phi))

    def macs(t: float) -> float:
        found = moved(t)
        return math.inf if found is None else found.macs

    largest = math.log(LARGEST) / math.log(max(point))
    if not goal <= macs(largest) < math.inf:
        return None
    below, above = around_step(macs, goal, 0.0, largest, _HALVINGS)
    near = (moved(t) for t in (above, below) if t > 0)
    best = min((one for one in near if one is not None), key=lambda one: abs(math.log(one.macs / goal)))
    as_it_is = moved(1.0)
    return as_it_is if as_it_is is not None and as_it_is.network.spec == best.network.spec else best


def _moved(spec: NetworkSpec, kind: CandidateKind, point: Triple, phi: float, t: float) -> Candidate | None:
    """The candidate at (alpha^t, beta^t, gamma^t); None where that is too large for a spec."""
    alpha, beta, gamma = (round(value**t, _DIGITS) for value in point)
    candidate = with_coefficients(spec, alpha, beta, gamma)
    try:
        scaled = scale(candidate, coefficients_for(candidate, phi, "formula"))
    except SpecError:
        return None
    # What the coefficients are is no part of the network that they make.
    network = network_from_spec(scaled.model_copy(update={"scaling": spec.scaling}))
    return Candidate(kind, point, alpha, beta, gamma, network)


def _scaled_dimensions(before: NetworkSpec, after: NetworkSpec) -> list[CandidateKind]:
    """The dimensions in which a network differs from its baseline, whatever the coefficients say."""
    depth = [stage.repeats for stage in before.stages] != [stage.repeats for stage in after.stages]
    width = _channels(before) != _channels(after)
    resolution = before.input.resolution != after.input.resolution
    found: dict[CandidateKind, bool] = {"depth": depth, "width": width, "resolution": resolution}
    return [kind for kind, differs in found.items() if differs]


def _channels(spec: NetworkSpec) -> list[int]:
    head = [] if spec.head is None else [spec.head.channels]
    return [spec.stem.channels, *(stage.channels for stage in spec.stages), *head]
