"""One machine: a CPU or a GPU, with what the compiler must know about it."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias, final

from effgen.errors import TargetError
from effgen.machines.dot import Dot, dot_of
from effgen.machines.microarchitecture import UNKNOWN
from effgen.machines.processor import architecture_of, usable_cpus
from effgen.machines.target_file import Costs, Emulator, Measure, Tolerance, Toolchain

#: Bytes of the widest load of a GPU's thread.
_THREAD_BYTES = 16

#: Channels of a GPU's weights are padded to so many: 16 bytes of float16.
_GPU_STEP = 8


@dataclass(frozen=True, kw_only=True)
class MachineFacts(ABC):
    """What a CPU and a GPU have in common. `mtriple`, `mcpu`, `mattr` and `llvm_options` describe the CPU that runs the
    kernels, or that launches them on the GPU. `microarchitecture`: of a CPU, `UNKNOWN` where nobody says."""

    name: str
    description: str
    mtriple: str
    mcpu: str
    mattr: tuple[str, ...]
    llvm_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    toolchain: Toolchain | None = None
    emulator: Emulator | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    measure: Measure = field(default_factory=Measure)
    microarchitecture: str = UNKNOWN

    @property
    def architecture(self) -> str:
        """The CPU's family, as `platform.machine()` spells it."""
        return architecture_of(self.mtriple)

    @property
    def llvm(self) -> dict[str, Any]:
        """The CPU's own description: what `tvm.target.Target` takes."""
        target: dict[str, Any] = {"kind": "llvm", "mtriple": self.mtriple, "mcpu": self.mcpu}
        return target | ({"mattr": list(self.mattr)} if self.mattr else {}) | dict(self.llvm_options)

    @property
    @abstractmethod
    def tvm(self) -> dict[str, Any]:
        """What kernels are compiled for, as `tvm.target.Target` takes it."""

    @property
    @abstractmethod
    def processor(self) -> str:
        """What kernels are measured on, for records: LLVM's name of the CPU, or the GPU's architecture."""

    @property
    @abstractmethod
    def compiles_for(self) -> str:
        """Every processor that the library holds machine code for, as a list to read."""

    @property
    @abstractmethod
    def cuda_programs(self) -> tuple[str, ...]:
        """Programs of the CUDA toolkit that building for the machine takes."""

    @property
    @abstractmethod
    def needed_features(self) -> tuple[str, ...]:
        """The instruction sets that the code needs of the CPU, spelled as in /proc/cpuinfo."""

    @property
    @abstractmethod
    def is_foreign(self) -> bool:
        """Whether this computer's processors are of another family, and cannot run the code."""

    @property
    @abstractmethod
    def threads(self) -> int:
        """Threads of the host that a call is shared out to."""

    @property
    @abstractmethod
    def most_threads_here(self) -> int:
        """The most threads that a call can have on this computer."""

    @abstractmethod
    def with_threads(self, threads: int | None) -> Self:
        """The machine, its calls shared out to so many threads; None: to as many as it has."""

    @abstractmethod
    def with_archs(self, archs: tuple[str, ...]) -> Self:
        """The machine with machine code for these GPU architectures, ascending. Raises TargetError for a CPU."""

    @property
    @abstractmethod
    def rule_facts(self) -> Mapping[str, float]:
        """What the schedule rules take from the target's file beside the machine's own facts."""

    @property
    @abstractmethod
    def second_level_bytes(self) -> int:
        """Bytes of the second-level caches of all that a call is shared out to."""

    @property
    @abstractmethod
    def lanes(self) -> int:
        """float32 values that are moved at once: by one vector register, or by one thread of a GPU."""

    @property
    @abstractmethod
    def dot(self) -> Dot | None:
        """What multiplies whole-number codes; None: nothing that kernels of ours use."""

    @abstractmethod
    def lanes_of(self, channels: int) -> int:
        """Channels that loops take together where there are so many."""

    @abstractmethod
    def packed_lanes(self, channels: int) -> int:
        """Output channels of a convolution that weights, biases and sums take together: a vector's."""


