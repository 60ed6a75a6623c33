"""Arrays as the library's functions take them: flat or shaped, float32, aligned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Bytes; what kernels may assume of where their arguments begin. Numpy promises 16 only.
ALIGNMENT = 64


def aligned(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array, not set, whose data starts at a multiple of ALIGNMENT."""
    count = int(np.prod(shape))
    buffer = np.empty(count * 4 + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + count * 4].view(np.float32).reshape(shape)


def read_aligned(path: Path) -> NDArray[np.float32]:
    """The floats that the file holds, little-endian, in an aligned array."""
    array = aligned((path.stat().st_size // 4,))
    with path.open("rb") as file:
        read = file.readinto(array.view(np.uint8).data)
    assert read == array.nbytes, f"{path}: {read} bytes instead of {array.nbytes}"
    return array
