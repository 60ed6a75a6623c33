"""Training a network in PyTorch: seeded, resumable, judged after every epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from effgen.graph import Weights
from effgen.spec import NetworkSpec
from effgen.training.data import DataSource
from effgen.training.recipe import Recipe


@dataclass(frozen=True)
class EpochResult:
    """One epoch, counted from 1.

    `loss` is the mean cross-entropy (label smoothing included) of the training batches; `accuracy` the share, 0..1, of
    the validation pictures that the averaged weights classify rightly.
    """

    epoch: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Trained:
    """What came of a training: the last epoch's accuracy, epochs done, seconds that they took (earlier runs included),
    the epochs one by one, and the averaged weights under the graph's names."""

    accuracy: float
    epochs: int
    seconds: float
    history: tuple[EpochResult, ...]
    weights: Weights = field(repr=False, compare=False)


def train(
    spec: NetworkSpec,
    data: DataSource,
    recipe: Recipe,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochResult], bool] = lambda result: True,
) -> Trained:
    """Train the network of the scaled `spec`, whose classes are the data set's (`fitted_to`).

    `on_epoch` is called after each epoch; False ends the training there. With a `checkpoint` path it goes on from that
    file where there is one, and writes it after each epoch, whole or not at all. Raises DataError for a picture that
    cannot be read, TrainingError where the training diverges or the checkpoint is another training's.
    """
    raise NotImplementedError
