"""Scheduled kernels -> machine code for NVIDIA GPUs: TVM writes CUDA C++, nvcc compiles it for every architecture.

The bundle holds one file of machine code with PTX for newer GPUs, and a list of launches. The runtime hands both to
the CUDA driver: neither TVM nor a compiler is needed where it runs (docs/decisions/0010-cuda-by-the-driver.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.tirx import PrimFunc, compilation_pipeline
from tvm.tirx.build import codegen_build, split_host_device_mods

from effgen.compiler.dump import Dump
from effgen.compiler.program import Program
from effgen.errors import BuildError, GraphError
from effgen.files.temporary import temporary_folder
from effgen.kernels.cuda.tensor_core import ARRAYS_APART
from effgen.kernels.lowering import tvm_target
from effgen.machines.machine import Gpu
from effgen.machines.programs import run_program
from effgen.machines.target_file import cuda_number
from effgen.machines.toolchain import cuda_program

#: Divisions, square roots and 2^x by the GPU's own units: 2 units in the last place, NaN and infinity stay.
_NVCC_OPTIONS = ("-O3", "-use_fast_math", "-std=c++17")

# TVM would put shared arrays of several types in one place, and then refuse pointers of another type than the first's.
_APART = {"tirx.disable_storage_rewrite": True}


@dataclass(frozen=True)
class DeviceKernel:
    """One kernel of the CUDA source: its name there, blocks and threads of a launch, and which argument of the
    PrimFunc each of its parameters is."""

    symbol: str
    blocks: int
    threads: int
    parameters: tuple[int, ...]


@dataclass(frozen=True)
class CudaSource:
    """CUDA C++ of several functions; `kernels`: the launches that a call of each of them is, in order."""

    text: str
    kernels: Mapping[str, tuple[DeviceKernel, ...]]


def cuda_source(functions: Mapping[str, PrimFunc], machine: Gpu) -> CudaSource:
    """TVM's CUDA C++ for scheduled functions. The caller has entered the TVM target."""
    # TVM would compile what it has written, for this machine's GPU; nvcc does, later and for the target's.
    tvm_ffi.register_global_func("tvm_callback_cuda_compile", lambda code: b"", override=True)
    target = tvm_target(machine)
    # TVM takes a function apart into host and device where it is to be seen from outside.
    public = {name: func.with_attr("global_symbol", name) for name, func in functions.items()}
    apart = {name: func for name, func in public.items() if func.attrs.get(ARRAYS_APART)}
    rest = {name: func for name, func in public.items() if name not in apart}
    device_mod = tvm.IRModule({**_lowered(rest, target, {}), **_lowered(apart, target, _APART)})
    text = codegen_build(device_mod, target).inspect_source()
    by_symbol = {var.name_hint: func for var, func in device_mod.functions.items()}
    kernels = {name: tuple(_kernels_of(name, func, by_symbol)) for name, func in functions.items()}
    return CudaSource(text, kernels)


def _lowered(functions: Mapping[str, PrimFunc], target: tvm.target.Target, passes: Mapping[str, Any]) -> dict[Any, Any]:
    """The device's functions, ready for code generation, that `functions` are split into."""
    if not functions:
        return {}
    lower, _, finish = compilation_pipeline.get_tir_pipeline("s_tir")
    with tvm.transform.PassContext(config=dict(passes)):
        mod = lower(tirx.transform.BindTarget(target)(tvm.IRModule(dict(functions))))
        _, device = split_host_device_mods(mod)
        ((_, device_mod),) = device.items()
        return dict(finish()(device_mod).functions_items())


def _kernels_of(name: str, func: PrimFunc, by_symbol: Mapping[str, PrimFunc]) -> Iterator[DeviceKernel]:
    """The kernels that TVM split `func` into: `<name>_kernel`, `<name>_kernel_1`, ...

    Raises GraphError where one hands the next what is no argument of `func`: sums that others read element by element.
    """
    position = {f"{buffer.name}_ptr": index for index, buffer in enumerate(func.params)}
    symbol, number = f"{name}_kernel", 0
    assert symbol in by_symbol, f"{name}: no kernel in {sorted(by_symbol)}"
    while symbol in by_symbol:
        kernel = by_symbol[symbol]
        if not all(parameter.name in position for parameter in kernel.params):
            operators = name.removeprefix("fused_").replace("_", " ")
            raise GraphError(f"operators along axes ({operators}) cannot be compiled for a GPU yet")
        extents = _thread_extents(kernel.body)
        assert extents.keys() <= {"blockIdx.x", "threadIdx.x"}, extents
        yield DeviceKernel(
            symbol=symbol,
            blocks=extents.get("blockIdx.x", 1),
            threads=extents.get("threadIdx.x", 1),
            parameters=tuple(position[parameter.name] for parameter in kernel.params),
        )
        number += 1
        symbol = f"{name}_kernel_{number}"


def _thread_extents(stmt: tirx.Stmt) -> dict[str, int]:
    """Blocks and threads that a kernel's body is launched with, by TVM's names of the axes."""
    if isinstance(stmt, tirx.SeqStmt):
        return {axis: extent for part in stmt.seq for axis, extent in _thread_extents(part).items()}
    if not isinstance(stmt, tirx.AttrStmt):
        return {}
    extents = _thread_extents(stmt.body)
    if stmt.attr_key == "thread_extent":
        extents[str(stmt.node.thread_tag)] = int(stmt.value)
    return extents


def compile_fatbin(source: str, gpu: Gpu) -> bytes:
    """Machine code for each of the GPU's architectures, and PTX of the newest for those to come.

    Raises BuildError where nvcc is missing or refuses.
    """
    nvcc = cuda_program("nvcc")
    with temporary_folder("cuda") as folder:
        text, result = folder / "kernels.cu", folder / "kernels.fatbin"
        text.write_text(source, encoding="utf-8")
        command = [nvcc, "-fatbin", *_NVCC_OPTIONS, *_architectures(gpu), "-o", str(result), str(text)]
        done = run_program(
            command, cwd=folder, env={**os.environ, "TMPDIR": str(folder)}
        )  # nvcc's own is left by a kill
        if done.returncode != 0 or not result.is_file():
            lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
            said = lines[0] if lines else f"exit status {done.returncode}"
            raise BuildError(f"{nvcc} cannot compile the kernels for {','.join(gpu.archs)}: {said.strip()}")
        return result.read_bytes()


def _architectures(gpu: Gpu) -> list[str]:
    numbers = [cuda_number(arch) for arch in gpu.archs]
    options = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in numbers]
    return [*options, f"-gencode=arch=compute_{max(numbers)},code=compute_{max(numbers)}"]


def write_kernels(functions: Mapping[str, PrimFunc], machine: Gpu, path: Path, dump: Dump) -> CudaSource:
    """Compile the scheduled `functions` and write the machine code to `path`; the source goes to `dump`."""
    source = cuda_source(functions, machine)
    dump.write("cuda", source.text, "cu")
    path.write_bytes(compile_fatbin(source.text, machine))
    return source


def launches_of(program: Program, source: CudaSource) -> list[dict[str, Any]]:
    """The program as a list of launches, plain data for the manifest: kernel, blocks, threads, and for each parameter
    the array and the bytes from its start; `step` counts the program's steps, which may take several launches."""
    return [
        {
            "step": number,
            "kernel": kernel.symbol,
            "blocks": kernel.blocks,
            "threads": kernel.threads,
            "arguments": [[step.places[index].array, step.places[index].offset] for index in kernel.parameters],
        }
        for number, step in enumerate(program.steps)
        for kernel in source.kernels[step.kernel]
    ]
