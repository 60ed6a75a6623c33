"""A CUDA emulator: a bundle for a GPU runs from end to end on a machine that has none, as qemu does for ARM.

Two halves:

- The driver: a fake `libcuda.so.1` (driver.cc, streams.cc) that is loaded in place of the real one. Memory, streams,
  events and graphs work; images are checked as a driver checks them.
- The kernels: the CUDA C++ source that TVM's code generator wrote, compiled by the host's C++ compiler with device.h
  before it, where each thread of a block is a fiber (fibers.h).

The machine code under test is the one that is shipped, by nvcc. Only the launches are diverted: the driver looks a
kernel up by name in the kernels' library and runs it on the CPU.

    driver = build_driver(folder)
    kernels = build_kernels(cuda_source, folder / "kernels.so")
    subprocess.run([...], env=environment(driver, kernels))

The emulator is stricter than a GPU: device memory faults when the host touches it, both kinds of memory begin as NaN
and have guards around them, misaligned accesses and divergent barriers end the process with a message, and the order of
threads and blocks can be changed. It knows nothing about time, registers or caches. Of PTX it knows cp.async; not
wgmma, mma, ldmatrix, bulk copies and their barriers, nor thread block clusters, bfloat16 and textures.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from effgen.machines.toolchain import cuda_program

FOLDER = Path(__file__).parent

# Floats as nvcc has them by default: contracted, otherwise IEEE. Its code reads an array through any vector type. A
# misaligned access, which only a GPU notices by itself, becomes an illegal instruction (and the code 1.5 times slower).
_KERNEL_FLAGS = [
    *("-std=c++20", "-O2", "-ftree-vectorize", "-march=native", "-ffp-contract=fast", "-fno-math-errno"),
    *("-fno-strict-aliasing", "-fwrapv", "-ftls-model=initial-exec", "-fvisibility=hidden", "-w"),
    *("-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"),
]

_ALIGNMENT = r"(?:(?:alignas|__align__)\s*\(\s*\w+\s*\)\s*)?"
_DYNAMIC = re.compile(rf"extern\s+__shared__\s+{_ALIGNMENT}([\w:<>, ]+?)\s+(\w+)\s*\[\s*\]\s*;")
_STATIC = re.compile(rf"(?<!extern )__shared__\s+{_ALIGNMENT}([\w:<>, ]+?)\s+(\w+)\s*((?:\[[^\]]*\]\s*)*);")
# The PTX of TVM's helpers for asynchronous copies into shared memory, and what stands for it here.
_COPY = r"cp\.async\.c[ag]\.shared\.global(?:\.L2::\w+)? \[%0\], \[%1\], (\d+)"
_OPERANDS = r'"r"\((\w+)\), "l"\((\w+)\)'
_GUARD = r"\{ \.reg \.pred p; setp\.ne\.b32 p, %2, 0; @p "
_PTX = [
    (rf'"{_COPY};" :\s*: {_OPERANDS} : "memory"', r"emulated::copy_async(\2, \3, \1, \1)"),
    (rf'"{_COPY}, %2;" :\s*: {_OPERANDS}, "r"\((\w+)\) : "memory"', r"emulated::copy_async(\2, \3, \1, \4)"),
    (
        rf'"{_GUARD}{_COPY}; \}}" :\s*: {_OPERANDS}, "r"\((\w+)\) : "memory"',
        r"if (\4) emulated::copy_async(\2, \3, \1, \1)",
    ),
    (r'"cp\.async\.commit_group;"[ :]*(?:"memory")?', "emulated::runner->copies().commit()"),
    (r'"cp\.async\.wait_group (\d+);"[ :]*"memory"', r"emulated::runner->copies().wait(\1)"),
    (r'"cp\.async\.wait_all;"[ :]*"memory"', "emulated::runner->copies().wait_all()"),
]
_PTX_LEFT = re.compile(r"(?:asm\s+volatile|__asm__\s+__volatile__)\s*\(.*")

_BOUNDS = r"(?:__launch_bounds__\s*\(\s*(\d+)[^)]*\)\s*)?"
_KERNEL = re.compile(rf'extern\s+"C"\s+__global__\s+{_BOUNDS}void\s+{_BOUNDS}(\w+)\s*\(')


def build_driver(folder: Path) -> Path:
    """Compile the fake driver into `folder` (created where missing), and return it.

    It needs the headers of a CUDA toolkit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = [str(FOLDER / name) for name in ("driver.cc", "streams.cc")]
    options = ["-O2", "-std=c++20", "-Wall", "-shared", "-fPIC", f"-I{cuda_headers()}"]
    _compile([*options, *sources, "-o", str(folder / "libcuda.so.1"), "-Wl,-soname,libcuda.so.1", "-ldl"])
    return folder


