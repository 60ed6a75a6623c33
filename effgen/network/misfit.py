"""Why the tensors of a checkpoint do not fit a graph, and which options would make them, in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from effgen.errors import SpecError
from effgen.graph import Graph
from effgen.network.build import Network, NetworkRequest, build_network
from effgen.network.checkpoint_names import Naming, Scheme
from effgen.network.scaling import Overrides
from effgen.network.spec import load_spec, shipped_spec_names

#: How many names of each kind a message lists.
_LISTED = 3

#: Widths of the published mobile networks beside 1.
_WIDTHS = (0.35, 0.5, 0.75, 1.1, 1.2, 1.25, 1.4, 1.5)

_Shapes = Mapping[str, tuple[int, ...]]

_CLASSIFIER = "classifier.weight"


@dataclass(frozen=True)
class _Difference:
    """What does not fit `graph`: names of the file that are missing and surplus, the graph's own of the misshapen.
    `source`: the graph's names -> those in the file, whose tensors have `shapes`."""

    graph: Graph
    source: Mapping[str, str]
    shapes: _Shapes

    @cached_property
    def missing(self) -> list[str]:
        return [name for name in self.source.values() if name not in self.shapes]

    @cached_property
    def surplus(self) -> list[str]:
        return sorted(self.shapes.keys() - set(self.source.values()))

    @cached_property
    def misshapen(self) -> list[str]:
        found = ((name, self.shapes.get(stored)) for name, stored in self.source.items())
        return [name for name, shape in found if shape not in (None, self.graph.parameters[name].shape)]

    def __str__(self) -> str:
        shapes = [
            f"{self.source[name]} {self.shapes[self.source[name]]}, expected {self.graph.parameters[name].shape}"
            for name in self.misshapen
        ]
        groups = {"missing": self.missing, "surplus": self.surplus, "misshapen": shapes}
        return "; ".join(_listing(kind, names) for kind, names in groups.items() if names)


def misfit(graph: Graph, scheme: Scheme, source: Mapping[str, str], shapes: _Shapes) -> str:
    """All that does not fit, empty where everything does. `source`: the graph's names -> those in the file, whose
    tensors have `shapes`."""
    difference = _Difference(graph, source, shapes)
    if not str(difference):
        return ""
    way_out = (
        _fitting_classes(difference)
        or _fitting_rename(difference)
        or _fitting_network(graph, scheme, shapes)
        or _last_words(difference, scheme.naming)
    )
    return f"does not fit {graph.name} ({scheme.naming} names): {difference}{way_out}"


def _listing(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{len(names)} {kind}: {', '.join(names[:_LISTED])}{more}"


def _fitting_classes(found: _Difference) -> str:
    """Where the classifier alone is another."""
    alone = _CLASSIFIER in found.misshapen and all(name.startswith("classifier.") for name in found.misshapen)
    if found.missing or found.surplus or not alone:
        return ""
    shape = found.shapes[found.source[_CLASSIFIER]]
    fits = len(shape) == 2 and shape[1] == found.graph.parameters[_CLASSIFIER].shape[1]
    return f"; give --classes {shape[0]}" if fits else ""


def _fitting_rename(found: _Difference) -> str:
    """Where the classifier alone has another name, as after fine-tuning (`fc.1.weight`)."""
    wanted = found.source[_CLASSIFIER].removesuffix(".weight")
    layers = {name.rpartition(".")[0] for name in found.surplus}
    if found.misshapen or set(found.missing) != {f"{wanted}.weight", f"{wanted}.bias"} or len(layers) != 1:
        return ""
    (layer,) = layers
    shape, (classes, features) = found.shapes.get(f"{layer}.weight", ()), found.graph.parameters[_CLASSIFIER].shape
    if len(shape) != 2 or shape[1] != features:
        return ""
    asked = f" and --classes {shape[0]}" if shape[0] != classes else ""
    return f"; give --rename '^{re.escape(layer)}\\.={wanted}.'{asked}"


def _fitting_network(graph: Graph, scheme: Scheme, shapes: _Shapes) -> str:
    """The options of a shipped family whose parameters are the file's, name by name and shape by shape."""
    for spec in sorted(shipped_spec_names(), key=lambda other: (other != graph.name, other)):
        rows = [row.name for row in load_spec(spec).scaling.published]
        for phi in rows or ["0"]:
            request = NetworkRequest(spec, phi)
            network = build_network(request)
            if set(scheme.names_for(network.graph, shapes).values()) != shapes.keys():
                continue
            widths = [replace(request, overrides=Overrides(width=width)) for width in _WIDTHS if not rows]
            for asked in (request, *widths):  # width changes shapes only
                options = _fitting_options(asked, scheme, shapes)
                if options is not None:
                    return f"; it fits {' '.join([f'--spec {spec}', f'--phi {phi}', *options])}"
    return ""


def _fitting_options(request: NetworkRequest, scheme: Scheme, shapes: _Shapes) -> list[str] | None:
    """The options (width, classes, channels of stem and head) with which all fits; None where nothing does it."""
    network = build_network(request)
    source = scheme.names_for(network.graph, shapes)
    ends = _options_of_ends(network, source, shapes)
    try:
        graph = build_network(replace(request, overrides=_with_ends(request.overrides, ends))).graph
    except SpecError:
        return None
    if not all(_equal(shapes[source[name]], parameter.shape) for name, parameter in graph.parameters.items()):
        return None
    width = request.overrides.width
    by_hand = {} if width is None else {"width": f"{width:g}"}
    return [f"--{key.replace('_', '-')} {value}" for key, value in {**by_hand, **ends}.items()]


def _options_of_ends(network: Network, source: Mapping[str, str], shapes: _Shapes) -> dict[str, int]:
    """What the file's first and last layers ask for, where that is not what the network has."""
    parameters = network.graph.parameters
    ends = {"classes": _CLASSIFIER, "stem_channels": "stem.conv.weight"}
    ends["head_channels"] = "head.weight" if "head.weight" in parameters else "head.conv.weight"
    return {
        key: shapes[source[name]][0]
        for key, name in ends.items()
        if name in parameters and shapes[source[name]] and shapes[source[name]][0] != parameters[name].shape[0]
    }


def _with_ends(overrides: Overrides, ends: Mapping[str, int]) -> Overrides:
    return replace(
        overrides,
        classes=ends.get("classes"),
        stem_channels=ends.get("stem_channels"),
        head_channels=ends.get("head_channels"),
    )


def _equal(found: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """A linear layer's matrix may stand for the kernel of a 1x1 convolution."""
    return found == expected or (*found, 1, 1) == expected


def _last_words(found: _Difference, naming: Naming) -> str:
    """What is left to say where no shipped network fits."""
    classifier = {stored for name, stored in found.source.items() if name.startswith("classifier.")}
    if set(found.missing) == classifier and not found.surplus:
        return "; the file has no classifier: give the whole network's weights"
    others = [name for name in found.misshapen if not name.startswith("classifier.")]
    elsewhere = "write a spec for it (docs/write-a-spec.md), or give its ONNX export as --onnx"
    if len(found.missing + found.surplus + others) > len(found.source) / 4:
        return f"; no shipped network fits: give its --width or --depth; of a network that is none of them {elsewhere}"
    if naming == "effgen":  # some tensors of a file that was tampered with
        return ""
    if found.surplus and not found.missing and not found.misshapen:
        return f"; more layers than here: {elsewhere}; --rename 'NAME.*=' leaves out what does not run, such as aux"
    return f"; no shipped network fits: {elsewhere}"
