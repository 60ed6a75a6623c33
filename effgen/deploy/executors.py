"""What runs a bundle's images: this process, `effgen-run` under an emulator of the machine that it was built for, or a
device behind TVM's RPC (`effgen.measure.bundle`).

Whoever judges a bundle needs no more than `Executor`; another way to a machine is another class here, and a line of
`executor_of`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from effgen.deploy.native import Runner, build_runner, run_images
from effgen.machines.processor import default_threads
from effgen.runtime import LoadedModel, Manifest, read_manifest
from effgen.runtime.answers import Answer, joined
from effgen.runtime.cuda import CudaModel
from effgen.runtime.library import prepare_tvm
from effgen.runtime.model import load_checked
from effgen.words import OnPhase

if TYPE_CHECKING:
    from effgen.deploy.native import Runner
    from effgen.measure.protocol import Remote

Images = NDArray[np.float32]

THIS_PROCESSOR = "this processor"


class Executor(Protocol):
    """A bundle that can be run: images `(n, channels, height, width)` -> logits `(n, classes)` or another answer to n
    images, n any multiple of its batch; raises BundleError where the images do not fit or the run fails."""

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""

    @property
    def threads(self) -> int:
        """Of a call."""

    @property
    def name(self) -> str:
        """What runs it, as reports print it."""

    def __call__(self, images: Images) -> Answer:
        """Run as many calls as the images need."""


@dataclass(frozen=True)
class InProcess:
    """The bundle loaded into this process."""

    model: LoadedModel | CudaModel
    name: str = THIS_PROCESSOR

    @property
    def manifest(self) -> Manifest:
        return self.model.manifest

    @property
    def threads(self) -> int:
        return self.model.threads

    def __call__(self, images: Images) -> Answer:
        batch = self.manifest.input["shape"][0]
        return joined([self.model(images[start : start + batch]) for start in range(0, len(images), batch)])


@dataclass(frozen=True)
class Emulated:
    """`effgen-run` under an emulator, a process for each call. Its answers are the machine's, its times are not."""

    bundle: Path
    manifest: Manifest
    threads: int
    runner: Runner

    @property
    def name(self) -> str:
        return Path(self.runner.emulator[0]).name

    def __call__(self, images: Images) -> Answer:
        return run_images(self.runner, self.bundle, images, self.threads)


def executor_of(
    path: Path,
    threads: int | None = None,
    on_phase: OnPhase = lambda phase: None,
    remote: Remote | None = None,
) -> Executor:
    """What can run the bundle directory `path`: a device behind `remote` where that is given, else what there is here.

    `threads` None: as many as it was compiled for, and there are. Raises BundleError where the bundle cannot be loaded,
    BuildError where it is for another architecture and a tool to run it here is missing, with what to install,
    TuneError where no device can be had.
    """
    manifest = read_manifest(path)
    if remote is not None:
        on_phase(f"find a device at the tracker {remote.tracker}, send the bundle")
        prepare_tvm()
        from effgen.measure.bundle import RemoteBundle

        return RemoteBundle(path, manifest, remote, threads)
    if not manifest.is_foreign:
        return InProcess(load_checked(path, manifest, threads))
    command = emulator_of(manifest)
    runner = Runner(runner_program(manifest, on_phase), command)
    return Emulated(path, manifest, threads or min(manifest.threads, default_threads()), runner)


def emulator_of(manifest: Manifest) -> tuple[str, ...]:
    """The command that runs programs for the bundle's machine here; empty for this machine's own family.

    It is what the manifest says of the target: a bundle is verified on desks, too, that do not have the target's TOML
    file. (Its commands are trusted no more than its library, which is run as well.) Raises BuildError as
    `effgen.machines.toolchain.emulator_command` does.
    """
    if not manifest.is_foreign:
        return ()
    from effgen.machines.target_file import Emulator
    from effgen.machines.toolchain import emulator_command

    stated = manifest.target.get("emulator")  # older bundles say nothing of it
    emulator = None if stated is None else Emulator(**stated)
    return emulator_command(manifest.target["name"], manifest.architecture, emulator)


def compiler_of(manifest: Manifest) -> str:
    """The C++ compiler for the bundle's processor, which compiles C as well: for a foreign one, what the manifest says
    of the target. Raises BuildError where there is none, with what to install."""
    from effgen.machines.target_file import Toolchain
    from effgen.machines.toolchain import cross_compiler, native_linker

    if not manifest.is_foreign:
        return native_linker()
    stated = manifest.target.get("toolchain")
    toolchain = None if stated is None else Toolchain(**stated)
    return cross_compiler(manifest.target["name"], f"{manifest.architecture}-linux-gnu", toolchain)


def runner_program(manifest: Manifest, on_phase: OnPhase) -> Path:
    """`effgen-run` for the bundle's machine, found or built, beside the two libraries that it needs.

    Raises BuildError where it cannot be built, with what to install.
    """
    triple, compiler = f"{manifest.architecture}-linux-gnu", compiler_of(manifest)
    package = manifest.target["toolchain"]["package"] if manifest.is_foreign else "g++"
    on_phase(f"find or build effgen-run for {triple}")
    return build_runner(triple, compiler, package)
