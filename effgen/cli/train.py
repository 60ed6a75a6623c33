"""`effgen train`: weights for a network, learned from a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from effgen.cli import options as o
from effgen.cli.console import Output
from effgen.cli.groups import grouped

if TYPE_CHECKING:
    from effgen.method.training.trainer import EpochResult


@grouped
def train(
    destination: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The .safetensors file of weights to write.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Pictures, a folder for each class: below train/ and val/, or alone and split here."
        ),
    ],
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="How to train, as TOML; default: for small data sets.")
    ] = None,
    *,
    network: o.ToTrain,
    val_share: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Of pictures that are not split: the share to judge by; default: 0.2."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Instead of the recipe's.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="PyTorch's; default: the physical cores, fewer for a small network.")
    ] = None,
    force: o.Force = False,
    json: o.Json = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Train a network in PyTorch and write its weights for effgen compile, with the classes' names beside them.

    Stop with Ctrl-C when you like: the same command goes on after the last whole epoch.
    """
    output = Output(quiet, verbose, json)
    from effgen.method.training.threads import wait_asleep

    wait_asleep()
    from effgen.method.training.request import TrainRequest, plan_training, train_to_file
    from effgen.report.train import json_from_train, line_from_epoch, lines_from_plan, table_from_train

    plan = plan_training(TrainRequest(network.of_spec(), data, destination, recipe, val_share, seed, threads, force))
    output.resolved(plan.network)
    for line in lines_from_plan(plan):
        output.info(line)

    def show(result: EpochResult) -> None:
        output.info(line_from_epoch(result, plan.recipe))

    report = train_to_file(plan, show)
    output.result([table_from_train(report)], json_from_train(report))
