"""Tables of numbers, as every command prints them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from rich import box
from rich.table import Table
from rich.text import Text

_STATUS_STYLE = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def _status(status: str, text: str) -> Text:
    return Text(text, style=_STATUS_STYLE[status])


def numbers_table(title: str | None, columns: Iterable[str], left: int, wrap: Collection[str] = ()) -> Table:
    """A table whose first `left` columns are text and whose others are numbers; those named in `wrap` may be folded."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.title_justify, table.title_style = "left", "bold"
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", no_wrap=column not in wrap)
    return table