@final
@dataclass(frozen=True, kw_only=True)
class Cpu(MachineFacts):
    """A CPU, complete: vector registers, one core's caches, cores (which the caller may replace), the instruction sets
    that it has, spelled as in /proc/cpuinfo, and what the estimates of the schedule rules count with (`costs_of`: whose
    they are)."""

    vector_bytes: int
    vector_registers: int
    l1_bytes: int
    l2_bytes: int
    cores: int
    features: tuple[str, ...]
    costs: Costs
    costs_of: str = ""

    @property
    def tvm(self) -> dict[str, Any]:
        return self.llvm

    @property
    def processor(self) -> str:
        return self.mcpu

    @property
    def compiles_for(self) -> str:
        return self.mcpu

    @property
    def cuda_programs(self) -> tuple[str, ...]:
        return ()

    @property
    def needed_features(self) -> tuple[str, ...]:
        return self.features

    @property
    def is_foreign(self) -> bool:
        return self.architecture != platform.machine()

    @property
    def threads(self) -> int:
        return self.cores

    @property
    def most_threads_here(self) -> int:
        return len(usable_cpus())

    def with_threads(self, threads: int | None) -> Self:
        return self if threads is None else replace(self, cores=threads)

    def with_archs(self, archs: tuple[str, ...]) -> Self:
        raise archs_of_a_cpu(self.name, archs)

    @property
    def rule_facts(self) -> Mapping[str, float]:
        return self.costs.model_dump()

    @property
    def second_level_bytes(self) -> int:
        return self.l2_bytes * self.cores

    @property
    def lanes(self) -> int:
        return self.vector_bytes // 4

    def lanes_of(self, channels: int) -> int:
        """Those of a full or half register, whichever leaves no rest."""
        fits = (width for width in (self.lanes, self.lanes // 2) if channels % width == 0)
        return next(fits, self.lanes)

    def packed_lanes(self, channels: int) -> int:
        """Those of a full register, whose last vector is moved back until it fits, or of half ones that leave no rest,
        where these take fewer cycles."""
        half = self.lanes // 2
        if channels % self.lanes == 0 or channels % half:
            return self.lanes
        whole = -(-channels // self.lanes)
        return half if channels // half * self.costs.half_product <= whole else self.lanes

    @property
    def multiplies_by_lane(self) -> bool:
        """Whether a vector is multiplied by one lane of another in one instruction: by NEON, not on x86."""
        return self.architecture == "aarch64"

    @property
    def dot(self) -> Dot | None:
        return dot_of(self.architecture, self.vector_bytes, self.features)


@final
@dataclass(frozen=True, kw_only=True)
class Gpu(MachineFacts):
    """A GPU whose kernels are compiled for the oldest of `archs`; the library holds machine code for each of them, and
    none for its host, whose runtime launches them.

    `shared_memory`: the most bytes that a block may ask for; `l2` bytes.
    """

    archs: tuple[str, ...]
    multiprocessors: int
    shared_memory: int
    l2: int

    @property
    def arch(self) -> str:
        """What kernels may use."""
        return self.archs[0]

    @property
    def tvm(self) -> dict[str, Any]:
        return {"kind": "cuda", "arch": self.arch, "host": self.llvm}

    @property
    def processor(self) -> str:
        return self.arch

    @property
    def compiles_for(self) -> str:
        return ",".join(self.archs)

    @property
    def cuda_programs(self) -> tuple[str, ...]:
        return ("nvcc",)

    @property
    def needed_features(self) -> tuple[str, ...]:
        return ()

    @property
    def is_foreign(self) -> bool:
        return False

    @property
    def threads(self) -> int:
        """One: it launches."""
        return 1

    @property
    def most_threads_here(self) -> int:
        return 1

    def with_threads(self, threads: int | None) -> Self:
        return self

    def with_archs(self, archs: tuple[str, ...]) -> Self:
        return replace(self, archs=archs)

    @property
    def rule_facts(self) -> Mapping[str, float]:
        """None: what the rules of GPUs count with holds for all of them (`effgen.schedules.cuda.cost`)."""
        return {}

    @property
    def second_level_bytes(self) -> int:
        return self.l2

    @property
    def lanes(self) -> int:
        return _THREAD_BYTES // 4

    @property
    def dot(self) -> Dot | None:
        return None

    def lanes_of(self, channels: int) -> int:
        """All of them and what pads them to whole steps: neighbouring threads take neighbouring channels."""
        return -(-channels // _GPU_STEP) * _GPU_STEP

    def packed_lanes(self, channels: int) -> int:
        """As `lanes_of`: one vector of all channels."""
        return self.lanes_of(channels)


#: One machine, complete. Who tells the two apart matches on them and ends in `assert_never`.
Machine: TypeAlias = Cpu | Gpu


def archs_of_a_cpu(target: str, archs: Sequence[str]) -> TargetError:
    """The one line for architectures of GPUs that were asked for of a CPU."""
    return TargetError(f"--cuda-arch {','.join(archs)}: --target {target} is a CPU; expected a CUDA target")
