"""`effgen pack` and `effgen unpack`: a bundle with its runtime as one archive, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from effgen.cli import options as o
from effgen.cli.console import Output


def pack(
    bundle: o.Bundle,
    runtime: Annotated[
        Literal["aarch64", "x86_64"] | None,
        typer.Option(help="The processor family that it must be for; default: the bundle's."),
    ] = None,
    destination: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The .tar.gz to write; default: by model and target."),
    ] = None,
    with_model: Annotated[
        bool, typer.Option("--with-model", help="Carry model.onnx too, which effgen verify and bench judge by.")
    ] = False,
    sign: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY", help="Sign it: a private key of Ed25519 in PEM (openssl genpkey -algorithm ed25519)."
        ),
    ] = None,
    force: o.Force = False,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Write a bundle, TVM's runtime, effgen-run and a script that verifies them as one archive."""
    output = Output(quiet, verbose, json)
    from effgen.deploy.pack import PackRequest, pack_bundle
    from effgen.report.pack import json_from_pack, table_from_pack

    with output.phases() as on_phase:
        packed = pack_bundle(PackRequest(bundle, runtime, destination, with_model, force, sign), on_phase)
    output.result([table_from_pack(packed)], json_from_pack(packed))


def unpack(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="A .tar.gz that effgen pack wrote.")],
    destination: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")],
    key: Annotated[
        Path | None, typer.Option(metavar="PUBLIC_KEY", help="The public key (PEM) of who must have signed it.")
    ] = None,
    force: o.Force = False,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Unpack an archive of effgen pack, every file checked before it appears."""
    output = Output(quiet, verbose, json)
    from effgen.deploy.unpack import unpack_archive
    from effgen.report.pack import json_from_unpacked, table_from_unpacked

    with output.phases() as on_phase:
        unpacked = unpack_archive(archive, destination, force, on_phase, key=key)
    output.result([table_from_unpacked(unpacked)], json_from_unpacked(unpacked))
