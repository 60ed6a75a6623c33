"""What moves the weights: RMSprop or AdamW, the learning rate of each step, and the average of where they have been."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from effgen.graph import Graph
from effgen.graph.reference import GraphModule
from effgen.method.training.recipe import Recipe

#: Of RMSprop: paper, section 5. Its epsilon, inside the root, is the released training code's.
RMSPROP_DECAY, RMSPROP_MOMENTUM, RMSPROP_EPSILON = 0.9, 0.9, 1e-3


class RMSprop(torch.optim.Optimizer):  # type: ignore[misc]
    """RMSprop with momentum as TensorFlow computes it, which the paper's learning rates are meant for.

    square = 0.9 square + 0.1 gradient^2, from 1; momentum = 0.9 momentum + rate gradient / sqrt(square + 0.001); the
    weight falls by momentum. PyTorch's adds epsilon outside the root, begins at 0, and multiplies the momentum by the
    current rate. Weight decay is added to the gradient.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Move every weight that has a gradient; `closure` is PyTorch's convention and not supported."""
        assert closure is None
        with torch.no_grad():
            self._step_groups()

    def _step_groups(self) -> None:
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            for weight in weights:
                if weight not in self.state:
                    self.state[weight] = {"square": torch.ones_like(weight), "momentum": torch.zeros_like(weight)}
            if weights:
                self._step(weights, group["lr"], group["weight_decay"])

    def _step(self, weights: list[Tensor], rate: float, weight_decay: float) -> None:
        gradients = [weight.grad for weight in weights]
        squares = [self.state[weight]["square"] for weight in weights]
        momenta = [self.state[weight]["momentum"] for weight in weights]
        if weight_decay:
            gradients = torch._foreach_add(gradients, weights, alpha=weight_decay)
        torch._foreach_mul_(squares, RMSPROP_DECAY)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - RMSPROP_DECAY)
        roots = torch._foreach_add(squares, RMSPROP_EPSILON)
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(momenta, RMSPROP_MOMENTUM)
        torch._foreach_addcdiv_(momenta, gradients, roots, value=rate)
        torch._foreach_sub_(weights, momenta)


def optimizer_for(network: GraphModule, graph: Graph, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over the trainable parameters; weight decay on kernels alone."""
    roles = {name: parameter.role for name, parameter in graph.parameters.items() if parameter.trainable}
    tensors = network.tensors()
    groups = [
        {"params": [tensors[name] for name, role in roles.items() if role == "kernel"],
         "weight_decay": recipe.weight_decay},
        {"params": [tensors[name] for name, role in roles.items() if role != "kernel"], "weight_decay": 0.0},
    ]  # fmt: skip
    if recipe.optimizer == "rmsprop":
        return RMSprop(groups, recipe.learning_rate)
    return torch.optim.AdamW(groups, recipe.learning_rate, fused=True)


def load_memories(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """What the optimizer has kept of each weight so far; its rates stay the recipe's.

    Raises ValueError, or what PyTorch raises, where that is another optimizer's or network's.
    """
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, groups, strict=True):
        group.update(own)
    names = {"square", "momentum"} if isinstance(optimizer, RMSprop) else {"step", "exp_avg", "exp_avg_sq"}
    for weight, kept in optimizer.state.items():
        if kept.keys() != names:
            raise ValueError("another optimizer's")
        for name, tensor in kept.items():
            if tensor.dtype != torch.float32 or tensor.shape != (() if name == "step" else weight.shape):
                raise ValueError("another network's")


def learning_rate(recipe: Recipe, epochs: float) -> float:
    """The rate when `epochs` (with its fraction) are over: a line up from 0 in the warm-up, then half a cosine down to
    0 at the end, or the recipe's decay, counted from the start."""
    if recipe.schedule == "exponential":
        factor = recipe.decay ** math.floor(epochs / recipe.decay_epochs)
    else:
        done = max(0.0, epochs - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
        factor = (1 + math.cos(math.pi * done)) / 2
    if epochs < recipe.warmup_epochs:
        factor = epochs / recipe.warmup_epochs
    return recipe.learning_rate * factor


class MovingAverage:
    """A second network whose weights and batch-norm statistics are the exponential moving average of the first's."""

    def __init__(self, average: GraphModule, network: GraphModule, decay: float) -> None:
        self._decay = decay
        self._average, self._current = (list(module.tensors().values()) for module in (average, network))

    def update(self, steps: int) -> None:
        """After a step, when `steps` were taken before it: average += (1 - decay) (current - average).

        The decay grows to its final value as (1 + steps) / (10 + steps), TensorFlow's rule, so that short trainings do
        not keep their initial weights.
        """
        decay = min(self._decay, (1 + steps) / (10 + steps))
        with torch.no_grad():
            torch._foreach_lerp_(self._average, self._current, 1 - decay)
