"""The process that runs candidates of one kernel: a bad one ends it, or never returns, and costs itself only.

A copy of this file goes with every folder: it uses nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

import array
import hashlib
import json
import math
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effgen.measure.carried.candidate import NativeError, measured
from effgen.measure.carried.cuda import CudaRuntime
from effgen.measure.carried.native import Runtime
from effgen.measure.carried.process import answers_apart, die_with
from effgen.measure.carried.timing import alone, better, compare

if TYPE_CHECKING:
    from collections.abc import Callable

    from effgen.measure.carried.cuda import CudaRuntime
    from effgen.measure.carried.timing import Side, Timing

_NAN = float("nan")


class FolderBench:
    """One kernel of a plan: its inputs, what it must make of them, and its candidates; `flush` makes caches cold."""

    def __init__(
        self, runtime: Runtime | CudaRuntime, flush: Callable[[], None], folder: Path, kernel: dict[str, Any]
    ) -> None:
        self._runtime: Any = runtime
        self._flush = flush
        self._library = self._runtime.library(checked(folder, kernel["library"]))
        data = memoryview(checked(folder, kernel["data"]).read_bytes())
        inputs = []
        for stated in kernel["inputs"]:
            made = self._runtime.array(stated["shape"])
            size = 0 if stated["scale"] is None else made.size
            made.write(_floats(data[:size], stated["scale"], made.size))
            data = data[size:]
            inputs.append(made)
        self._outputs = [self._runtime.array(shape) for shape in kernel["outputs"]]
        self._expected = []
        for output in self._outputs:
            right = array.array("f", bytes(data[: 4 * output.size]))
            self._expected.append((right, math.dist(right, bytes(output.size)) or 1.0))
            data = data[4 * output.size :]
        self._arrays = [*inputs, *self._outputs]

    def kernel(self, candidate: dict[str, Any]) -> Callable[[], None]:
        """A candidate of the plan."""
        return self._runtime.kernel(self._library, candidate, self._arrays)  # type: ignore[no-any-return]

    def side(self, kernel: Callable[[], None]) -> Side:
        """A candidate to be timed, with cold caches."""
        return self._runtime.side(kernel, self._flush)  # type: ignore[no-any-return]

    def error_after(self, kernel: Callable[[], None]) -> float:
        """Relative L2 error of a call, the worst of the outputs; they are NaN before it, lest one be left out."""
        for output in self._outputs:
            output.write(array.array("f", [_NAN]).tobytes() * output.size)
        kernel()
        errors = []
        for output, (right, norm) in zip(self._outputs, self._expected):  # noqa: B905  # Python 3.8
            errors.append(math.dist(array.array("f", output.read()), right) / norm)
        return _NAN if any(math.isnan(error) for error in errors) else max(errors)


def timed_with(incumbent: Side | None, mine: Side) -> Timing:
    """What seems better is looked at once more, at length: of many candidates one wins by luck, and nobody here
    compares the winner again."""
    if incumbent is None:
        return alone(mine)
    timing = compare(mine, incumbent)
    return compare(mine, incumbent, thorough=True) if better(timing) else timing


def main(parent: int, folder: Path, runtime: Path, number: int, incumbent: int, wanted: list[int]) -> None:
    """Measure these candidates of the plan's kernel, one message a line on standard output: begun, then done.

    `incumbent` is the candidate that the others are timed in turn with, -1 for none: the first that works then is.
    """
    die_with(parent)
    answers = os.fdopen(answers_apart(), "w")

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    plan = json.loads((folder / "plan.json").read_text())
    loaded: Any = _runtime(plan, runtime)
    kernel = plan["kernels"][number]
    if "library" in plan["flush"]:
        checked(folder, plan["flush"]["library"])
    bench = FolderBench(loaded, loaded.flush(folder, plan["flush"]), folder, kernel)
    candidates = {candidate["index"]: candidate for candidate in kernel["candidates"]}
    theirs = None if incumbent < 0 else bench.kernel(candidates[incumbent])
    for index in wanted:
        say({"begun": index})
        mine = bench.kernel(candidates[index])
        side = None if theirs is None else bench.side(theirs)
        outcome = measured(bench, mine, plan["tolerance"], partial(timed_with, side), refused=NativeError)
        timing = None if outcome.timing is None else vars(outcome.timing)
        result = {"status": outcome.status, "error": outcome.error, "timing": timing}
        say({**result, "candidate": index, "incumbent": None if theirs is None else incumbent})
        if theirs is None and timing is not None:
            theirs, incumbent = mine, index


def _runtime(plan: dict[str, Any], folder: Path) -> Any:
    """What runs the plan's kernels: TVM's runtime, or the GPU's driver."""
    if plan["device"]["kind"] == "cpu":
        return Runtime(folder, plan["cores"])
    return CudaRuntime()


def checked(folder: Path, file: dict[str, str]) -> Path:
    """The path of a file of the plan; raises ValueError where it is not the one that the plan was made with."""
    path = folder / file["path"]
    if hashlib.sha256(path.read_bytes()).hexdigest() != file["sha256"]:
        raise ValueError(f"{path}: is not the file that the plan was made with; copy the folder again")
    return path


def _floats(data: memoryview, scale: float | None, size: int) -> bytes:
    """float32 of int8 times a scale; without a scale nothing but NaN, which no kernel may depend on."""
    if scale is None:
        return array.array("f", [_NAN]).tobytes() * size
    table = [scale * (byte - 256 if byte > 127 else byte) for byte in range(256)]
    return array.array("f", map(table.__getitem__, data)).tobytes()
