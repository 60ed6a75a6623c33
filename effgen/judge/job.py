"""What a peer is asked to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from effgen.runtime.answers import Answer

if TYPE_CHECKING:
    from effgen.graph import Graph

#: One call on the job's images -> logits (batch, classes), or another answer.
Run = Callable[[], Answer]


@dataclass(frozen=True)
class PeerJob:
    """What a peer is to run: an ONNX file, images (batch, channels, height, width), threads. `streams`: of a queue, in
    how many calls it shares them out, None: as it likes."""

    model: Path
    image: NDArray[np.float32]
    threads: int
    streams: int | None = None

    @cached_property
    def graph(self) -> tuple[Graph, dict[str, NDArray[np.float32]]]:
        """The file's graph and weights, read once for all peers."""
        from effgen.graph.onnx import graph_from_onnx

        return graph_from_onnx(self.model)
