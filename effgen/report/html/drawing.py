"""What all charts share: colours, logarithmic axes, names that are no markup, and plotly's JSON."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from effgen.report.text import count_text

#: Readable on white and on black, and told apart by most colour-blind readers; effgen's own stands out.
OURS_COLOUR = "#e4572e"
PEER_COLOURS = ("#2a8fc1", "#3f9b5f", "#9467bd", "#8c8c3e", "#7f8fa9", "#c46b9d", "#5b7fd1", "#a9743a")
GROUP_COLOURS = (
    "#2a8fc1", "#e4972e", "#3f9b5f", "#9467bd", "#c8505a", "#7f8fa9", "#8c8c3e", "#c46b9d", "#5b7fd1",
)  # fmt: skip
QUIET_COLOUR = "#a8a8a8"

#: On an axis of more, only powers of ten are labelled.
_MOST_DECADES = 5


@dataclass(frozen=True)
class View:
    """One of a chart's pictures: the name to choose it by, plotly's data and layout, and the words below it."""

    label: str
    figure: dict[str, Any]
    caption: str


def short_name(name: str) -> str:
    """`efficientnet phi=3` as `B3`: the family's name is in every heading."""
    family, _, phi = name.partition(" phi=")
    return f"B{phi}" if family == "efficientnet" and phi.isdigit() else name


def cycle(colours: Sequence[str], count: int) -> Iterable[str]:
    return [colours[index % len(colours)] for index in range(count)]


def log_axis(title: str, values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis over `values` and a little more, with whole numbers on it: plotly's own leave out zeros."""
    low, high = min(values, default=1.0) / 1.4, max(values, default=1.0) * 1.4
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if len(decades) > _MOST_DECADES else (1, 2, 5)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    return {
        "title": {"text": title},
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [count_text(round(tick)) if tick >= 10**6 else f"{tick:g}" for tick in ticks],
    }


def plain_text(text: str) -> str:
    """Plotly takes some HTML for markup: a name is no markup."""
    return html.escape(text, quote=False)


def json_from_figure(figure: go.Figure) -> dict[str, Any]:
    """Plotly's data and layout as JSON values, without the default template, which the page's own colours replace."""
    figure.update_layout(template=None)
    made: dict[str, Any] = json.loads(figure.to_json())
    return {"data": made["data"], "layout": made["layout"]}
