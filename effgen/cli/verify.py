"""`effgen verify`: is the bundle right?"""

from __future__ import annotations

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
    seed: Annotated[int, typer.Option(min=0, help="Seed of the inputs.")] = 0,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Compare a bundle's outputs with PyTorch's on several inputs; exit status 3 where they miss the tolerance.

    A bundle for another processor family runs under its target's emulator, or on a device behind --rpc-tracker.
    """
    output = Output(quiet, verbose, json)
    from effgen.judge.verify import verify_bundle
    from effgen.measure.routes import remote_of_bundle
    from effgen.report.verify import json_from_verify, notes_from_verify, summary_from_verify, table_from_verify

    remote = remote_of_bundle(bundle, rpc_tracker, rpc_key)
    with output.phases() as on_phase:
        report = verify_bundle(bundle, threads, seed, on_phase, remote)
    notes = [Text(note) for note in notes_from_verify(report)]
    output.result([table_from_verify(report), *notes], json_from_verify(report))
    if not report.passed:
        raise VerifyError(f"{bundle}: {summary_from_verify(report)}")
