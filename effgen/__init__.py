"""effgen: a baseline ConvNet plus one number, phi, compiled to a verified native library.

Importing the package loads nothing else; `load` needs numpy and the TVM runtime, no torch, onnx or TVM compiler.

An import stands inside a function where it would load what the module's other users can do without: TVM, PyTorch, ONNX,
Optuna, Pillow, Plotly, Matplotlib, pydantic, or a room that needs them; in `effgen.cli` all but options and printing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from effgen.errors import EffgenError
from effgen.version import __version__

if TYPE_CHECKING:
    from effgen.runtime import CudaModel, LoadedModel

__all__ = ["EffgenError", "__version__", "load"]


def load(path: str | Path, threads: int | None = None) -> LoadedModel | CudaModel:
    """Load a bundle; see `effgen.runtime.load`."""
    from effgen.runtime import load as load_bundle

    return load_bundle(path, threads)
