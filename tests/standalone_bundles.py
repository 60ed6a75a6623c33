"""What the tests of the standalone library share: bundles that hold one, and programs built against them."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import effgen
from effgen import driver
from effgen.deploy.standalone.build import compile_driver
from effgen.driver import CompileRequest, compile_bundle
from effgen.network import NetworkRequest
from effgen.network.scaling import Overrides
from effgen.runtime import Manifest, read_manifest
from effgen.runtime.manifest import WEIGHTS

PROGRAMS = Path(__file__).parent / "standalone_programs"
EMIT = ("bundle", "standalone", "executable")
SYSTEM = ["-lm", "-lpthread"]
#: B0's name, a fraction of its size: what the examples are compiled against.
SMALL_B0 = NetworkRequest(overrides=Overrides(width=0.25, depth=0.3, resolution=32, classes=10))
ALLOWED = {"libc.so.6", "libm.so.6", "libpthread.so.0"}


@dataclass(frozen=True)
class Made:
    """A bundle with its standalone library, and the kernels' object file that both were linked from."""

    bundle: Path
    kernels: tuple[Path, ...]

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.bundle)

    @property
    def name(self) -> str:
        return str((self.manifest.standalone or {})["name"])

    @property
    def static(self) -> Path:
        return self.bundle / f"lib{self.name}.a"

    @property
    def shared(self) -> Path:
        return self.bundle / f"lib{self.name}.so"

    def image(self, folder: Path, pixels: np.ndarray | None = None) -> Path:
        """A raw image as the programs take it; None: the golden one."""
        with np.load(self.bundle / "golden.npz") as pair:
            (pair["input"] if pixels is None else pixels).tofile(folder / f"{self.name}.f32")
        return folder / f"{self.name}.f32"


def made(
    folder: Path, network: NetworkRequest, emit: tuple[str, ...] = EMIT, target: str = "cpu", name: str | None = None
) -> Made:
    """The network compiled into `folder`; `name`: of its library."""
    kept = folder / "kernels"
    kept.mkdir(parents=True)
    write = driver.write_standalone

    def write_and_keep(manifest: Manifest, name: str, staging: Path, kernels: list[Path], emit: Any) -> Manifest:
        for file in kernels:
            shutil.copy(file, kept)
        return write(manifest, name, staging, kernels, emit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "write_standalone", write_and_keep)
        compile_bundle(CompileRequest(network, folder / "bundle", target=target, emit=emit, name=name))
    return made_in(folder)


def made_in(folder: Path) -> Made:
    """What `made` left in `folder`."""
    return Made(folder / "bundle", tuple(sorted((folder / "kernels").iterdir())))


def output_of(*command: object, **how: Any) -> str:
    """Standard output of a command that succeeds and complains about nothing."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, **how)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def driver_objects(
    made: Made, folder: Path, *flags: str, features: list[str] | None = None, compiler: str = "g++"
) -> list[Path]:
    """The driver's objects with these flags, warnings being errors; `config.h` and the header lie beside them."""
    folder.mkdir(exist_ok=True)
    manifest = made.manifest
    if features is not None:
        manifest.target["features"] = features
    return compile_driver(manifest, made.name, made.bundle / WEIGHTS, folder, compiler, ["-Werror", *flags])


def versions_of_glibc(readelf: str, library: Path) -> list[tuple[int, ...]]:
    """Every version of glibc's symbols that the library asks for."""
    found = set(re.findall(r"GLIBC_([0-9.]+)", output_of(readelf, "-V", library)))
    return sorted(tuple(map(int, version.split("."))) for version in found)


def needed_by(readelf: str, library: Path) -> set[str]:
    """The libraries that the dynamic loader must find."""
    return set(re.findall(r"\(NEEDED\).*\[(.*)\]", output_of(readelf, "-d", library)))


def answer(made: Made, image: np.ndarray, threads: int) -> np.ndarray:
    """The bundle's own."""
    return effgen.load(made.bundle, threads)(image)