def build_kernels(cuda_source: str, path: Path, flags: Sequence[str] = ()) -> Path:
    """Compile CUDA C++ as TVM generates it into the library `path` of host functions, and return it.

    Every `extern "C" __global__` function becomes a kernel. Shared memory is declared inside functions, one array a
    declaration. The source as compiled is left beside the library, as `path` with the suffix .cc.
    """
    source = path.with_suffix(".cc")
    source.write_text(host_source(cuda_source))
    include = [f"-I{FOLDER / 'include'}", "-include", str(FOLDER / "device.h")]
    _compile([*_KERNEL_FLAGS, *flags, "-shared", "-fPIC", *include, str(source), "-o", str(path), "-pthread"])
    return path


def environment(driver: Path, *kernels: Path, sm: int = 90, order: str = "forward") -> dict[str, str]:
    """The environment for a process that shall see the emulated GPU of compute capability `sm` (90: 9.0).

    `order` is that of a block's threads: forward, reverse or shuffled.
    """
    path = os.pathsep.join(filter(None, [str(driver), os.environ.get("LD_LIBRARY_PATH")]))
    return {
        **os.environ,
        "LD_LIBRARY_PATH": path,
        "EFFGEN_EMULATED_KERNELS": ":".join(str(library) for library in kernels),
        "EFFGEN_EMULATED_SM": str(sm),
        "EFFGEN_EMULATED_ORDER": order,
    }


def host_source(cuda_source: str) -> str:
    """`cuda_source` with its shared arrays, PTX and kernels spelled for device.h; every line keeps its number."""
    text = _without_ptx(_with_shared_arrays(cuda_source))
    bounds = {name: before or after or "0" for before, after, name in _KERNEL.findall(cuda_source)}
    if not bounds:
        raise ValueError('no `extern "C" __global__ void` function in the source')
    return text + "\n" + "".join(f"EFFGEN_KERNEL({name}, {threads})\n" for name, threads in bounds.items())


def _with_shared_arrays(text: str) -> str:
    text = _DYNAMIC.sub(r"\1* \2 = emulated::dynamic_shared<\1>();", text)
    number = -1

    def static(match: re.Match[str]) -> str:
        nonlocal number
        number += 1
        of, name, extents = match.groups()
        return (
            f"typedef {of} {name}__shared_t{extents}; "
            f"{name}__shared_t& {name} = emulated::shared_array<{name}__shared_t>({number});"
        )

    return _STATIC.sub(static, text)


def _without_ptx(text: str) -> str:
    for instruction, call in _PTX:
        text = re.sub(rf"asm volatile\({instruction}\);", f"{call};", text)
    left = _PTX_LEFT.search(text)
    if left:
        raise ValueError(f"PTX that the emulator does not know: {left[0]}")
    return text


def cuda_headers() -> Path:
    """Where cuda.h is: beside the nvcc that effgen uses (the index's packages are laid out as a toolkit is), or in
    /usr/local/cuda."""
    for root in (Path(cuda_program("nvcc")).resolve().parents[1], Path("/usr/local/cuda")):
        if (root / "include" / "cuda.h").exists():
            return root / "include"
    raise FileNotFoundError("no CUDA toolkit with cuda.h found; set CUDA_HOME")


def _compile(arguments: list[str]) -> None:
    compiler = os.environ.get("CXX") or shutil.which("g++") or "c++"
    done = subprocess.run([compiler, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{compiler} {' '.join(arguments)}\n{done.stderr[-4000:]}")
