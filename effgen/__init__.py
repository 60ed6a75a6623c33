"""effgen: a baseline ConvNet plus one number, phi, compiled to a verified native library.

Importing the package loads nothing else; `load` needs numpy, no TVM, torch or onnx.

An import stands inside a function where it would load what the module's other users can do without: TVM, PyTorch, ONNX,
Optuna, Pillow, Plotly, Matplotlib, pydantic, or a room that needs them; in `effgen.cli` all but options and printing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from effgen.errors import EffgenError

if TYPE_CHECKING:
    from pathlib import Path

    from effgen.runtime import CudaModel, LoadedModel
    from effgen.version import __version__

__all__ = ["EffgenError", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """The version is looked up when it is asked for: that takes longer than all the rest, and the command line must be
    there to take a Ctrl-C."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from effgen.version import __version__

    return __version__


def load(path: str | Path, threads: int | None = None) -> LoadedModel | CudaModel:
    """Load a bundle; see `effgen.runtime.load`."""
    from effgen.runtime import load as load_bundle

    return load_bundle(path, threads)
