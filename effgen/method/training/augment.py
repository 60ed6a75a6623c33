"""Changing training pictures at random: one affine resampling and a change of light, on whole batches of tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from effgen.method.training.recipe import AugmentSpec
from effgen.network.spec import InputSpec

#: Where parts are cut out and enlarged, the stored picture is this many times as wide as the network's input.
CANVAS = 1.25


def canvas_side(image: InputSpec, augment: AugmentSpec) -> int:
    """Pixels along the shorter side of what training pictures are decoded to."""
    shorter = min(image.size)
    framed = shorter + image.crop_padding
    return framed if augment.min_area == 1 else max(framed, math.ceil(CANVAS * shorter))


def canvas_size(image: InputSpec, augment: AugmentSpec) -> tuple[int, int]:
    """Height and width that training pictures are decoded to, in the proportions of the image."""
    return image.size_of(canvas_side(image, augment) - min(image.size))


def normalised(pixels: Tensor, image: InputSpec) -> Tensor:
    """Values 0..1 (batch, channels, height, width) as the network takes them: (x - mean) / std, as bundles do."""
    mean, std = (torch.tensor(values, device=pixels.device).view(1, -1, 1, 1) for values in (image.mean, image.std))
    return (pixels * image.pixel_range - mean) / std


def unit_values(pixels: Tensor) -> Tensor:
    """uint8 as float32 from 0 to 1."""
    return pixels.to(torch.float32) / 255


class Augmentation:
    """From stored pictures, uint8 (batch, channels, height, width) of the canvas, to values 0..1 of the network's size.

    Without any change it is the middle that evaluation sees.
    """

    def __init__(self, image: InputSpec, augment: AugmentSpec, generator: torch.Generator) -> None:
        self._image, self._augment, self._generator = image, augment, generator
        self._moves = augment != AugmentSpec(brightness=augment.brightness, contrast=augment.contrast)
        self._relights = augment.brightness > 0 or augment.contrast > 0
        self._seen = min(image.size) / (min(image.size) + image.crop_padding)

    def __call__(self, pixels: Tensor) -> Tensor:
        """`pixels` on the generator's device."""
        values = unit_values(pixels)
        values = self._moved(values) if self._moves else self._middle(values)
        return self._relit(values) if self._relights else values

    def _middle(self, values: Tensor) -> Tensor:
        height, width = self._image.size
        top, left = (values.shape[-2] - height) // 2, (values.shape[-1] - width) // 2
        return values[..., top : top + height, left : left + width]

    def _moved(self, values: Tensor) -> Tensor:
        size = [len(values), values.shape[1], *self._image.size]
        wide = values.shape[-1] / values.shape[-2]
        grid = functional.affine_grid(self._transforms(len(values), wide), size, align_corners=False)
        return functional.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _transforms(self, count: int, wide: float = 1.0) -> Tensor:
        """`(count, 2, 3)`: from places in the result to places in the stored picture, both from -1 to 1; that is `wide`
        times as wide as high, and turned as pixels turn."""
        by = self._augment
        width, height, x, y = self._windows(count)
        x = x + 2 * width * by.shift * self._signed(count)
        y = y + 2 * height * by.shift * self._signed(count)
        if by.flip:
            width = width * torch.sign(self._signed(count))
        angle = math.radians(by.rotate) * self._signed(count)
        cos, sin = torch.cos(angle), torch.sin(angle)
        across = torch.stack((cos * width, -sin * height / wide, x), 1)
        rows = (across, torch.stack((sin * width * wide, cos * height, y), 1))
        return torch.stack(rows, 1)

    def _windows(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Half the width and height of what is cut out, and its middle; the picture reaches from -1 to 1."""
        by = self._augment
        if by.min_area == 1:
            seen = torch.full((count,), self._seen, device=self._generator.device)
            return seen, seen, torch.zeros_like(seen), torch.zeros_like(seen)
        area = by.min_area + (1 - by.min_area) * self._uniform(count)
        aspect = torch.exp(math.log(by.max_aspect) * self._signed(count))
        width, height = (torch.sqrt(area * aspect).clamp(max=1), torch.sqrt(area / aspect).clamp(max=1))
        return width, height, (1 - width) * self._signed(count), (1 - height) * self._signed(count)

    def _relit(self, values: Tensor) -> Tensor:
        by, shape = self._augment, (len(values), 1, 1, 1)
        mean = values.mean((1, 2, 3), keepdim=True)
        contrast = 1 + by.contrast * self._signed(len(values)).view(shape)
        brightness = 1 + by.brightness * self._signed(len(values)).view(shape)
        return (((values - mean) * contrast + mean) * brightness).clamp(0, 1)

    def _uniform(self, count: int) -> Tensor:
        """From 0 to 1."""
        return torch.rand(count, generator=self._generator, device=self._generator.device)

    def _signed(self, count: int) -> Tensor:
        """From -1 to 1."""
        return 2 * self._uniform(count) - 1
