"""Compound scaling (paper, section 3.3): phi -> coefficients -> a scaled NetworkSpec.

Two laws. "published" takes the coefficients of the released models, which do not follow the formula (their
rows fit phi = 0.5, 1, 2, 3.5, ...), and is what people mean by "B3". "formula" takes depth = alpha^phi,
width = beta^phi, resolution = gamma^phi times the baseline's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from effgen.errors import SpecError
from effgen.network.spec import (
    MAX_CHANNELS,
    MAX_REPEATS,
    HeadSpec,
    InputSpec,
    NetworkSpec,
    PublishedRow,
    RoundingSpec,
    StageSpec,
    StemSpec,
)
from effgen.words import Law

#: Beyond it channels and pixels leave every machine; a typing error is the likelier explanation.
MAX_PHI = 20.0

#: Of width and depth, as in `effgen.network.spec.Multiplier`.
MAX_MULTIPLIER = 64.0

#: Pixels along a side, as in `InputSpec`.
MAX_RESOLUTION = 8192


@dataclass(frozen=True)
class Coefficients:
    """What a spec is scaled by: multipliers of width and depth, resolution in pixels, and where they come from."""

    width: float
    depth: float
    resolution: int
    dropout: float
    phi: float | None
    law: Law
    source: str


@dataclass(frozen=True)
class Overrides:
    """What the user sets by hand after the law has spoken; None leaves the law's value.

    `stem_channels` and `head_channels` are what scaling would make of them: many released networks keep theirs.
    `resolution` is pixels, of the height where `image_width` says another width than the baseline's shape would;
    `resolution_factor`, instead of both, a multiple of the baseline's own resolution (the paper's r), whatever phi is.
    """

    width: float | None = None
    depth: float | None = None
    resolution: int | None = None
    classes: int | None = None
    norm_eps: float | None = None
    padding: Literal["symmetric", "same"] | None = None
    resolution_factor: float | None = None
    image_width: int | None = None
    stem_channels: int | None = None
    head_channels: int | None = None


def coefficients_for(spec: NetworkSpec, phi: str | float, law: Law = "published") -> Coefficients:
    """Coefficients for `phi`: a number, or the name of a published row ("b3", "l2").

    Under the published law a number without a row falls back to the formula; `source` says so.
    Raises SpecError for an unknown name, a negative phi under the published law, or a phi beyond MAX_PHI.
    """
    number = _phi_number(spec, phi)
    if number is None:
        if law == "formula":
            raise SpecError(f"--phi {phi}: --law formula needs a number, and {phi} names a published row")
        return _from_row(spec, _row_named(spec, str(phi)))
    if not math.isfinite(number) or abs(number) > MAX_PHI:
        low = 0 if law == "published" else -MAX_PHI
        raise SpecError(f"--phi {phi}: expected a number from {low:g} to {MAX_PHI:g}")
    if law == "published":
        if number < 0:
            raise SpecError(f"--phi {phi}: expected 0 or more; to shrink the baseline use --law formula")
        for row in spec.scaling.published:
            if row.phi == number:
                return _from_row(spec, row)
    return _from_formula(spec, number, fallback=law == "published")


def _phi_number(spec: NetworkSpec, phi: str | float) -> float | None:
    """phi as a number, or None where it names a published row."""
    try:
        return float(phi)
    except ValueError:
        if any(row.name == phi for row in spec.scaling.published):
            return None
        names = ", ".join(row.name for row in spec.scaling.published) or "none in this spec"
        raise SpecError(f"--phi {phi}: expected a number or the name of a published row: {names}") from None


def _row_named(spec: NetworkSpec, name: str) -> PublishedRow:
    return next(row for row in spec.scaling.published if row.name == name)


def _from_row(spec: NetworkSpec, row: PublishedRow) -> Coefficients:
    return Coefficients(
        width=row.width,
        depth=row.depth,
        resolution=row.resolution,
        dropout=spec.classifier.dropout if row.dropout is None else row.dropout,
        phi=row.phi,
        law="published",
        source=f"published row {row.name}",
    )


def _from_formula(spec: NetworkSpec, phi: float, fallback: bool) -> Coefficients:
    law = spec.scaling
    missing = f" (no published row for phi {phi:g})" if fallback and spec.scaling.published else ""
    return Coefficients(
        width=law.beta**phi,
        depth=law.alpha**phi,
        resolution=round(spec.input.resolution * law.gamma**phi),
        dropout=spec.classifier.dropout,
        phi=phi,
        law="formula",
        source=f"formula alpha={law.alpha:g} beta={law.beta:g} gamma={law.gamma:g}{missing}",
    )


def in_pixels(spec: NetworkSpec, overrides: Overrides) -> Overrides:
    """The same with `resolution_factor` of the baseline `spec` as pixels, to the nearest one.

    Raises SpecError where they are none that the network can take.
    """
    factor = overrides.resolution_factor
    if factor is None:
        return overrides
    assert overrides.resolution is None, "pixels and a multiple of them"
    baseline = spec.input.resolution
    if not (math.isfinite(factor) and 0 < factor <= MAX_RESOLUTION):
        raise SpecError(f"--resolution {factor:g}x: expected a multiple above 0 of the baseline's {baseline} pixels")
    pixels = round(baseline * factor)
    _check_resolution(spec, pixels, f"--resolution {factor:g}x ({pixels} pixels)")
    return replace(overrides, resolution=pixels, resolution_factor=None)


def apply_overrides(coefficients: Coefficients, overrides: Overrides) -> Coefficients:
    """The coefficients with width, depth and resolution (by now in pixels) set by hand where asked."""
    assert overrides.resolution_factor is None, "a multiple of the baseline's resolution: see in_pixels"
    chosen = {key: value for key in ("width", "depth", "resolution") if (value := getattr(overrides, key)) is not None}
    if not chosen:
        return coefficients
    by_hand = ", ".join(f"{key}={value:g}" for key, value in chosen.items())
    return replace(coefficients, **chosen, source=f"{coefficients.source}; by hand {by_hand}")


def scale(spec: NetworkSpec, coefficients: Coefficients, overrides: Overrides | None = None) -> NetworkSpec:
    """The spec with channels, repeats and resolution scaled: what is lowered to a graph.

    Raises SpecError where what was asked makes no network: a multiplier or epsilon that is not positive, no classes,
    a resolution under the total stride, or more channels or repeats than a spec may have.
    """
    asked = in_pixels(spec, overrides or Overrides())
    final = apply_overrides(coefficients, asked)
    _check(spec, final, asked)
    _check_by_hand(spec, asked)
    stages = [_scaled_stage(stage, final, spec.rounding) for stage in spec.stages]
    stem = _with_channels(_widened(spec.stem, final.width, spec.rounding), asked.stem_channels)
    head = spec.head and _with_channels(_widened(spec.head, final.width, spec.rounding), asked.head_channels)
    _check_bounds((stem, *stages, *([head] if head else [])), final, asked)
    classes = spec.classifier.classes if asked.classes is None else asked.classes
    classifier = {"dropout": final.dropout, "classes": classes}
    norm = {} if asked.norm_eps is None else {"eps": asked.norm_eps}
    return spec.model_copy(
        update={
            "input": _scaled_input(spec.input, final.resolution, asked.image_width),
            "padding": asked.padding or spec.padding,
            "norm": spec.norm.model_copy(update=norm),
            "stem": stem,
            "stages": stages,
            "head": head,
            "classifier": spec.classifier.model_copy(update=classifier),
        }
    )


def _scaled_input(image: InputSpec, resolution: int, width: int | None) -> InputSpec:
    """The image with this height; `width` None: in the shape that it had."""
    if width is None:
        return image.resized(resolution)
    return image.model_copy(update={"resolution": resolution, "width": None if width == resolution else width})


def _check(spec: NetworkSpec, final: Coefficients, asked: Overrides) -> None:
    for key in ("width", "depth"):
        value = getattr(final, key)
        if not (math.isfinite(value) and 0 < value <= MAX_MULTIPLIER):
            raise SpecError(f"{_blamed(key, final, asked)}: expected a multiplier above 0, up to {MAX_MULTIPLIER:g}")
    height, width = _scaled_input(spec.input, final.resolution, asked.image_width).size
    blamed = _blamed("resolution", final, asked)
    _check_resolution(spec, height, blamed)
    if width != height:
        _check_resolution(spec, width, f"{blamed}: {width} pixels wide")


def _check_bounds(parts: Sequence[StemSpec | StageSpec | HeadSpec], final: Coefficients, asked: Overrides) -> None:
    """What a spec that is written down has to keep to."""
    channels = max(part.channels for part in parts)
    if channels > MAX_CHANNELS:
        raise SpecError(f"{_blamed('width', final, asked)}: makes {channels} channels; expected at most {MAX_CHANNELS}")
    repeats = max(part.repeats for part in parts if isinstance(part, StageSpec))
    if repeats > MAX_REPEATS:
        raise SpecError(f"{_blamed('depth', final, asked)}: makes {repeats} repeats; expected at most {MAX_REPEATS}")


def _check_resolution(spec: NetworkSpec, pixels: int, blamed: str) -> None:
    if not spec.total_stride <= pixels <= MAX_RESOLUTION:
        raise SpecError(
            f"{blamed}: expected from {spec.total_stride} (the network's total stride) to {MAX_RESOLUTION} pixels"
        )


def _blamed(key: str, final: Coefficients, asked: Overrides) -> str:
    """What the user wrote that led to this value: the override, or phi."""
    value = f"{getattr(final, key):g}"
    return f"--{key} {value}" if getattr(asked, key) is not None else f"{key} {value} (from the {final.source})"


def _check_by_hand(spec: NetworkSpec, asked: Overrides) -> None:
    """The bounds of the spec's own keys, for values that never passed its validation."""
    for option, channels in (("--stem-channels", asked.stem_channels), ("--head-channels", asked.head_channels)):
        if channels is not None and not 1 <= channels <= MAX_CHANNELS:
            raise SpecError(f"{option} {channels}: expected from 1 to {MAX_CHANNELS}")
    if asked.head_channels is not None and spec.head is None:
        raise SpecError(f"--head-channels {asked.head_channels}: {spec.name} has no head; leave it out")
    if asked.classes is not None and not 1 <= asked.classes <= 1_000_000:
        raise SpecError(f"--classes {asked.classes}: expected from 1 to 1000000")
    if asked.norm_eps is not None and not 0 < asked.norm_eps <= 0.1:
        raise SpecError(f"--norm-eps {asked.norm_eps:g}: expected a number above 0, up to 0.1")


