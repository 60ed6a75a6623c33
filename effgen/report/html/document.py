"""One self-contained HTML file: a page's template filled, with its style, charts and the scripts that draw them."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from effgen.errors import EffgenError
from effgen.report.text import milliseconds_text
from effgen.version import __version__

if TYPE_CHECKING:
    from effgen.report.html.drawing import View

#: What `effgen[report]` installs.
_PACKAGES = ("jinja2", "plotly")


@dataclass(frozen=True)
class Cell:
    """A table's cell: what is read, and what it is sorted by: a number or the text itself; None sorts last."""

    text: str
    sort: float | str | None


@dataclass(frozen=True)
class Column:
    """A table's column: numbers stand on the right and are sorted as such."""

    title: str
    numeric: bool = True


@dataclass(frozen=True)
class PageRow:
    """A table's row; `mark` is a class: ours, slower, faster."""

    cells: Sequence[Cell]
    mark: str = ""


def word_cell(text: str) -> Cell:
    """A cell that is sorted by what it says."""
    return Cell(text, text.lower() or None)


def number_cell(value: float | None, text: str) -> Cell:
    """A cell that is sorted by its value."""
    return Cell(text, value)


def time_cell(value: float | None) -> Cell:
    """A time as everywhere."""
    return Cell(milliseconds_text(value), value)


def check_packages(option: str = "-o/--output") -> None:
    """Raise EffgenError where a package that the report needs is not installed: before the work, not after it."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise EffgenError(f"{option}: {', '.join(missing)}: not installed: pip install 'effgen[report]'")


def document(template: str, charts: Mapping[str, Sequence[View]], **values: Any) -> str:
    """The text of `template` (a file of this package that extends `frame.html`) filled with `values`: about 5 MB, of
    which all but a little is plotly.js.

    `frame.html` needs `summary` (a line), `headlines` (pairs of a figure and words) and `doubts` (lines).
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    scripts = [get_plotlyjs(), _packaged("page.js")]
    environment = Environment(
        loader=FunctionLoader(_packaged),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text: str = environment.get_template(template).render(
        policy=_policy(scripts),
        style=Markup(_packaged("page.css")),
        scripts=[Markup(script) for script in scripts],
        charts=charts,
        chart_data=Markup(_json_for_script(charts)),
        version=__version__,
        **values,
    )
    return text


def _packaged(name: str) -> str:
    return (resources.files("effgen.report.html") / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """A content security policy: these scripts, nothing from anywhere; plotly styles its drawings inline."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def _json_for_script(charts: Mapping[str, Sequence[View]]) -> str:
    """As JSON in which nothing can end the script element that it stands in."""
    data = {
        name: [{"label": view.label, "figure": view.figure, "caption": view.caption} for view in views]
        for name, views in charts.items()
    }
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
