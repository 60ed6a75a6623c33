"""The EfficientNets of torchvision and timm, with random but healthy weights: what effgen is compared with."""

from __future__ import annotations

import contextlib
import io
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from effgen.judge.originals import imported


@cache
def _imported(package: str) -> ModuleType:
    """torchvision or timm (which imports torchvision); skips the test where it is absent."""
    pytest.importorskip("torch", reason="compares with torchvision's models", exc_type=ImportError)
    try:
        return imported(package)
    except ImportError:
        pytest.skip("compares with torchvision's models")


def external_model(package: str, name: str, seed: int = 0, **options: Any) -> torch.nn.Module:
    """A model of "torchvision" or "timm" in inference mode, with weights from `randomise`."""
    with warnings.catch_warnings():  # other projects' warnings are not ours to heed
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        if package == "torchvision":
            model = _imported("torchvision.models").get_model(name, weights=None, **options)
        else:
            model = _imported("timm").create_model(name, pretrained=False, **options)
    return randomise(model, seed)


def external_module(name: str) -> ModuleType:
    """A module of torchvision or timm, e.g. "timm.data"."""
    return _imported(name)


def randomise(model: torch.nn.Module, seed: int, resolution: int = 96) -> torch.nn.Module:
    """Make every parameter matter, without outputs that vanish, explode or ignore the image after dozens of layers.

    Kernels, biases and batch-norm scales are drawn; the statistics are those that a batch of noise has on its way
    through (so that each layer sees values of order 1), shaken so that the norms do not undo what was before them.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.empty_like(like).uniform_(low, high, generator=generator)

    def set_statistics(norm: torch.nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        mean, var = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))
        norm.running_mean.copy_(mean + var.sqrt() * uniform(mean, -0.2, 0.2))
        norm.running_var.copy_((var + 0.01 * var.mean()) * uniform(var, 0.7, 1.4))

    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.copy_(uniform(parameter, -0.3, 0.3))
            elif parameter.ndim > 1:
                fan_in = parameter[0].numel()
                parameter.copy_(torch.empty_like(parameter).normal_(0, fan_in**-0.5, generator=generator))
        for norm in norms:
            norm.weight.copy_(uniform(norm.weight, 0.5, 1.5))
            # Where activations bend less, rounding errors do not grow from layer to layer, as in trained networks.
            norm.bias.copy_(uniform(norm.bias, 0.5, 1.5))
        hooks = [norm.register_forward_pre_hook(set_statistics) for norm in norms]
        model.eval()(torch.randn(4, 3, resolution, resolution, generator=generator))
    for hook in hooks:
        hook.remove()
    return model


def output_of(model: torch.nn.Module, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the model computes for `image` (batch, 3, height, width)."""
    with torch.inference_mode():
        output: NDArray[np.float32] = model(torch.from_numpy(image)).numpy()
    return output


def export_onnx(model: torch.nn.Module, path: Path, size: int, batch: int = 1, dynamo: bool = False) -> Path:
    """The model as PyTorch exports it, for images of `size` pixels along a side; `dynamo`: by the newer exporter."""
    image = torch.randn(batch, 3, size, size)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (image,), str(path), dynamo=dynamo, input_names=["image"], output_names=["logits"])
    return path