def _scaled_stage(stage: StageSpec, by: Coefficients, rounding: RoundingSpec) -> StageSpec:
    widened = _widened(stage, by.width, rounding)
    repeats = round_repeats(stage.repeats, by.depth, rounding) if stage.scale_depth else stage.repeats
    return widened.model_copy(update={"repeats": repeats})


Scalable = TypeVar("Scalable", StemSpec, StageSpec, HeadSpec)


def _widened(part: Scalable, width: float, rounding: RoundingSpec) -> Scalable:
    if not part.scale_width:
        return part
    return part.model_copy(update={"channels": round_channels(part.channels * width, rounding)})


def _with_channels(part: Scalable, channels: int | None) -> Scalable:
    return part if channels is None else part.model_copy(update={"channels": channels})


def round_channels(channels: float, rounding: RoundingSpec) -> int:
    """Nearest multiple of the divisor, never below it, and never below `min_fraction` of what was asked.

    The rule of the released EfficientNets (`round_filters`): max(8, int(c + 4) // 8 * 8), plus 8 if under 0.9 c.
    """
    divisor = rounding.channel_divisor
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    if rounded < rounding.min_fraction * channels:
        rounded += divisor
    return rounded


def round_repeats(repeats: int, depth: float, rounding: RoundingSpec) -> int:
    """Scaled repeats of a stage, at least one (`round_repeats` of the released models: ceil)."""
    scaled = repeats * depth
    return max(1, math.ceil(scaled) if rounding.repeats == "ceil" else round(scaled))
