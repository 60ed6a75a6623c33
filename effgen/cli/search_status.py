"""`effgen search status`: the trials of a search, as its storage has them."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from effgen.cli import options as o
from effgen.cli.console import Output


def status(
    storage: Annotated[
        str, typer.Option(metavar="URL", envvar="EFFGEN_STORAGE", help="The search's storage, as it was given to it.")
    ],
    study: Annotated[str, typer.Option(metavar="NAME", help="The search's name in the storage.")],
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Print every trial of a search: what it is, how it ended, and who did it. Changes nothing."""
    output = Output(quiet, verbose, json)
    from effgen.cli.search_options import check_installed
    from effgen.report.trials import json_from_trials, table_from_trials

    check_installed()
    from effgen.method.studies.storage import load_study
    from effgen.method.studies.trials import trial_rows

    with closing(load_study(storage, study)) as shared:
        rows = trial_rows(shared)
        output.result([table_from_trials(shared.where, rows)], json_from_trials(shared.where, rows))
