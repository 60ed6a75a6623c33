"""CUDA kernels built as effgen builds them, and run in processes that see the emulated GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cuda_emulator
import numpy as np
import pytest
from cuda_emulator.client import CALLS, IMAGE, INPUTS, OUTPUTS
from numpy.typing import NDArray
from tvm.tirx import PrimFunc

from effgen.compiler.cuda_build import CudaSource, compile_fatbin, cuda_source
from effgen.errors import BuildError
from effgen.kernels.lowering import tvm_target
from effgen.machines.machine import Machine
from effgen.machines.toolchain import cuda_program

FOLDER = Path(__file__).parent

#: Shape and type of an array.
Array = tuple[Sequence[int], str]


def lacks(*programs: str) -> str:
    """Which of these programs this machine lacks, as the reason to skip a test; empty: none."""
    for name in programs:
        try:
            if not (shutil.which(name) if name == "g++" else cuda_program(name)):
                return f"{name} is missing"
        except BuildError as error:
            return str(error)
    return ""


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip without these programs: g++, or those of the CUDA toolkit."""
    return pytest.mark.skipif(bool(lacks(*programs)), reason=lacks(*programs))


@dataclass(frozen=True)
class Call:
    """One call of a function: its inputs, then its outputs, are its arguments."""

    name: str
    function: str
    inputs: Sequence[NDArray[Any]]
    outputs: Sequence[Array]


@dataclass(frozen=True)
class Kernels:
    """Machine code by nvcc, and the same kernels for the emulator."""

    driver: Path
    image: bytes
    library: Path
    source: CudaSource

    def run(self, code: str, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run Python code in a process that sees the emulated GPU."""
        return self._process(["-c", code, *arguments], settings)

    def call(self, calls: Sequence[Call], folder: Path, **settings: Any) -> dict[str, list[NDArray[Any]]]:
        """Outputs by the call's name. Raises RuntimeError with what the process said where it failed."""
        inputs = {f"{call.name}:{index}": array for call in calls for index, array in enumerate(call.inputs)}
        np.savez(folder / INPUTS, **inputs)
        (folder / CALLS).write_text(json.dumps([self._plain(call) for call in calls]))
        (folder / IMAGE).write_bytes(self.image)
        done = self._process(["-m", "cuda_emulator.client", str(folder)], settings)
        if done.returncode:
            raise RuntimeError(done.stderr)
        found = np.load(folder / OUTPUTS)
        return {call.name: [found[f"{call.name}:{index}"] for index in range(len(call.outputs))] for call in calls}

    def _plain(self, call: Call) -> dict[str, Any]:
        launches = [(k.symbol, k.blocks, k.threads, k.parameters) for k in self.source.kernels[call.function]]
        outputs = [(tuple(shape), dtype) for shape, dtype in call.outputs]
        return {"name": call.name, "inputs": len(call.inputs), "outputs": outputs, "launches": launches}

    def _process(self, arguments: list[str], settings: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        environment = cuda_emulator.environment(self.driver, self.library, **settings)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(FOLDER), environment.get("PYTHONPATH")]))
        return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


def build(functions: Mapping[str, PrimFunc], machine: Machine, driver: Path, folder: Path) -> Kernels:
    """Scheduled functions as a bundle has them; `driver`: what `build_driver` gave."""
    with tvm_target(machine):
        source = cuda_source(functions, machine)
    library = cuda_emulator.build_kernels(source.text, folder / "kernels.so")
    return Kernels(driver, compile_fatbin(source.text, machine), library, source)
