"""`effgen compare`: results of `effgen bench` side by side, as a table, a report to open, or a gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output

_BASELINE = "--baseline"


class SeveralBaselines(typer.core.TyperCommand):
    """Lets `--baseline old/*.json` take all the files that the shell makes of it, up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Every word behind `--baseline` gets an option of its own."""
        return super().parse_args(ctx, repeated(args))


def repeated(words: list[str]) -> list[str]:
    """`--baseline a b -o c` as `--baseline a --baseline b -o c`."""
    made: list[str] = []
    taking = False
    for word in words:
        if word.startswith("-") and word != "-":
            taking = word == _BASELINE
            made += [] if taking else [word]
        else:
            made += [_BASELINE, word] if taking else [word]
    return made


def compare(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="What effgen bench --json wrote, with --layers too; folders of it."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the report: one HTML file.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the rows as CSV.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write the tables as Markdown.")
    ] = None,
    baseline: Annotated[
        list[Path] | None,
        typer.Option(_BASELINE, metavar="FILE...", help="Earlier results: show what has become slower."),
    ] = None,
    gate: Annotated[
        float | None,
        typer.Option(min=0, metavar="PERCENT", help="With --baseline: exit status 3 where a case is slower by more."),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="With --gate: pass where cases of the baseline were not measured again."),
    ] = False,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Set results side by side: models, machines, backends; against a baseline, with a gate for CI."""
    said = Output(quiet, verbose, json)
    if gate is not None and not baseline:
        raise typer.BadParameter("--gate judges against earlier results: add --baseline")
    if allow_missing and gate is None:
        raise typer.BadParameter("--allow-missing says what the gate lets pass: add --gate")
    from effgen.report.compare import json_from_comparison, notes_from_comparison, tables_from_comparison
    from effgen.report.compare_files import Files, write_files
    from effgen.results.comparison import compare_files
    from effgen.results.regressions import check_gate

    wanted = Files(output, csv, markdown)
    wanted.check()
    comparison = compare_files(files, baseline or ())
    for line in comparison.doubts:
        said.warn(line)
    write_files(comparison, gate, wanted)
    notes = [Text(note) for note in notes_from_comparison(comparison)]
    said.result([*tables_from_comparison(comparison, gate), *notes], json_from_comparison(comparison, gate))
    if comparison.regressions is not None and gate is not None:
        check_gate(comparison.regressions, gate, allow_missing)
