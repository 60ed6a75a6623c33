"""The images that ranges are observed on: a folder of pictures, or an array of prepared ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BuildError
from effgen.runtime.picture import Preparation
from effgen.runtime.sources import files_below

_T = TypeVar("_T")

#: What an array's file may come to: 512 images of 224 x 224 pixels are 308 MB.
_MOST_BYTES = 2**32


def images_of_folder(folder: Path, preparation: Preparation, most: int) -> NDArray[np.float32]:
    """(N, channels, height, width), at most so many of the folder's pictures, spread evenly over their sorted names.

    Raises BuildError where there are none, ImageError for one that cannot be read.
    """
    unread: list[OSError] = []
    files = list(files_below(folder, unread)) if folder.is_dir() else []
    if not files:
        why = f": {unread[0].strerror}" if unread else ""
        raise BuildError(f"--data {folder}: no pictures there{why}; expected a folder of a few dozen typical ones")
    return np.stack([preparation(file) for file in evenly(files, most)])


def images_of_array(file: Path, shape: Sequence[int], most: int) -> NDArray[np.float32]:
    """(N, *shape) float32, at most so many of those in the .npy file, spread evenly. Raises BuildError where it holds
    anything else."""
    expected = f"a .npy file of float32 (N, {', '.join(map(str, shape))}), prepared as the network takes them"
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise BuildError(f"--calibration {file}: larger than {_MOST_BYTES:,} bytes; a few dozen images do")
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BuildError(f"--calibration {file}: cannot be read: {reason}; expected {expected}") from None
    except (ValueError, EOFError):
        raise BuildError(f"--calibration {file}: expected {expected}") from None
    if not isinstance(array, np.ndarray):
        raise BuildError(f"--calibration {file}: holds several arrays: expected {expected}")
    if array.dtype != np.float32 or array.shape[1:] != tuple(shape) or not array.size:
        raise BuildError(f"--calibration {file}: holds {array.dtype.name} {array.shape}: expected {expected}")
    chosen = evenly(range(len(array)), most)
    return np.ascontiguousarray(array[list(chosen)])


def evenly(items: Sequence[_T], most: int) -> list[_T]:
    """At most so many, the first and others at equal distances."""
    if len(items) <= most:
        return list(items)
    return [items[index * len(items) // most] for index in range(most)]
