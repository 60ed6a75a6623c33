"""`effgen train`: a network of a spec learns a folder of pictures; the weights go to a file that `compile` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from effgen.errors import TrainingError
from effgen.files.staging import check_file
from effgen.method.training.checkpoint import labels_beside, save_weights
from effgen.method.training.data import DataSource, fitted_to, open_data
from effgen.method.training.recipe import Recipe, load_recipe
from effgen.method.training.threads import check_threads, training_threads
from effgen.method.training.trainer import EpochResult, Trained, train
from effgen.network import Network, NetworkRequest, build_network


@dataclass(frozen=True)
class TrainRequest:
    """What was asked for. `recipe` None: the default one; `seed` None: the recipe's; `threads` None: as
    `training_threads` has it.

    `val_share` of the pictures (None: VAL_SHARE) are judged by where the folder `data` is not split; `output` is the
    .safetensors file.
    """

    network: NetworkRequest
    data: Path
    output: Path
    recipe: Path | None = None
    val_share: float | None = None
    seed: int | None = None
    threads: int | None = None
    force: bool = False

    @property
    def checkpoint(self) -> Path:
        """Where an unfinished training stands: beside the output."""
        return self.output.with_name(f"{self.output.name}.checkpoint")


@dataclass(frozen=True)
class TrainPlan:
    """What a request came to: all that is read before the work begins. `threads` are PyTorch's."""

    request: TrainRequest
    network: Network
    data: DataSource
    recipe: Recipe
    threads: int


@dataclass(frozen=True)
class TrainReport:
    """What came of it. `classes` are the data set's, in the order of the network's outputs; `accuracy` is the share of
    the validation pictures (0..1) after the last epoch, `seconds` the time of all epochs, `threads` are PyTorch's."""

    model: str
    parameters: int
    macs: int
    resolution: int
    data: str
    digest: str
    classes: tuple[str, ...]
    training_pictures: int
    validation_pictures: int
    recipe: Recipe
    accuracy: float
    seconds: float
    threads: int
    history: tuple[EpochResult, ...]
    weights: str
    labels: str


def plan_training(request: TrainRequest) -> TrainPlan:
    """Read recipe, data and spec. Raises an EffgenError with one line for whatever would make the work fail later."""
    _check_output(request)
    check_threads(request.threads)
    recipe = load_recipe(request.recipe)
    if request.seed is not None:
        recipe = recipe.model_copy(update={"seed": request.seed})
    data = open_data(request.data, request.val_share)
    overrides = replace(request.network.overrides, classes=len(data.classes))
    network = build_network(replace(request.network, overrides=overrides))
    fitted_to(network.spec, data)
    threads = training_threads(request.threads).of(network.graph, min(recipe.batch_size, len(data.train)))
    return TrainPlan(request, network, data, recipe, threads)


def _check_output(request: TrainRequest) -> None:
    if request.output.suffix != ".safetensors":
        raise TrainingError(f"-o {request.output}: expected a file's name that ends in .safetensors")
    check_file(request.output, request.force)
    # Labels are written before the weights, and the checkpoint goes last: a run may have been killed in between.
    cut_short = request.checkpoint.exists() and not request.output.exists()
    check_file(labels_beside(request.output), request.force or cut_short)


def train_to_file(plan: TrainPlan, on_epoch: Callable[[EpochResult], None]) -> TrainReport:
    """Train, and write the weights and, beside them, the classes' names, one a line, as `compile --labels` reads them.

    Interrupted, it goes on after the last whole epoch when it is called again. Raises as `train` and `save_weights` do.
    """

    def goes_on(result: EpochResult) -> bool:
        on_epoch(result)
        return True

    request = plan.request
    trained = train(plan.network.spec, plan.data, plan.recipe, request.checkpoint, goes_on, plan.threads)
    save_weights(trained.weights, request.output, request.force, plan.data.classes)
    request.checkpoint.unlink(missing_ok=True)
    return _report(plan, trained)


def _report(plan: TrainPlan, trained: Trained) -> TrainReport:
    graph, data = plan.network.graph, plan.data
    return TrainReport(
        model=plan.network.title,
        parameters=graph.parameter_count,
        macs=graph.macs,
        resolution=plan.network.spec.input.resolution,
        data=str(data.root),
        digest=data.digest,
        classes=data.classes,
        training_pictures=len(data.train),
        validation_pictures=len(data.val),
        recipe=plan.recipe,
        accuracy=trained.accuracy,
        seconds=trained.seconds,
        threads=trained.threads,
        history=trained.history,
        weights=str(plan.request.output),
        labels=str(labels_beside(plan.request.output)),
    )
