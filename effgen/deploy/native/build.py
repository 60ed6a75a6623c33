"""`effgen-run` built by CMake, once for each state of its sources, compiler and TVM."""

from __future__ import annotations

import hashlib
import platform
from importlib import resources
from pathlib import Path

from effgen.deploy.native.cache import cached_folder
from effgen.deploy.native.libraries import runtime_libraries, runtime_versions
from effgen.errors import BuildError
from effgen.files.temporary import plainly_named_folder
from effgen.machines.processor import usable_cpus
from effgen.machines.programs import required_tool, tool_output
from effgen.runtime.library import package_file

PROGRAM = "effgen-run"


def build_runner(triple: str, compiler: str, package: str) -> Path:
    """The program `effgen-run` for the machine `triple` (e.g. `aarch64-linux-gnu`), in a folder with the two libraries
    that it needs: the folder runs wherever it is copied.

    `compiler` is the C++ compiler for that machine, `package` the Debian package that holds it. Raises BuildError: a
    tool is missing, the libraries cannot be had, the build fails.
    """
    architecture = triple.split("-")[0]
    toolchain = [] if architecture == platform.machine() else [f"-DCMAKE_TOOLCHAIN_FILE={_toolchain_file(triple)}"]
    compiler = required_tool([compiler], f"builds {PROGRAM} for {triple}", f"apt-get install {package}")
    cmake = required_tool(["cmake"], f"builds {PROGRAM}", "pip install cmake, or apt-get install cmake")
    runtime, ffi = runtime_libraries(architecture)
    settings = [
        *toolchain,
        f"-DCMAKE_CXX_COMPILER={compiler}",
        "-DCMAKE_BUILD_TYPE=Release",
        f"-DTVM_FFI_INCLUDE_DIR={package_file('tvm_ffi', 'include/tvm/ffi/tvm_ffi.h').parents[2]}",
        f"-DTVM_RUNTIME_LIBRARY={runtime}",
        f"-DTVM_FFI_LIBRARY={ffi}",
    ]

    def fill(folder: Path) -> None:
        failure = f"building {PROGRAM} for {triple} with {compiler} failed"
        with plainly_named_folder("native") as build:
            tool_output([cmake, "-S", _sources(), "-B", build, *settings], failure)
            tool_output([cmake, "--build", build, "--parallel", str(len(usable_cpus()))], failure)
            tool_output([cmake, "--install", build, "--prefix", folder], failure)

    return cached_folder(f"runner-{triple}-{_digest(compiler)}", fill) / PROGRAM


def _sources() -> Path:
    return Path(str(resources.files("effgen.native_sources")))


def _toolchain_file(triple: str) -> Path:
    path = _sources() / f"{triple}.cmake"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in _sources().glob("*.cmake")))
        raise BuildError(f"{PROGRAM} cannot be built for {triple} here: no native/{path.name}; known: {known}")
    return path


def _digest(compiler: str) -> str:
    """Of all that decides what the program becomes."""
    found = hashlib.sha256("\0".join([compiler, _compiler_version(compiler), *runtime_versions()]).encode())
    for file in sorted([*_sources().iterdir(), *(_sources() / "pool").iterdir()]):
        if file.suffix in (".c", ".cc", ".h", ".cmake", ".txt"):
            found.update(f"\0{file.name}\0".encode() + file.read_bytes())
    return found.hexdigest()[:16]


def _compiler_version(compiler: str) -> str:
    return tool_output([compiler, "--version"], f"{compiler} --version failed")
