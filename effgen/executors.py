"""What runs a bundle's images: this process, `effgen-run` under an emulator of the machine that it was built for, or a
device behind TVM's RPC (`effgen.measure.bundle`).

Whoever judges a bundle needs no more than `Executor`; another way to a machine is another class here, and a line of
`executor_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from effgen.cpu import usable_cpus
from effgen.runtime import LoadedModel, Manifest, read_manifest
from effgen.runtime.cuda import CudaModel
from effgen.runtime.library import prepare_tvm
from effgen.runtime.model import load_checked

if TYPE_CHECKING:
    from effgen.measure.protocol import Remote
    from effgen.native import Runner

Images = NDArray[np.float32]
Logits = NDArray[np.float32]

THIS_PROCESSOR = "this processor"


class Executor(Protocol):
    """A bundle that can be run: images `(n, channels, height, width)` -> logits `(n, classes)`, n any multiple of its
    batch; raises BundleError where the images do not fit or the run fails."""

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""

    @property
    def threads(self) -> int:
        """Of a call."""

    @property
    def name(self) -> str:
        """What runs it, as reports print it."""

    def __call__(self, images: Images) -> Logits:
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

    def __call__(self, images: Images) -> Logits:
        batch = self.manifest.input["shape"][0]
        return np.concatenate([self.model(images[start : start + batch]) for start in range(0, len(images), batch)])


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

    def __call__(self, images: Images) -> Logits:
        from effgen.native import run_images

        return run_images(self.runner, self.bundle, images, self.threads)


def executor_of(
    path: Path,
    threads: int | None = None,
    on_phase: Callable[[str], None] = lambda phase: None,
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
    runner = _emulated_runner(manifest.target, manifest.architecture, on_phase)
    return Emulated(path, manifest, threads or min(manifest.threads, len(usable_cpus())), runner)


def _emulated_runner(target: dict[str, Any], architecture: str, on_phase: Callable[[str], None]) -> Runner:
    """The program and its emulator by what the manifest says of the target: a bundle is verified on desks, too, that
    do not have the target's TOML file. (Its commands are trusted no more than its library, which is run as well.)"""
    from effgen.native import Runner, build_runner
    from effgen.target_file import Emulator, Toolchain
    from effgen.toolchain import cross_compiler, emulator_command

    name, triple = target["name"], target["llvm"]["mtriple"]
    stated = target.get("emulator"), target.get("toolchain")  # older bundles say nothing of them
    emulator, toolchain = (
        None if table is None else kind(**table) for kind, table in zip((Emulator, Toolchain), stated, strict=True)
    )
    command = emulator_command(name, architecture, emulator)
    compiler = cross_compiler(name, triple, toolchain)
    assert toolchain is not None
    on_phase(f"find or build effgen-run for {triple}")
    return Runner(build_runner(triple, compiler, toolchain.package), command)
