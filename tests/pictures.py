"""Pictures for tests, made here: no two alike, with edges and slopes that resizing treats differently."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def pixels(width: int = 64, height: int = 48, seed: int = 0) -> NDArray[np.uint8]:
    """Noise, a third of it in coarse blocks: `(height, width, 3)`."""
    generator = np.random.default_rng(seed)
    fine = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    coarse = generator.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    blocks = np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:height, :width]
    fine[:, : width // 3] = blocks[:, : width // 3]
    return fine


def encoded(image: Image.Image | NDArray[np.uint8], format: str = "PNG", **options: Any) -> bytes:
    """The bytes of a file that holds the image."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format, **options)
    return file.getvalue()


def write_picture(path: Path, seed: int = 0) -> Path:
    """A picture file in the format of its suffix; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed=seed)).save(path)
    return path
