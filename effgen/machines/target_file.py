"""What a target's TOML file may say, checked strictly: unknown keys, wrong types, and mixes that no machine has."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from effgen.errors import TargetError, candidates
from effgen.files.bounded import UnreadableError, table_from_toml
from effgen.files.strict import StrictModel, first_problem
from effgen.machines.microarchitecture import MICROARCHITECTURES, UNKNOWN
from effgen.machines.processor import architecture_of, features_of
from effgen.words import Route


def _known_microarchitecture(name: str) -> str:
    if name not in MICROARCHITECTURES:
        raise ValueError(f"expected the name of a micro-architecture; {candidates(name, MICROARCHITECTURES)}")
    return name


_Positive = Annotated[int, Field(ge=1)]
_Text = Annotated[str, StringConstraints(min_length=1)]
_Microarchitecture = Annotated[str, AfterValidator(_known_microarchitecture)]
_CudaArch = Annotated[str, StringConstraints(pattern=r"^sm_[1-9][0-9]{1,2}$")]

#: The instruction set that vectors of more bytes need, by architecture.
_WIDE_VECTORS = {"x86_64": {64: "avx512f", 32: "avx2"}, "aarch64": {32: "sve"}}


class Llvm(StrictModel):
    """What TVM hands on to LLVM: the keys of its `llvm` target."""

    mtriple: _Text
    mcpu: _Text
    mattr: list[_Text] = []
    mabi: _Text | None = None
    float_abi: Annotated[Literal["soft", "hard"] | None, Field(alias="mfloat-abi")] = None
    cl_opt: Annotated[list[_Text], Field(alias="cl-opt")] = []

    @property
    def architecture(self) -> str:
        """The first part of the triple, as `platform.machine()` spells it."""
        return architecture_of(self.mtriple)


class Cuda(StrictModel):
    """A GPU. `shared_memory`: the most bytes that a block may ask for; `l2` bytes."""

    arch: _CudaArch
    multiprocessors: _Positive
    shared_memory: Annotated[int, Field(ge=16 * 1024, le=1 << 20)]
    l2: _Positive


class Vector(StrictModel):
    """A vector register's bytes, and how many there are."""

    bytes: Annotated[int, Field(ge=16, le=256, multiple_of=16)]
    registers: Annotated[int, Field(ge=8, le=64)]


class Cache(StrictModel):
    """Bytes of one core's first and second level."""

    l1: _Positive
    l2: _Positive


class Toolchain(StrictModel):
    """The C++ compiler that links for the machine, and the Debian package that brings it."""

    compiler: _Text
    package: _Text


class Emulator(StrictModel):
    """The command that a program for the machine is put behind to run here, and the Debian package that brings it."""

    command: Annotated[list[_Text], Field(min_length=1)]
    package: _Text


class Tolerance(StrictModel):
    """Relative L2 error against PyTorch that an output may have."""

    float32: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    float16: Annotated[float, Field(gt=0, lt=1)] = 2e-2


class Measure(StrictModel):
    """How the machine is reached to measure there; `key` is its name at the RPC tracker."""

    route: Route = "local"
    key: _Text | None = None

    @model_validator(mode="after")
    def _key_of_rpc(self) -> Self:
        if self.key is not None and self.route != "rpc":
            raise ValueError(f'measure.key = {self.key!r}: only a tracker asks for it: route = "rpc"')
        return self


@dataclass(frozen=True)
class Processor:
    """A kind of processor, before a machine is made of its file: the tables that its file needs, and those that make no
    sense there; the types that its kernels compute in; whether `--cuda-arch` means something there, and whether its
    code can be linked into a C program."""

    needed: tuple[str, ...]
    refused: tuple[str, ...]
    dtypes: tuple[str, ...]
    has_archs: bool
    links_into_c: bool


CPU = Processor(
    needed=("llvm", "vector", "cache", "cores", "features"),
    refused=(),
    dtypes=("float32",),
    has_archs=False,
    links_into_c=True,
)
GPU = Processor(
    needed=("llvm", "cuda"),
    refused=("vector", "cache", "cores", "features", "emulator", "costs", "microarchitecture"),
    dtypes=("float32", "float16"),
    has_archs=True,
    links_into_c=False,
)


_Cycles = Annotated[float, Field(ge=0)]
_Count = Annotated[int, Field(ge=1)]


class Costs(StrictModel):
    """What the schedule rules' estimates count with on a CPU: cycles, of a vector where nothing else is said.

    `launch`: of sharing a kernel out; `stream_bytes`: bytes that a core moves in a cycle beyond its own caches;
    `hiding_rows`: rows that hide fetching a weight; `chain`: vectors that keep the units busy. `half_product` and
    `half_store` are of half vectors, as shares of whole ones; `window_slices`: whether it pays to take a dense window's
    channels by slices; `write_ahead`: whether it pays to ask for the lines that a depthwise convolution writes next.
    `targets/x86-64-v4.toml` says what each was measured as.
    """

    launch: _Cycles
    stream_bytes: Annotated[float, Field(gt=0)]
    hiding_rows: _Count
    chain: _Count
    half_product: _Cycles
    half_store: _Cycles
    operand: _Cycles
    load: _Cycles
    tile_loads: _Cycles
    tile_second: _Cycles
    exponential: _Cycles
    exponential_apart: _Cycles
    store: _Cycles
    copy_first: _Cycles
    copy_second: _Cycles
    copy_beyond: _Cycles
    ring_first: _Cycles
    ring_second: _Cycles
    ring_beyond: _Cycles
    image: _Cycles
    shared_load: _Cycles
    window_operand: _Cycles
    window_weight: _Cycles
    window_loads: _Cycles
    panel_second: _Cycles
    panel_beyond: _Cycles
    image_beyond: _Cycles
    window_slices: bool
    gate: _Cycles
    write_ahead: bool


