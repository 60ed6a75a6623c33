"""What a bundle takes: checked before anything is handed to compiled code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BundleError
from effgen.runtime.manifest import Manifest


def check_image(image: NDArray[np.float32], manifest: Manifest) -> None:
    """Raise BundleError where `image` is no float32 array of the bundle's shape."""
    if not isinstance(image, np.ndarray):
        raise BundleError(f"image: a {type(image).__name__}: this bundle takes a numpy array")
    shape = tuple(manifest.input["shape"])
    if image.shape != shape or image.dtype != np.float32:
        raise BundleError(f"image {image.dtype}{list(image.shape)}: this bundle takes float32{list(shape)} (NCHW)")
