"""What a process of its own does: calls functions of a library with guarded buffers, one after the other.

    python -m guards.child FOLDER FIRST

`FOLDER` is what `guards.kernels` or `guards.program` writes: `job.json`, a library, arrays. From trial FIRST on, a line
`at N` is printed before each trial and one of JSON, a `Finding`, after it: where the process dies, the parent knows at
which. Only numpy and TVM's runtime are loaded.
"""

from __future__ import annotations

import ctypes
import json
import sys
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from guards.memory import Guarded, Placement

from effgen.runtime.library import load_tvm_runtime
from effgen.runtime.manifest import RUN_ON

#: No parameter.
NONE = -1

#: What a program's kernels are shared out to.
_THREADS = 2

LIBRARY, JOB, WORKSPACES = "library.so", "job.json", "workspaces.so"


@dataclass(frozen=True)
class Parameter:
    """A flat array that a function takes: `values` is a file of what an input holds, random float32 where there is
    none. Scratch may hold anything before and after."""

    name: str
    bytes: int
    dtype: str
    alignment: int
    role: Literal["input", "output", "scratch"]
    values: str | None = None


@dataclass(frozen=True)
class Trial:
    """One call of the function `symbol`. `only`: the one parameter, or NONE, that is placed so; others lie freely."""

    symbol: str
    placement: Placement
    only: int | None = None


@dataclass(frozen=True)
class Finding:
    """What a call that returned has left: parameters with something written beside them, those of its outputs that
    hold poison yet, and how many arrays of its own had something written beside them. `sum` is of the outputs' bytes.
    """

    status: int
    beside: list[str]
    poisoned: list[str]
    own_arrays: int
    own_broken: int
    sum: int


class Child:
    """The library, with TVM's allocator replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        job = json.loads((folder / JOB).read_text(encoding="utf-8"))
        self.trials = [Trial(**trial) for trial in job["trials"]]
        self._parameters = {
            symbol: [Parameter(**parameter) for parameter in parameters]
            for symbol, parameters in job["functions"].items()
        }
        self._ffi = load_tvm_runtime()
        self._library = self._ffi.load_module(str(folder / LIBRARY))
        library = ctypes.CDLL(str(folder / LIBRARY))
        # A program has the guards in it.
        self._guards = library if hasattr(library, "guarded_alloc") else ctypes.CDLL(str(folder / WORKSPACES))
        self._replace_allocator(library)

    def _replace_allocator(self, library: ctypes.CDLL) -> None:
        """The library keeps the addresses of TVM's functions in variables, which TVM has set on loading it."""
        for name, ours in (("Alloc", self._guards.guarded_alloc), ("Free", self._guards.guarded_free)):
            try:
                variable = ctypes.c_void_p.in_dll(library, f"__TVMBackend{name}Workspace")
            except ValueError:  # no kernel here has arrays on the heap, or they are bound already
                continue
            variable.value = ctypes.cast(ours, ctypes.c_void_p).value

    def run(self, trial: Trial) -> Finding:
        """Call the function once; dies where it reads or writes outside its buffers."""
        parameters = self._parameters[trial.symbol]
        self._own("guard_at_end", ctypes.c_int).value = trial.placement == "end"
        before = self._own_arrays()
        buffers = [self._buffer(trial, index, parameter) for index, parameter in enumerate(parameters)]
        tensors = [
            self._ffi.from_dlpack(buffer.array.view(parameter.dtype))
            for buffer, parameter in zip(buffers, parameters, strict=True)
        ]
        for buffer, parameter in zip(buffers, parameters, strict=True):
            if parameter.role == "input":
                buffer.make_read_only()
        leading = [_THREADS] if trial.symbol == RUN_ON else []
        status = self._library[trial.symbol](*leading, *tensors)
        both = list(zip(buffers, parameters, strict=True))
        arrays, broken = (now - then for now, then in zip(self._own_arrays(), before, strict=True))
        outputs = [(buffer, parameter) for buffer, parameter in both if parameter.role == "output"]
        return Finding(
            int(status or 0),
            [parameter.name for buffer, parameter in both if not buffer.is_intact],
            [parameter.name for buffer, parameter in outputs if buffer.poisoned],
            arrays,
            broken,
            zlib.crc32(b"".join(buffer.array.tobytes() for buffer, _ in outputs)),
        )

    def _buffer(self, trial: Trial, index: int, parameter: Parameter) -> Guarded:
        """The parameter's buffer, its values in it; all poison where it is written."""
        placement = trial.placement if trial.only in (None, index) else None
        buffer = Guarded(parameter.bytes, placement, parameter.alignment)
        if parameter.role == "input":
            buffer.array[:] = self._values(trial.symbol, parameter)
        return buffer

    def _values(self, symbol: str, parameter: Parameter) -> np.ndarray[Any, Any]:
        if parameter.values is not None:
            return np.fromfile(self._folder / parameter.values, np.uint8)
        generator = np.random.default_rng(zlib.crc32(f"{symbol} {parameter.name}".encode()))
        if "weight" in parameter.name or "bias" in parameter.name:
            # Packed by vectors: where the last one was moved back, two hold the same channels', and two threads write
            # the same outputs of them. Random numbers would differ there, as no network's do.
            return np.full(parameter.bytes // 4, generator.standard_normal(), np.float32).view(np.uint8)
        return generator.standard_normal(parameter.bytes // 4, dtype=np.float32).view(np.uint8)

    def _own(self, name: str, kind: Any) -> Any:
        return kind.in_dll(self._guards, name)

    def _own_arrays(self) -> tuple[int, int]:
        return tuple(self._own(name, ctypes.c_int64).value for name in ("guard_blocks", "guard_broken"))  # type: ignore[return-value]


def main() -> None:
    """Run the trials from the first wanted one on."""
    child = Child(Path(sys.argv[1]))
    for number, trial in list(enumerate(child.trials))[int(sys.argv[2]) :]:
        print("at", number, flush=True)
        print(json.dumps(asdict(child.run(trial))), flush=True)


if __name__ == "__main__":
    main()
