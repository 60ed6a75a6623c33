"""What the user asks for -> a scaled spec and its graph: the common first steps of every command."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from effgen.errors import SpecError
from effgen.graph import Graph
from effgen.network.lowering.network import lower
from effgen.network.scaling import Coefficients, Overrides, apply_overrides, coefficients_for, in_pixels, scale
from effgen.network.spec import NetworkSpec, load_spec
from effgen.words import Law

#: Batch-norm epsilon is not in a checkpoint. PyTorch: torchvision B0..B4, timm `efficientnet_*`; TensorFlow: the
#: original release, timm `tf_efficientnet_*`, torchvision B5..B7.
NORM_EPS_PRESETS = {"pytorch": 1e-5, "tensorflow": 1e-3}


@dataclass(frozen=True)
class NetworkRequest:
    """A family (shipped name or path), phi (number or row name), a law, a batch size, and what is set by hand."""

    spec: str = "efficientnet"
    phi: str = "0"
    law: Law = "published"
    batch: int = 1
    overrides: Overrides = field(default_factory=Overrides)


@dataclass(frozen=True)
class Network:
    """A scaled network: the request, the coefficients that were applied, the scaled spec and its unfolded graph."""

    request: NetworkRequest
    coefficients: Coefficients
    spec: NetworkSpec
    graph: Graph

    @property
    def title(self) -> str:
        """Family and phi as printed everywhere, e.g. `efficientnet phi=3`."""
        number = self.coefficients.phi
        return f"{self.spec.name} phi={self.request.phi if number is None else f'{number:g}'}"


def build_network(request: NetworkRequest, baseline: NetworkSpec | None = None) -> Network:
    """Load, scale and lower; the network's own request has its resolution in pixels. `baseline`: what the request's
    spec names, where it was read already.

    Raises SpecError (one line) for anything that makes no network.
    """
    if not 1 <= request.batch <= 4096:
        raise SpecError(f"--batch {request.batch}: expected from 1 to 4096 images")
    baseline = baseline or load_spec(request.spec)
    coefficients = coefficients_for(baseline, request.phi, request.law)
    asked = replace(request, overrides=in_pixels(baseline, request.overrides))
    scaled = scale(baseline, coefficients, asked.overrides)
    return Network(asked, apply_overrides(coefficients, asked.overrides), scaled, lower(scaled, request.batch))


def baseline_of(request: NetworkRequest) -> Network:
    """The family at phi 0 with the request's classes, padding and batch norm, one image a call: what it is scaled from.

    Raises SpecError as `build_network` does.
    """
    by_hand = ("width", "depth", "resolution", "resolution_factor", "image_width")
    unscaled = replace(request.overrides, **dict.fromkeys(by_hand))
    return build_network(replace(request, phi="0", batch=1, overrides=unscaled))


def network_from_spec(spec: NetworkSpec, batch: int = 1) -> Network:
    """The network that `spec` describes as it stands: one that is scaled already, or was made by a program.

    Raises SpecError where it makes no network.
    """
    as_it_is = Coefficients(1.0, 1.0, spec.input.resolution, spec.classifier.dropout, 0.0, "formula", "as it stands")
    return Network(NetworkRequest(spec.name, "0", "formula", batch), as_it_is, spec, lower(spec, batch))


def sides_from_text(text: str) -> tuple[int, int] | None:
    """`--resolution` as height and width in pixels (`160x320`); None where it is something else."""
    height, by, width = text.lower().partition("x")
    return (int(height), int(width)) if by and height.isdecimal() and width.isdecimal() else None


def resolution_from_text(text: str) -> tuple[int | None, float | None]:
    """`--resolution`: pixels (`288`), or a multiple of the baseline's own (`2x`); the other of the two is None."""
    try:
        return (None, float(text[:-1])) if text[-1:] in ("x", "X") else (int(text), None)
    except ValueError:
        raise SpecError(
            f"--resolution {text}: expected whole pixels, or a multiple of the baseline's such as 2x, or height and "
            f"width such as 160x320"
        ) from None


def norm_eps_from_text(text: str) -> float:
    """`--norm-eps`: a preset's name or a number in (0, 0.1]."""
    if text in NORM_EPS_PRESETS:
        return NORM_EPS_PRESETS[text]
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value <= 0.1:
        raise SpecError(f"--norm-eps {text}: expected {', '.join(NORM_EPS_PRESETS)} or a number above 0, up to 0.1")
    return value
