"""Data sets and recipes that tests of training share: stripes that a tiny network tells apart in a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from networks import tiny_spec
from PIL import Image

from effgen.method.training.data import DataSource, fitted_to, open_data
from effgen.method.training.recipe import Recipe
from effgen.network.spec import NetworkSpec

CLASSES = ("level", "upright")


def write_stripes(folder: Path, each: int = 16, side: int = 16, mode: str = "RGB") -> Path:
    """`folder/level` and `folder/upright`, `each` PNG files in both: noise and stripes of a random phase."""
    generator = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            wave = 127 + 80 * np.sin(np.arange(side) * 1.6 + generator.uniform(0, 6))
            stripes = np.broadcast_to(wave[:, None] if name == "level" else wave, (side, side))
            noisy = (stripes + generator.normal(0, 20, (side, side))).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).convert(mode).save(folder / name / f"{number:03}.png")
    return folder


def striped_data(folder: Path, **options: Any) -> DataSource:
    """`write_stripes` looked over."""
    return open_data(write_stripes(folder, **options))


def small_spec(data: DataSource, **replaced: str) -> NetworkSpec:
    """`networks.TINY` at 16 pixels with the data's classes."""
    return fitted_to(tiny_spec(resolution="16", **replaced), data)


def quick(**changed: Any) -> Recipe:
    """A recipe of a few steps."""
    return Recipe(**{"epochs": 3, "batch_size": 8, "warmup_epochs": 1, **changed})