class TargetFile(StrictModel):
    """A machine as TOML: every table, or `detect` (this machine, or its GPU) and what detection should not decide.

    `costs` None: those of `inherited_costs`, from which a table takes what it leaves out.
    """

    description: _Text
    detect: bool | Literal["cuda"] = False
    microarchitecture: _Microarchitecture | None = None
    llvm: Llvm | None = None
    vector: Vector | None = None
    cache: Cache | None = None
    cores: _Positive | None = None
    features: list[str] | None = None
    costs: Costs | None = None
    cuda: Cuda | None = None
    toolchain: Toolchain | None = None
    emulator: Emulator | None = None
    tolerance: Tolerance = Tolerance()
    measure: Measure = Measure()

    @property
    def processor(self) -> Processor:
        """What the kernels run on."""
        return GPU if self.cuda is not None or self.detect == "cuda" else CPU

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [key for key in self.processor.needed if getattr(self, key) is None]
        if missing and not self.detect:
            raise ValueError(f"expected {', '.join(missing)}; state them, or detect = true for this machine")
        return self

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for key in self.processor.refused:
            if getattr(self, key) is not None:
                raise ValueError(f"{key}: describes a CPU, but the kernels run on a GPU (cuda); leave it out")
        if self.llvm is not None:
            self._check_features(self.llvm.architecture)
        return self

    def _check_features(self, architecture: str) -> None:
        """The instruction sets must be of this architecture, and wide enough for the vectors."""
        known = set(features_of(architecture).values())
        for name in self.features or []:
            if known and name not in known:
                raise ValueError(
                    f"features: {name} is no instruction set of {architecture}, which llvm.mtriple names; "
                    f"known: {', '.join(sorted(known))}"
                )
        if self.vector is not None and self.features is not None:
            needs = _WIDE_VECTORS.get(architecture, {}).get(self.vector.bytes)
            if needs is not None and needs not in self.features:
                raise ValueError(f"vector.bytes = {self.vector.bytes}: needs {needs} among the features")


def cuda_number(arch: str) -> int:
    """90 of `sm_90`: what architectures are ordered by."""
    return int(arch.removeprefix("sm_"))


def cuda_archs_from_text(text: str) -> tuple[str, ...]:
    """`sm_80,sm_90` as names, ascending. Raises TargetError for anything that is no such name."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    wrong = [name for name in names if not re.fullmatch(r"sm_[1-9][0-9]{1,2}", name)]
    if wrong or not names:
        found = wrong[0] if wrong else repr(text)
        raise TargetError(f"--cuda-arch {found}: expected names such as sm_80,sm_90 (sm_90a has no advantage here)")
    return tuple(sorted(set(names), key=cuda_number))


#: The target that states every cost, and by bytes of a vector those that state what they have otherwise.
_MOST_MEASURED, _MEASURED = "x86-64-v4", {32: "x86-64-v3"}

#: Whose they are; of other widths as of the widest.
_MEASURED_ON = {32: "AMD Zen 4, Zen 3", 64: "AMD Zen 4"}


@cache
def _measured_costs(vector_bytes: int) -> dict[str, Any]:
    """The table of the target that the rules were made on, as it stands there, but for what a machine with vectors of
    this width states."""
    names = dict.fromkeys((_MOST_MEASURED, _MEASURED.get(vector_bytes, _MOST_MEASURED)))
    texts = ((resources.files("effgen.targets") / f"{name}.toml").read_text(encoding="utf-8") for name in names)
    return {key: value for text in texts for key, value in tomllib.loads(text)["costs"].items()}


def inherited_costs(vector_bytes: int, microarchitecture: str = UNKNOWN) -> tuple[Costs, str]:
    """What the rules count with on a CPU of which its file says nothing, and whose it is: the costs of AMD's Zen 4,
    where vectors have 32 bytes what Zen 3 has otherwise, and what is known of the micro-architecture."""
    of_width = _MEASURED_ON.get(vector_bytes, _MEASURED_ON[64])
    own = _own_costs(vector_bytes, microarchitecture)
    costs = Costs.model_validate(_measured_costs(vector_bytes) | own)
    return costs, f"{of_width}; of {microarchitecture} {', '.join(own)}" if own else of_width


def _own_costs(vector_bytes: int, microarchitecture: str) -> dict[str, Any]:
    """What `targets/costs` has of a micro-architecture with vectors of this width."""
    file = resources.files("effgen.targets.costs") / f"{microarchitecture or 'none'}.toml"
    found = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    own: dict[str, Any] = found.get(f"bytes-{vector_bytes}", {})
    return own


def _stated_vector_bytes(data: dict[str, Any]) -> int:
    """0 where the file leaves that to detection, or states something else."""
    vector = data.get("vector")
    found = vector.get("bytes") if isinstance(vector, dict) else None
    return found if isinstance(found, int) else 0


def target_file_from_text(where: str, text: str) -> TargetFile:
    """The file's content, checked; raises TargetError that begins with `where`."""
    try:
        data = table_from_toml(text)
        if isinstance(data.get("costs"), dict):
            data["costs"] = _measured_costs(_stated_vector_bytes(data)) | data["costs"]
        return TargetFile.model_validate(data)
    except UnreadableError as error:
        raise TargetError(f"{where}: not TOML: {error}") from None
    except ValidationError as error:
        raise TargetError(f"{where}: {first_problem(error, TargetFile)}") from None
