"""A single kernel compiled for a foreign machine and run once under its emulator, its instructions counted.

What a kernel costs on a board is measured there; until then, this says what its code consists of. The same layer as
TVM compiles it without a schedule of ours can stand beside it.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tvm
from arm.instructions import (
    Instruction,
    Loop,
    Mix,
    executions,
    innermost_loops,
    instructions_from_text,
    mix_of,
)
from numpy.typing import NDArray
from tvm import relax

from effgen.compiler.backend import Built, backend_of
from effgen.compiler.dump import Dump
from effgen.compiler.pipeline import ScheduledModule, legalize_rest, plan_memory
from effgen.compiler.program import IMAGE, LOGITS, WEIGHTS, WORKSPACE, Place, Program, Step, program_from_relax
from effgen.deploy.native import Runner, build_runner, run_images
from effgen.errors import BuildError
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.lowering import tvm_target
from effgen.kernels.reference import random_inputs
from effgen.kernels.workload import Activation, Workload
from effgen.machines.machine import Cpu
from effgen.machines.programs import required_tool, tool_output
from effgen.machines.toolchain import cross_compiler, emulator
from effgen.runtime.arrays import ALIGNMENT
from effgen.runtime.manifest import LIBRARY, MANIFEST, Manifest, sha256_of
from effgen.schedules import kernel_from_workload

Layer = Conv2d | ExpandDepthwise

_RELAX_ACTIVATIONS = {"silu": relax.op.nn.silu, "sigmoid": relax.op.sigmoid, "relu": relax.op.nn.relu}
#: Where the emulated loader put the library: the first mapping after it was opened that fixes an address.
_LOADED = re.compile(rf"openat\([^\n]*/{LIBRARY}\".*?mmap\(0x([0-9a-f]+),(\d+),PROT_EXEC", re.DOTALL)


@dataclass(frozen=True)
class Counted:
    """One call on one thread: what ran inside the library, its innermost loops that multiply and add with how often
    they went round, and the multiply-adds that the layer is defined by (rows made twice do not count twice)."""

    name: str
    macs: int
    mix: Mix
    loops: tuple[tuple[Loop, int], ...]

    @property
    def per_mac(self) -> float:
        """Instructions of all kinds for one multiply-add of the layer."""
        return self.mix.all / self.macs

    @property
    def spills(self) -> int:
        """Spills in one round of each innermost loop that ran and mostly multiplies and adds."""
        return sum(loop.spills for loop, rounds in self.loops if rounds and loop.multiplies)

    @property
    def busiest(self) -> Loop:
        """The innermost loop in which most multiply-adds ran."""
        return max(self.loops, key=lambda counted: counted[0].mix.multiply_adds * counted[1])[0]


def count_kernel(layer: Layer, machine: Cpu) -> Counted:
    """effgen's kernel with its default schedule.

    Raises BuildError where a tool is missing: the target's compiler or emulator, cmake, objdump.
    """
    data, *weights = random_inputs(layer, machine, np.random.default_rng(0)).values()
    image, *padded = [
        np.pad(array.ravel().view(np.uint8), (0, -array.nbytes % ALIGNMENT)) for array in (data, *weights)
    ]
    offsets = np.cumsum([0, *(array.size for array in padded)])
    # Of codes less is written than there is room for.
    sizes = [4 * prod(shape) for shape in layer.out_shapes]
    outputs = (Place(LOGITS), Place(WORKSPACE))[: len(sizes)]  # row sums go to the workspace
    places = (Place(IMAGE), *(Place(WEIGHTS, int(offset)) for offset in offsets[:-1]), *outputs)
    program = Program(
        steps=(Step(layer.name, places),),
        weights=np.concatenate(padded),
        image_bytes=image.nbytes,
        logits_bytes=sizes[0],
        workspace_bytes=sum(sizes[1:]) or ALIGNMENT,
    )
    with tvm_target(machine):
        kernels = tvm.IRModule({layer.name: kernel_from_workload(layer, machine)})
        return _count(layer, machine, program, kernels, image.view(np.float32))


def count_untuned(layer: Layer, machine: Cpu) -> Counted:
    """The same layer in TVM's own layout (NCHW), legalised and fused by TVM, and compiled without a schedule; without
    row sums, which another kernel would make. Raises as `count_kernel` does."""
    with tvm_target(machine):
        mod = plan_memory(legalize_rest(_relax_of(layer)))
        program = program_from_relax(mod)
        data = np.random.default_rng(0).standard_normal(program.image_bytes // 4, dtype=np.float32)
        return _count(layer, machine, program, mod, data)


def layers_of_calls(calls: Mapping[Workload, int]) -> dict[Layer, int]:
    """The pointwise and depthwise kernels among these, and how often each is called."""
    return {
        workload: count
        for workload, count in calls.items()
        if isinstance(workload, Conv2d | ExpandDepthwise) and workload.family in ("pointwise", "depthwise")
    }


def cut(layer: Layer, macs: int) -> Layer:
    """The layer over fewer rows of the image, such that it has about so many multiply-adds: at least two windows."""
    first, last = layer.convolutions[0], layer.convolutions[-1]
    height = max(round(last.height * macs / layer.macs), 2 * last.kernel[0] if last.kernel[0] > 1 else 1)
    if height >= last.height:
        return layer
    if layer is first:
        return replace(first, height=height)
    return ExpandDepthwise(replace(first, height=height * first.stride[0]), replace(last, height=height))


def _relax_of(layer: Layer) -> tvm.IRModule:
    """One function of the image: the layer's convolutions with what follows each, on random weights."""
    generator = np.random.default_rng(0)
    first = layer.convolutions[0]
    shape = (first.batch, first.in_channels, first.height, first.width)
    image = relax.Var("image", relax.TensorType(shape, "float32"))
    builder = relax.BlockBuilder()

    def constant(*shape: int) -> relax.Constant:
        return relax.const(generator.standard_normal(shape, dtype=np.float32))

    with builder.function("main", [image]):
        with builder.dataflow():
            value: relax.Expr = image
            for conv in layer.convolutions:
                if conv.gated:
                    value = relax.op.multiply(value, constant(conv.batch, conv.in_channels, 1, 1))
                weight = constant(conv.out_channels, conv.in_channels // conv.groups, *conv.kernel)
                value = relax.op.nn.conv2d(value, weight, conv.stride, conv.padding, conv.dilation, conv.groups)
                value = relax.op.add(value, constant(1, conv.out_channels, 1, 1))
                residual = (conv.batch, conv.out_channels, conv.out_height, conv.out_width)
                if conv.activation_last:
                    value = relax.op.add(value, constant(*residual))
                value = _activated(value, conv.activation)
                if conv.residual and not conv.activation_last:
                    value = relax.op.add(value, constant(*residual))
            result = builder.emit_output(builder.normalize(value))
        builder.emit_func_output(result)
    return builder.get()


def _activated(value: relax.Expr, activation: Activation) -> relax.Expr:
    return value if activation == "none" else _RELAX_ACTIVATIONS[activation](value)


def _count(layer: Layer, machine: Cpu, program: Program, kernels: tvm.IRModule, data: NDArray[np.float32]) -> Counted:
    """The program in a bundle of its own, run once. The caller has entered the TVM target."""
    scheduled = ScheduledModule(kernels, program, ())
    with TemporaryDirectory(prefix="effgen-count-") as name:
        folder = Path(name)
        built = backend_of(machine).write(scheduled, folder, Dump(None))
        (folder / MANIFEST).write_text(_manifest(layer, machine, program, built, folder).to_json())
        instructions = _disassembled(folder / LIBRARY, machine)
        ran = _executed(folder, machine, instructions, data.reshape(1, 1, 1, -1))
    loops = [loop for loop in innermost_loops(instructions) if loop.mix.multiply_adds]
    rounds = [ran.get(loop.instructions[0], 0) for loop in loops]
    return Counted(layer.name, layer.macs, mix_of(ran.items()), tuple(zip(loops, rounds, strict=True)))


def _manifest(layer: Layer, machine: Cpu, program: Program, built: Built, folder: Path) -> Manifest:
    """As much of one as `effgen-run` reads, of what is in `folder`."""
    return Manifest(
        name=layer.name,
        network={},
        target={"name": machine.name, "llvm": machine.llvm, "features": list(machine.features)},
        device=built.device,
        versions={"python": platform.python_version()},
        threads=1,
        files={file.name: sha256_of(file) for file in folder.iterdir()},
        input={"shape": [1, 1, 1, program.image_bytes // 4]},
        outputs=[{"name": "output", "shape": [1, program.logits_bytes // 4]}],
        kernels=[],
        steps=[step.kernel for step in program.steps],
        workspace_bytes=program.workspace_bytes,
        parameters=program.weights.nbytes // 4,
        macs=layer.macs,
        dtype=layer.dtype,
        tolerance={"rel_l2": machine.tolerance.float32},
    )


def _disassembled(library: Path, machine: Cpu) -> list[Instruction]:
    assert machine.toolchain is not None  # it was linked with that
    objdump = required_tool(
        [machine.mtriple + "-objdump"], "disassembles libraries", f"apt-get install binutils-{machine.mtriple}"
    )
    return instructions_from_text(tool_output([objdump, "-d", library], f"{library}: cannot be disassembled"))


def _executed(
    folder: Path, machine: Cpu, instructions: list[Instruction], data: NDArray[np.float32]
) -> dict[Instruction, int]:
    """How often each instruction ran. The emulator first tells where the library comes to lie, then what it does there:
    a log of all code would be mostly of the loader's."""
    compiler = cross_compiler(machine.name, machine.mtriple, machine.toolchain)
    assert machine.toolchain is not None
    program = build_runner(machine.mtriple, compiler, machine.toolchain.package)

    def logged(*options: str) -> Path:
        path = folder / "emulator.log"
        # A pool of one thread: there is nobody whose mappings could come in between.
        command = (*emulator(machine), "-E", "TVM_NUM_THREADS=1", "-D", str(path), *options)
        run_images(Runner(program, command), folder, data, threads=1)
        return path

    found = _LOADED.search(logged("-d", "strace").read_text(errors="replace"))
    if found is None:
        raise BuildError(f"{emulator(machine)[0]}: its log does not say where {LIBRARY} was loaded")
    base, size = int(found.group(1), 16), int(found.group(2))
    with logged("-d", "in_asm,exec,nochain", "-dfilter", f"{base:#x}..{base + size:#x}").open() as log:
        return executions(log, base, instructions)
