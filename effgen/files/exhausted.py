"""What a machine has run out of: disk, memory, descriptors. No bug of ours, and nothing that a traceback explains."""

from __future__ import annotations

import errno
import resource

#: What the user can do, by error number.
_WAYS_OUT = {
    errno.ENOSPC: "make room there, or name another place (TMPDIR for temporary files)",
    errno.EDQUOT: "make room there, or name another place (TMPDIR for temporary files)",
    errno.EROFS: "name a place that can be written (TMPDIR for temporary files, XDG_CACHE_HOME for the cache)",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs: the whole machine has no more open files",
    errno.ENOMEM: "raise the limit of memory (ulimit -v), or close other programs",
    errno.EAGAIN: "raise the limit of processes and threads (ulimit -u), or close other programs",
    errno.EIO: "the device is broken or gone: name another place",
}
#: How others say it: (what is in their words, what it is).
_WORDS = (
    ("No usable temporary directory", errno.EROFS),
    ("failed to map segment", errno.ENOMEM),
    ("cannot allocate memory", errno.ENOMEM),
    ("can't allocate memory", errno.ENOMEM),
    ("can't start new thread", errno.EAGAIN),
    ("Too many open files", errno.EMFILE),
    ("No space left on device", errno.ENOSPC),
)
#: Of others' words.
_LONGEST = 200
#: Bytes of address space with which a small network can be compiled: where the limit is below, any error is put down to
#: it.
_LITTLE = 2 << 30


def exhaustion(error: BaseException) -> str:
    """What was missing and the way out, in a line; empty where the error is another."""
    if isinstance(error, OSError) and error.errno in _WAYS_OUT:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}; {_WAYS_OUT[error.errno]}"
    if isinstance(error, MemoryError):
        return f"out of memory; {_WAYS_OUT[errno.ENOMEM]}"
    text = " ".join(str(error).split()) or type(error).__name__
    found = next((number for words, number in _WORDS if words.lower() in text.lower()), None)
    if found is not None and isinstance(error, OSError | ImportError | RuntimeError):
        return f"{text[:_LONGEST]}; {_WAYS_OUT[found]}"
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if isinstance(error, Exception) and limit != resource.RLIM_INFINITY and limit < _LITTLE:
        # Packages that are half loaded, and C++ that got none, fail in any words.
        return f"{text[:_LONGEST]}: memory is limited to {limit >> 20} MiB; {_WAYS_OUT[errno.ENOMEM]}"
    return ""
