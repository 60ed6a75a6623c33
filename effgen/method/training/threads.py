"""PyTorch's threads: how many a training may have, beside others on the machine, and that they are given back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from effgen.errors import TrainingError
from effgen.graph import Graph
from effgen.machines.processor import default_threads, usable_cpus

#: What users say PyTorch's threads by; the first counts, as with PyTorch.
_OF_USERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

#: What users say by how OpenMP's threads wait.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

#: Multiply-adds of a layer, for a batch, below which a thread more costs more than it brings: some 0.1 ms of work. All
#: wait for the slowest after each operator, which on a machine that is used by others may be a time slice later.
_WORTH_A_THREAD = 2e6


@dataclass(frozen=True)
class TrainingThreads:
    """How many threads a training may have: `most`, or `exact`ly that because a user said so."""

    most: int
    exact: bool = False

    def of(self, graph: Graph, batch: int) -> int:
        """Those of a training of `graph` (of one image) by batches of this size: no more than have enough to do.

        It depends on nothing else, because other threads add up in another order.
        """
        if self.exact:
            return self.most
        macs = [count for node in graph.nodes if (count := graph.macs_of(node))]
        each = batch * sum(macs) / max(1, len(macs))
        return max(1, min(self.most, int(each / _WORTH_A_THREAD)))


def training_threads(asked: int | None = None, workers: int = 1) -> TrainingThreads:
    """What each of so many `workers` on this machine trains with.

    As many as `--threads` (`asked`) says, but of several workers none more than its share: their sum is what this
    process may use (`default_threads`). Without it what the user's environment says for each process, else its share.
    """
    share = max(1, default_threads() // workers)
    if asked is not None:
        return TrainingThreads(asked if workers == 1 else min(asked, share), exact=True)
    stated = stated_threads(os.environ)
    return TrainingThreads(share) if stated is None else TrainingThreads(min(stated, len(usable_cpus())), exact=True)


def stated_threads(environment: Mapping[str, str]) -> int | None:
    """The threads that a user's environment gives PyTorch; None where it says nothing that makes sense.

    OpenMP's variable may be a list, of which the first is for the outermost level.
    """
    for key in _OF_USERS:
        first = environment.get(key, "").split(",")[0].strip()
        if first.isdecimal() and int(first):
            return int(first)
    return None


def wait_asleep() -> None:
    """Let threads of OpenMP that wait give their CPU away, in this process and those that it starts.

    By default they spin for a while after each operator, and on a shared machine take the CPU from those they wait for:
    with two threads a training may take twenty times as long. What the user has set counts. To be called before PyTorch
    is loaded, which reads it once.
    """
    if "torch" not in sys.modules and not any(key in os.environ for key in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def check_threads(count: int | None) -> None:
    """Raise TrainingError where a training cannot have `count` threads; None is as many as PyTorch takes by itself.

    PyTorch does not check: very many end the process without a word.
    """
    most = len(usable_cpus())
    if count is not None and not 1 <= count <= most:
        raise TrainingError(f"--threads {count}: expected from 1 to {most}, the CPUs that this process may use")


@contextmanager
def torch_threads(count: int | None) -> Iterator[int]:
    """`count` threads for PyTorch's operators inside the block (None: as they are set), which it gives; they are the
    process's, so they are given back.

    Raises as `check_threads`.
    """
    import torch

    check_threads(count)
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
