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
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Set results side by side: models, machines, backends; against a baseline, with a gate for CI."""
    said = Output(quiet, verbose, json)
    if gate is not None and not baseline:
        raise typer.BadParameter("--gate judges against earlier results: add --baseline")
    from effgen.compare.comparison import compare_files
    from effgen.compare.regressions import check_gate
    from effgen.report import check_writable
    from effgen.report_compare import (
        csv_from_comparison,
        json_from_comparison,
        markdown_from_comparison,
        notes_from_comparison,
        tables_from_comparison,
        write_text,
    )

    for option, path in (("-o/--output", output), ("--csv", csv), ("--markdown", markdown)):
        if path is not None:
            check_writable(option, path)
    if output is not None:
        from effgen.html.page import check_packages

        check_packages()
    comparison = compare_files(files, baseline or ())
    for line in comparison.doubts:
        said.warn(line)
    if csv is not None:
        write_text("--csv", csv, csv_from_comparison(comparison))
    if markdown is not None:
        write_text("--markdown", markdown, markdown_from_comparison(comparison, gate))
    if output is not None:
        from effgen.html.page import page_from_comparison

        write_text("-o/--output", output, page_from_comparison(comparison, gate))
    notes = [Text(note) for note in notes_from_comparison(comparison)]
    said.result([*tables_from_comparison(comparison, gate), *notes], json_from_comparison(comparison, gate))
    if gate is not None:
        assert comparison.regressions is not None
        check_gate(comparison.regressions, gate)
