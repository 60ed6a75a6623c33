"""Training a network in PyTorch: seeded, resumable, judged after every epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from effgen.errors import TrainingError
from effgen.files.staging import check_file
from effgen.graph import Weights
from effgen.machines.processor import default_threads
from effgen.method.training.augment import Augmentation, canvas_size, normalised, unit_values
from effgen.method.training.checkpoint import Identity, not_restored, read_checkpoint, write_checkpoint
from effgen.method.training.data import DataSource
from effgen.method.training.images import open_images
from effgen.method.training.module import TrainableNetwork
from effgen.method.training.optimizers import MovingAverage, learning_rate, load_memories, optimizer_for
from effgen.method.training.recipe import Recipe
from effgen.method.training.threads import torch_threads
from effgen.network.lowering.network import lower
from effgen.network.preparation import preparation_from_spec
from effgen.network.spec import NetworkSpec

#: Pictures that are judged at once, at most.
_EVALUATED_AT_ONCE = 256

#: What PyTorch's plain RuntimeError says where the CPU's memory ends.
_NOT_ENOUGH_MEMORY = ("not enough memory", "can't allocate memory")

#: What PyTorch raises where a state is of another network or none.
_NOT_OURS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


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
    the epochs one by one, PyTorch's threads, and the averaged weights under the graph's names."""

    accuracy: float
    epochs: int
    seconds: float
    history: tuple[EpochResult, ...]
    threads: int
    weights: Weights = field(repr=False, compare=False)


def train(
    spec: NetworkSpec,
    data: DataSource,
    recipe: Recipe,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochResult], bool] = lambda result: True,
    threads: int | None = None,
    readers: int | None = None,
) -> Trained:
    """Train the network of the scaled `spec`, whose classes are the data set's (`fitted_to`): on a GPU, if any.

    `on_epoch` is called after each epoch; False ends the training there. With a `checkpoint` path it goes on from that
    file where there is one, calling `on_epoch` for the epochs in it first, and writes it after each epoch, whole or not
    at all. `readers`: so many threads or processes decode pictures, None: `default_threads`. On a CPU the outcome
    depends on the arguments alone, `threads` (of PyTorch's operators; None: as they are set) included, to the last bit
    and however often it was interrupted. Raises DataError for a picture that cannot be read, TrainingError where the
    training diverges or needs more memory than there is, the checkpoint is another training's or this process may not
    use so many CPUs, BuildError where the checkpoint cannot be written.
    """
    assert spec.classifier.classes == len(data.classes), (spec.classifier.classes, data.classes)
    if checkpoint is not None:
        check_file(checkpoint, force=True)
    with torch_threads(threads) as used:
        identity = Identity.of(spec, recipe, data)
        with _enough_memory(spec, recipe):
            training = _Training(spec, data, recipe, readers or default_threads())
            if checkpoint is not None and checkpoint.exists():
                state = read_checkpoint(checkpoint, identity, training.device)
                try:
                    training.restore(state)
                except _NOT_OURS as error:
                    if _lacks_memory(error):
                        raise
                    raise not_restored(checkpoint) from None
        goes_on = all(on_epoch(result) for result in training.history)
        while goes_on and len(training.history) < recipe.epochs:
            with _enough_memory(spec, recipe):
                training.run_epoch()
            if checkpoint is not None:
                write_checkpoint(checkpoint, identity, training.state())
            goes_on = on_epoch(training.history[-1])
        return training.outcome(used)


