"""`effgen compile`: a network as a bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from effgen.cli import options as o
from effgen.cli.console import Output
from effgen.cli.groups import grouped


@grouped
def compile_(
    context: typer.Context,
    destination: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The bundle directory to write.")],
    network: o.AnyNetwork,
    weights: o.WeightsOption = None,
    weights_key: o.WeightsKey = None,
    rename: o.Rename = None,
    seed: o.Seed = 0,
    target: o.Target = "cpu",
    threads: o.Threads = None,
    dtype: o.Dtype = "float32",
    cuda_arch: Annotated[
        str | None, typer.Option(metavar="NAMES", help="GPU architectures to compile for, e.g. sm_80,sm_90.")
    ] = None,
    emit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="More to write, with commas between: standalone (a C library that needs nothing), executable.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="C_NAME", help="What the C library of --emit is called, e.g. my_model.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE|imagenet", help="The classes' names, one a line; imagenet: an installed timm's."),
    ] = None,
    db: o.Database = None,
    force: o.Force = False,
    debug_dump: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the text of every stage into this directory.")
    ] = None,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Compile a network for a machine: library, ONNX, manifest and golden pair in one directory."""
    output = Output(quiet, verbose, json)
    start = time.perf_counter()
    from effgen.deploy.standalone import emits_from_texts
    from effgen.driver import CompileRequest, check_request, compile_bundle
    from effgen.judge.memory import watched_memory
    from effgen.machines.target_file import cuda_archs_from_text
    from effgen.report.compile import (
        Cost,
        json_from_manifest,
        lines_from_kernels,
        table_from_manifest,
        warning_from_manifest,
    )

    asked = network.request(context)
    archs = () if cuda_arch is None else cuda_archs_from_text(cuda_arch)
    emits = emits_from_texts(emit or [])
    request = CompileRequest(
        asked,
        destination,
        target,
        weights,
        seed,
        threads,
        dtype,
        archs,
        force,
        debug_dump,
        db,
        emits,
        labels,
        name,
        o.weights_choice(weights_key, rename),
    )
    resolved = check_request(request)
    output.resolved(resolved, target=target, threads=threads)
    with output.phases() as on_phase, watched_memory() as memory:
        manifest = compile_bundle(request, on_phase, resolved)
    seconds = time.perf_counter() - start
    output.warn(warning_from_manifest(manifest))
    output.details(lines_from_kernels(manifest))
    cost = Cost(seconds, memory.bytes)
    table = table_from_manifest(manifest, destination, cost)
    output.result([table], json_from_manifest(manifest, destination, cost))
