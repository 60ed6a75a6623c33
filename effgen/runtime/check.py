"""What a bundle takes: checked before anything is handed to compiled code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BundleError
from effgen.runtime.manifest import Manifest


def image_for(image: NDArray[np.float32], manifest: Manifest) -> NDArray[np.float32]:
    """The float32 image `(batch, channels, height, width)` that the bundle takes: `image` itself, or, of a network
    whose file has its images channels last (NHWC), such an image turned round.

    Raises BundleError where `image` is no float32 array of that shape.
    """
    if not isinstance(image, np.ndarray):
        raise BundleError(f"image: a {type(image).__name__}: this bundle takes a numpy array")
    shape = tuple(manifest.input["shape"])
    turned = manifest.file_layout == "NHWC" and image.shape != shape and image.dtype == np.float32
    if turned and image.shape == tuple(shape[axis] for axis in (0, 2, 3, 1)):
        return np.ascontiguousarray(image.transpose(0, 3, 1, 2))
    if image.shape != shape or image.dtype != np.float32:
        raise BundleError(f"image {image.dtype}{list(image.shape)}: this bundle takes float32{list(shape)} (NCHW)")
    return image