@contextmanager
def _enough_memory(spec: NetworkSpec, recipe: Recipe) -> Iterator[None]:
    """A GPU's allocator has an error of its own, the CPU's tells by its words."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _lacks_memory(error):
            raise
        raise TrainingError(
            f"{spec.name}: not enough memory to train at {spec.input.resolution} pixels with batch_size "
            f"{recipe.batch_size}: lower batch_size, or take a smaller network"
        ) from None


def _lacks_memory(error: Exception) -> bool:
    told = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return told or any(words in str(error) for words in _NOT_ENOUGH_MEMORY)


class _Training:
    """A network on its way: everything that changes from epoch to epoch, and one method that makes a step of it."""

    def __init__(self, spec: NetworkSpec, data: DataSource, recipe: Recipe, readers: int) -> None:
        self._spec, self._recipe = spec, recipe
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._generator = torch.Generator(self.device)
        graph = lower(spec)
        # Two of the same: the second is the average, and is judged.
        self._network, self._average = (
            TrainableNetwork(graph, spec, recipe.drop_connect, recipe.seed, self._generator).to(
                self.device, memory_format=torch.channels_last
            )
            for _ in range(2)
        )
        self._network.train()
        self._average.eval().requires_grad_(False)
        self._ema = MovingAverage(self._average, self._network, recipe.ema_decay)
        self._optimizer = optimizer_for(self._network, graph, recipe)
        self._half = recipe.mixed_precision == "auto" and self.device.type == "cuda"
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self._half)
        self._augmentation = Augmentation(spec.input, recipe.augment, self._generator)
        canvas = canvas_size(spec.input, recipe.augment)
        self._train_images = open_images(data, data.train, preparation_from_spec(spec.input, canvas), readers)
        self._val_images = open_images(data, data.val, preparation_from_spec(spec.input), readers)
        self._batch = min(recipe.batch_size, len(data.train))
        self._steps_an_epoch = len(data.train) // self._batch
        self.history: list[EpochResult] = []
        self._seconds = 0.0

    def run_epoch(self) -> None:
        """Learn from every training picture once, but for those that make no whole batch, and judge. Appends to
        `history`."""
        started = time.perf_counter()
        epoch = len(self.history) + 1
        order = self._begin(epoch)
        total = torch.zeros((), device=self.device)
        for step, (pixels, labels) in enumerate(self._train_images.batches(order, self._batch)):
            total += self._step((epoch - 1) * self._steps_an_epoch + step, pixels, labels)
        loss = total.item() / self._steps_an_epoch
        self._check_finite(epoch, loss)
        self.history.append(EpochResult(epoch, loss, self._accuracy()))
        self._seconds += time.perf_counter() - started

    def _check_finite(self, epoch: int, loss: float) -> None:
        """The loss tells of all steps but the last, whose outcome is in the average."""
        if np.isfinite(loss) and all(bool(tensor.isfinite().all()) for tensor in self._average.tensors().values()):
            return
        raise TrainingError(
            f"{self._spec.name}: diverged in epoch {epoch}: loss {loss:g}; expected finite numbers: try a lower "
            f"learning_rate than {self._recipe.learning_rate:g}, a longer warm-up or a gradient_clip"
        )

    def _begin(self, epoch: int) -> torch.Tensor:
        """The order of an epoch's pictures. Its random numbers depend on the recipe's seed and the epoch alone, so that
        no generator's state has to be kept."""
        seeds = np.random.SeedSequence((self._recipe.seed, epoch)).generate_state(2, np.uint64)
        order_seed, noise_seed = seeds.tolist()
        self._generator.manual_seed(noise_seed)
        order = np.random.default_rng(order_seed).permutation(len(self._train_images))
        return torch.from_numpy(order[: self._steps_an_epoch * self._batch])

    def _step(self, step: int, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One batch; `step` counts from the start of the training. Its loss."""
        recipe = self._recipe
        for group in self._optimizer.param_groups:
            # At the step's middle: neither the first of a warm-up nor the last of all stands still.
            group["lr"] = learning_rate(recipe, (step + 0.5) / self._steps_an_epoch)
        images = normalised(self._augmentation(pixels.to(self.device)), self._spec.input)
        with torch.autocast(self.device.type, torch.float16, enabled=self._half):
            logits = self._network(images.contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(logits, labels.to(self.device), label_smoothing=recipe.label_smoothing)
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()
        if recipe.gradient_clip:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), recipe.gradient_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._ema.update(step)
        return loss.detach()

    def _accuracy(self) -> float:
        """The share of validation pictures whose likeliest class, by the averaged network, is theirs."""
        right, order = 0, torch.arange(len(self._val_images))
        at_once = min(_EVALUATED_AT_ONCE, self._batch)  # as many as there was memory to learn from
        for pixels, labels in self._val_images.batches(order, at_once):
            images = normalised(unit_values(pixels.to(self.device)), self._spec.input)
            with torch.inference_mode():
                answers = self._average(images.contiguous(memory_format=torch.channels_last)).argmax(1)
            right += int((answers.cpu() == labels).sum())
        return right / len(order)

    def state(self) -> dict[str, Any]:
        """What a later process needs to go on from here."""
        return {
            "network": self._network.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "history": [asdict(result) for result in self.history],
            "seconds": self._seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state()` returned."""
        self._network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        load_memories(self._optimizer, state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.history = [EpochResult(**result) for result in state["history"]]
        if [result.epoch for result in self.history] != list(range(1, len(self.history) + 1)) or not self.history:
            raise ValueError("no epochs")
        if not all(np.isfinite((result.loss, result.accuracy)).all() for result in self.history):
            raise ValueError("no results")
        self._seconds = float(state["seconds"])

    def outcome(self, threads: int) -> Trained:
        """What has been learned so far: at least one epoch."""
        weights = {name: tensor.cpu().contiguous().numpy().copy() for name, tensor in self._average.tensors().items()}
        history = tuple(self.history)
        return Trained(history[-1].accuracy, len(history), self._seconds, history, threads, weights)
