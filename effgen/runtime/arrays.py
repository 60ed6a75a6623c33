"""Arrays as the library's functions take them: flat or shaped, float32, aligned."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BundleError

#: Bytes; what kernels may assume of where their arguments begin. Numpy promises 16 only.
ALIGNMENT = 64


class FlatLayout:
    """Tensors one after the other in a flat array, each at a multiple of ALIGNMENT: the weights, the workspace.

    The compiler lays them out by it, and the forecast of what a network needs (`effgen.method.budget.footprint`).
    """

    def __init__(self, sizes: Iterable[int] = ()) -> None:
        self._end = 0
        for size in sizes:
            self.add(size)

    def add(self, size: int) -> int:
        """Where the next `size` bytes begin."""
        start = self._end
        self._end += -(-size // ALIGNMENT) * ALIGNMENT
        return start

    @property
    def bytes(self) -> int:
        """Of the whole array, which is never empty."""
        return self._end or ALIGNMENT


def aligned(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array, not set, whose data starts at a multiple of ALIGNMENT. Raises BundleError where memory is short."""
    count = prod(shape)
    try:
        buffer = np.empty(count * 4 + ALIGNMENT, np.uint8)
    except (MemoryError, ValueError):  # ValueError: beyond what an address can count
        raise BundleError(f"out of memory: {count * 4:,} bytes are wanted for one array") from None
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + count * 4].view(np.float32).reshape(shape)


def read_aligned(path: Path) -> NDArray[np.float32]:
    """The floats that the file holds, little-endian, in an aligned array. Raises BundleError where it holds no whole
    floats, or fewer than when it was looked at."""
    size = path.stat().st_size
    if size == 0 or size % 4:
        raise BundleError(f"{path}: {size} bytes: expected whole floats; compile the bundle again")
    array = aligned((size // 4,))
    with path.open("rb") as file:
        read = file.readinto(array.view(np.uint8).data)
    if read != array.nbytes:
        raise BundleError(f"{path}: {read} bytes instead of {array.nbytes}: somebody is writing to it")
    return array
