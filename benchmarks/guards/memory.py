"""Buffers that end, or begin, where nobody may read or write: an access beyond them stops the process with SIGSEGV."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

#: Which side of a buffer touches forbidden memory. The other does too, but for what fills up a page and alignment.
Placement = Literal["end", "start"]

#: A NaN that no computation makes by itself: what nobody wrote, or what was read beside a buffer, shows by it.
POISON = 0x7FC5A5A5

#: Forbidden bytes on either side at least: a row too many must not step over them.
_GUARD = 1 << 20
_PAGE = mmap.PAGESIZE
_PROT_NONE, _PROT_READ = 0, 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Guarded:
    """`array`: uint8 of `size` bytes at a multiple of `alignment`, between forbidden pages; all poison at first.

    Placed at the end, at most `alignment - 1` bytes lie between its last byte and the first forbidden one; at the
    start, none before its first. What is left of its pages is poison too, and must stay that (`is_intact`). Placed
    nowhere, there is so much poison on both sides that an access beyond it stops nothing.
    """

    def __init__(self, size: int, placement: Placement | None, alignment: int) -> None:
        slack = 0 if placement else max(_GUARD, -(-size // _PAGE) * _PAGE)
        self._pages = -(-size // _PAGE) * _PAGE + 2 * slack
        guard = max(_GUARD, self._pages)
        self._map = mmap.mmap(-1, self._pages + 2 * guard, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._all = np.frombuffer(self._map, np.uint8)
        self._inner = self._all[guard : guard + self._pages]
        self._protect(self._all[:guard], _PROT_NONE)
        self._protect(self._all[guard + self._pages :], _PROT_NONE)
        self._inner.view(np.uint32)[:] = POISON
        self._start = slack if placement != "end" else (self._pages - size) // alignment * alignment
        self._size = size
        self.array = self._inner[self._start : self._start + size]

    def make_read_only(self) -> None:
        """From now on a write to it stops the process as well."""
        self._protect(self._inner, _PROT_READ)

    @property
    def is_intact(self) -> bool:
        """Whether nothing was written between the buffer and the forbidden pages."""
        poison = np.full(self._pages // 4, POISON, np.uint32).view(np.uint8)
        end = self._start + self._size
        before = np.array_equal(self._inner[: self._start], poison[: self._start])
        return before and np.array_equal(self._inner[end:], poison[end:])

    @property
    def poisoned(self) -> int:
        """How many of its float32 values hold the poison, in whatever sign."""
        words = self.array.view(np.uint32) & np.uint32(0x7FFFFFFF)
        return int(np.count_nonzero(words == POISON))

    @staticmethod
    def _protect(part: NDArray[Any], protection: int) -> None:
        if _libc.mprotect(part.ctypes.data, part.nbytes, protection):
            raise OSError(ctypes.get_errno(), "mprotect")
