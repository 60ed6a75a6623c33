"""PyTorch's threads: how many a training may have, and that they are given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from effgen.errors import TrainingError
from effgen.machines.processor import usable_cpus


def check_threads(count: int | None) -> None:
    """Raise TrainingError where a training cannot have `count` threads; None is as many as PyTorch takes by itself.

    PyTorch does not check: very many end the process without a word.
    """
    most = len(usable_cpus())
    if count is not None and not 1 <= count <= most:
        raise TrainingError(f"--threads {count}: expected from 1 to {most}, the CPUs that this process may use")


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """`count` threads for PyTorch's operators inside the block; they are the process's, so they are given back.

    Raises as `check_threads`.
    """
    import torch

    check_threads(count)
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
