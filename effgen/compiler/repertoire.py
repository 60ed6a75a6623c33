"""What the kernels of a kind of machine compute, and how far they are joined: what a graph's kernel calls depend on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from effgen.machines.dot import Dot
from effgen.machines.machine import Cpu, Gpu, Machine


@dataclass(frozen=True)
class Repertoire:
    """Beside convolutions, dense layers, means over the image and gates of images, which have kernels everywhere.

    `operators`: the ONNX operators with a kernel of ours; `gates_one_pixel`: whether a gate of one pixel has one, too;
    `joins_branches`: whether what cuts an image into channels and joins them again is one (`effgen.compiler.branches`);
    `expands`: whether depthwise kernels take the convolution before them; `looks_ahead`: whether kernels with time to
    spare ask for the weights that are read next; `dot`: what multiplies codes, if anything does. Of what is left to
    TVM, `refused` are the operators that it cannot make one kernel of, and `mean_windows` says whether it may have
    AveragePool, which becomes a convolution otherwise. `where` follows an error that says what cannot be compiled.
    """

    operators: frozenset[str]
    gates_one_pixel: bool
    joins_branches: bool
    expands: bool
    looks_ahead: bool
    refused: frozenset[str]
    mean_windows: bool
    where: str
    dot: Dot | None = None


CPU_KERNELS = Repertoire(
    operators=frozenset({"MaxPool", "AveragePool", "Concat", "BatchNormalization"}),
    gates_one_pixel=True,
    joins_branches=True,
    expands=True,
    looks_ahead=True,
    refused=frozenset(),
    mean_windows=True,
    where="",
)

#: On a GPU an expanded image stays in the large second-level cache and a kernel cannot keep a ring of its rows: there
#: the expansion is a kernel of its own, and nothing is asked for ahead. TVM makes several kernels of a Softmax.
GPU_KERNELS = Repertoire(
    operators=frozenset(),
    gates_one_pixel=False,
    joins_branches=False,
    expands=False,
    looks_ahead=False,
    refused=frozenset({"Softmax"}),
    mean_windows=False,
    where=" for a GPU",
)


def kernels_for(machine: Machine) -> Repertoire:
    """Those of `machine`."""
    match machine:
        case Cpu():
            return replace(CPU_KERNELS, dot=machine.dot)
        case Gpu():
            return GPU_KERNELS
        case _:
            assert_never(machine)
