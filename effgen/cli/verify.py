"""`effgen verify`: is the bundle right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from effgen.cli import options as o
from effgen.cli.console import Output
from effgen.errors import VerifyError


def verify(
    bundle: o.Bundle,
    threads: o.BundleThreads = None,
    rpc_tracker: o.RpcTracker = None,
    rpc_key: o.RpcKey = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="timm[:NAME]|torchvision[:NAME]",
            help="Judge by that project's model with these weights: that --padding, --norm-eps and spec are right.",
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The checkpoint that BUNDLE was compiled from, for --against.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the inputs.")] = 0,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Compare a bundle's outputs with PyTorch's on several inputs; exit status 3 where they miss the tolerance.

    --against judges by the original: the same weights in the model that timm or torchvision builds.

    A bundle for another processor family runs under its target's emulator, or on a device behind --rpc-tracker.
    """
    output = Output(quiet, verbose, json)
    from effgen.judge.originals import original_from_text
    from effgen.judge.verify import verify_bundle
    from effgen.measure.routes import remote_of_bundle
    from effgen.report.verify import json_from_verify, notes_from_verify, summary_from_verify, table_from_verify

    original = None if against is None else original_from_text(against)
    remote = remote_of_bundle(bundle, rpc_tracker, rpc_key)
    with output.phases() as on_phase:
        report = verify_bundle(bundle, threads, seed, on_phase, remote, original, weights)
    notes = [Text(note) for note in notes_from_verify(report)]
    output.result([table_from_verify(report), *notes], json_from_verify(report))
    if not report.passed:
        hint = (
            "" if original is None else f"; {original.text} is another network: check --padding, --norm-eps and --spec"
        )
        raise VerifyError(f"{bundle}: {summary_from_verify(report)}{hint}")
