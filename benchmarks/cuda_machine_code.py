"""What nvcc made of a CUDA bundle's kernels: registers, shared memory, spills, arithmetic and loads. No GPU is needed.

    effgen compile --phi 0 --target cuda-sm90 -o build/b0-cuda
    python benchmarks/cuda_machine_code.py build/b0-cuda

One line a kernel, from `cuobjdump -res-usage` and `-sass` (which wants nvdisasm): registers of a thread; static bytes
of shared memory of a block; bytes of stack and local memory, which is where spilled registers would go; and how many
instructions there are of some kinds, which is what the compiler wrote, not how often they run.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from effgen.machines.toolchain import cuda_program
from effgen.runtime.manifest import KERNELS

_USAGE = re.compile(r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_FUNCTION = re.compile(r"^\s*Function : (\w+)$", re.MULTILINE)
# An instruction after its address and, perhaps, the predicate that it is guarded by.
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")


@dataclass(frozen=True)
class KernelCode:
    """One kernel on one architecture; `instructions` counts them by their full names, such as LDG.E.128.CONSTANT."""

    name: str
    registers: int
    shared: int
    spilled: int
    instructions: Counter[str]

    def count(self, *parts: str) -> int:
        """Instructions of the first name that have all of the other parts: `count("LDG", "128")`."""
        names = ((name.split("."), number) for name, number in self.instructions.items())
        return sum(number for name, number in names if name[0] == parts[0] and set(parts) <= set(name))


def kernels_of(fatbin: Path, arch: str) -> list[KernelCode]:
    """The kernels of a file of machine code, by name. Raises BuildError where a program of the toolkit is missing."""
    usage = {
        name: [int(number) for number in rest] for name, *rest in _USAGE.findall(_dump("-res-usage", fatbin, arch))
    }
    _, *parts = _FUNCTION.split(_dump("-sass", fatbin, arch))
    found = []
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        registers, stack, shared, local = usage[name]
        found.append(KernelCode(name, registers, shared, stack + local, Counter(_INSTRUCTION.findall(text))))
    return sorted(found, key=lambda kernel: kernel.name)


def _dump(option: str, fatbin: Path, arch: str) -> str:
    """What cuobjdump says; it looks for nvdisasm on the path."""
    path = os.pathsep.join([str(Path(cuda_program("nvdisasm")).parent), os.environ.get("PATH", "")])
    command = [cuda_program("cuobjdump"), option, "-arch", arch, str(fatbin)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PATH": path}).stdout


def table(kernels: list[KernelCode]) -> str:
    """Markdown; of loads and stores those of 16 bytes a thread are counted."""
    lines = [
        "| kernel | registers | shared | spilled | FFMA | HMMA | LDG.128 | LDS.128 | STG.128 |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for kernel in kernels:
        wide = [kernel.count(name, "128") for name in ("LDG", "LDS", "STG")]
        counts = [kernel.registers, kernel.shared, kernel.spilled, kernel.count("FFMA"), kernel.count("HMMA"), *wide]
        lines.append(f"| `{kernel.name.removesuffix('_kernel')}` | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--arch", default="sm_90")
    arguments = parser.parse_args()
    print(table(kernels_of(arguments.bundle / KERNELS, arguments.arch)))


if __name__ == "__main__":
    main()
