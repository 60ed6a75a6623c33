"""What a command says, and where: results on standard output, everything else on standard error."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from effgen.files.terminal import terminal_text
from effgen.report.output import STANDARD_OUTPUT, check_json_path, write_json
from effgen.words import OnPhase

if TYPE_CHECKING:
    from effgen.network import Network
    from effgen.network.file_network import OnnxNetwork

#: Columns for what is not to be folded: also for files and pipes, which rich takes for terminals of 80 columns.
_WIDEST = 200

#: Where there is no terminal, a long phase says this often how far it is.
_NOTE_EVERY_S = 10.0

log = logging.getLogger("effgen")


class Output:
    """Words, progress and results of one command.

    Quiet leaves the results and the errors; verbose adds what the library logs for debugging. With JSON on standard
    output nothing else is written there.
    """

    def __init__(self, quiet: bool, verbose: bool, json_path: str | None = None) -> None:
        if quiet and verbose:
            raise typer.BadParameter("--quiet and --verbose exclude each other")
        check_json_path(json_path)
        self._json_path = json_path
        self._quiet = quiet
        self._out, self._wide_out = _console(), _console(width=_WIDEST)
        self._err = _console(stderr=True)
        log.setLevel(logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO)
        log.handlers[:] = [_Handler(self._err)]

    def resolved(self, network: Network | OnnxNetwork, target: str | None = None, threads: int | None = None) -> None:
        """Log what the options came to, before the work starts."""
        from effgen.report.network import lines_from_network, warning_from_network

        for line in lines_from_network(network, target, threads):
            log.info("%s", line)
        self.warn(warning_from_network(network))

    def details(self, lines: Iterable[str]) -> None:
        """Log what only `--verbose` shows."""
        for line in lines:
            log.debug("%s", line)

    def info(self, line: str) -> None:
        """Log what `--quiet` leaves out."""
        log.info("%s", line)

    def problem(self, text: str) -> None:
        """Log an error that does not end the command."""
        log.error("%s", " ".join(text.split()))

    def warn(self, text: str) -> None:
        """Log a warning, unless there is none."""
        if text:
            log.warning("%s", text)

    def lines(self, lines: Iterable[str]) -> None:
        """Print plain results, unless JSON takes their place."""
        for line in lines if self._json_path != STANDARD_OUTPUT else ():
            self._out.print(Text(terminal_text(line)), soft_wrap=True)

    def result(self, tables: Iterable[RenderableType], data: dict[str, Any]) -> None:
        """Print `tables`, and write `data` where `--json` says."""
        if self._json_path != STANDARD_OUTPUT:
            for table in tables:
                self._print(table)
        if self._json_path is not None:
            write_json(data, self._json_path)

    def _print(self, what: RenderableType) -> None:
        """A table of numbers is printed as wide as it is, one with a column that may be folded as the terminal is."""
        if isinstance(what, Table):
            _on_one_line(what)
        foldable = isinstance(what, Table) and not all(column.no_wrap for column in what.columns)
        (self._out if foldable else self._wide_out).print(what, soft_wrap=isinstance(what, Text))

    @contextmanager
    def phases(self) -> Iterator[OnPhase]:
        """A function to call at the start of each phase; each is logged with its time when the next one starts."""
        with self.noted_phases() as (start, _):
            yield start

    @contextmanager
    def noted_phases(self) -> Iterator[tuple[OnPhase, OnPhase]]:
        """`phases`, and a function that says how far the running one is: by the spinner, or in a line now and then."""
        progress = _Progress(self._err if self._err.is_terminal and not self._quiet else None)
        try:
            yield progress.start, progress.note
            progress.finish()
        finally:
            progress.close()


class _Progress:
    """The running phase as a spinner on a terminal; a line for each finished one everywhere."""

    def __init__(self, terminal: Console | None) -> None:
        self._status = terminal.status("") if terminal else None
        self._phase: str | None = None
        self._started = self._noted = 0.0

    def start(self, phase: str) -> None:
        self.finish()
        self._phase, self._started = phase, time.perf_counter()
        self._noted = self._started
        if self._status:
            self._status.update(Text(phase))
            self._status.start()

    def note(self, text: str) -> None:
        """How far the running phase is."""
        if self._status:
            self._status.update(Text(f"{self._phase}: {text}"))
        elif time.perf_counter() - self._noted > _NOTE_EVERY_S:
            self._noted = time.perf_counter()
            log.info("%s", text)

    def finish(self) -> None:
        if self._phase is not None:
            log.info("%7.2f s  %s", time.perf_counter() - self._started, self._phase)
        self._phase = None

    def close(self) -> None:
        if self._status:
            self._status.stop()


class _Handler(logging.Handler):
    """Log records as plain lines, above the spinner where there is one."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        style = "yellow" if prefix else "dim" if record.levelno < logging.INFO else ""
        self._console.print(Text(prefix + terminal_text(record.getMessage()), style=style), soft_wrap=True)


class _SafeConsole(Console):
    """Sends a terminal nothing of the text that it is given but what can be seen, whoever wrote that text. Colours and
    the like are rich's own, beside the text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                text = "\n".join(map(terminal_text, segment.text.split("\n")))
                yield Segment(text, segment.style)


def _on_one_line(table: Table) -> None:
    """Let no cell begin a line of its own, which could be taken for another row."""
    for column in table.columns:
        # rich has no public way to change a table's cells.
        column._cells[:] = [_cell(cell) for cell in column._cells]


def _cell(cell: RenderableType) -> RenderableType:
    if isinstance(cell, str):
        return terminal_text(cell)
    if isinstance(cell, Text) and not cell.plain.isprintable():
        return Text(terminal_text(cell.plain), cell.style)
    return cell


def _console(stderr: bool = False, width: int | None = None) -> Console:
    if not (sys.stderr if stderr else sys.stdout).isatty():
        width = _WIDEST
    return _SafeConsole(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)
