"""`effgen train` as lines, a table and JSON. Nothing is decided here."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from effgen.report.text import threads_text

if TYPE_CHECKING:
    from effgen.method.training.recipe import Recipe
    from effgen.method.training.request import TrainPlan, TrainReport
    from effgen.method.training.trainer import EpochResult


def json_from_train(report: TrainReport) -> dict[str, Any]:
    """Keys as the fields of `TrainReport` and `Recipe`."""
    return {**asdict(report), "recipe": report.recipe.model_dump(mode="json")}


def lines_from_plan(plan: TrainPlan) -> list[str]:
    """Data and recipe, before the work starts."""
    data, recipe = plan.data, plan.recipe
    lines = [
        f"{data.root}: {len(data.classes)} classes, {len(data.train):,} pictures to learn from, "
        f"{len(data.val):,} to judge by",
        f"{recipe.epochs} epochs, batches of {recipe.batch_size}, {recipe.optimizer}, learning rate "
        f"{recipe.learning_rate:g}, seed {recipe.seed}, {threads_text(plan.threads)}",
    ]
    checkpoint = plan.request.checkpoint
    return lines + ([f"going on from {checkpoint}"] if checkpoint.exists() else [])


def line_from_epoch(result: EpochResult, recipe: Recipe) -> str:
    """What an epoch came to."""
    count = f"{result.epoch:{len(str(recipe.epochs))}}/{recipe.epochs}"
    return f"epoch {count}  loss {result.loss:.4f}  accuracy {result.accuracy:.2%}"


def table_from_train(report: TrainReport) -> Table:
    """What was trained, and how well it did: a few lines."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    lines = {
        "weights": report.weights,
        "labels": report.labels,
        "model": f"{report.model}, {report.parameters:,} parameters, {report.macs:,} MACs an image",
        "accuracy": f"{report.accuracy:.2%} of {report.validation_pictures:,} validation pictures",
        "trained in": f"{report.seconds:.1f} s, {len(report.history)} epochs, {threads_text(report.threads)}",
    }
    for key, value in lines.items():
        table.add_row(key, Text(value))
    return table
