"""TVM's two runtime libraries for any architecture: out of the wheels of the very versions that are installed here."""

from __future__ import annotations

import platform
import shlex
import shutil
import sys
import zipfile
from importlib.metadata import files, version
from pathlib import Path

from effgen.deploy.native.cache import cached_folder
from effgen.errors import BuildError, candidates
from effgen.machines.programs import tool_output
from effgen.runtime.elf import MACHINES, architecture_of_machine
from effgen.runtime.library import package_file

#: Distribution -> (package, the library inside it).
_LIBRARIES = {"apache-tvm": ("tvm", "lib/libtvm_runtime.so"), "apache-tvm-ffi": ("tvm_ffi", "lib/libtvm_ffi.so")}

#: The two files' names, as they lie beside a program that needs them.
LIBRARY_NAMES = tuple(Path(path).name for _, path in _LIBRARIES.values())

#: glibc versions for which wheels are tagged.
_MANYLINUX = ("2_28", "2_27", "2_24", "2_17")


def runtime_libraries(architecture: str) -> tuple[Path, Path]:
    """libtvm_runtime.so and libtvm_ffi.so for `architecture` (as `uname -m` says it): the installed ones, or those that
    pip fetches once (95 MB, of which 5 are kept in the user's cache).

    Raises BuildError where there are none, or they cannot be fetched.
    """
    if architecture == platform.machine():
        runtime, ffi = (package_file(package, path) for package, path in _LIBRARIES.values())
        return runtime, ffi
    if architecture not in MACHINES:
        raise BuildError(f"no TVM runtime for the architecture {architecture}: {candidates(architecture, MACHINES)}")
    name = "-".join(["runtime", architecture, *runtime_versions()])
    folder = cached_folder(name, lambda folder: _fetch(architecture, folder))
    runtime, ffi = (folder / Path(path).name for _, path in _LIBRARIES.values())
    return runtime, ffi


def runtime_versions() -> tuple[str, str]:
    """Of apache-tvm and apache-tvm-ffi, as installed."""
    tvm, ffi = (version(name) for name in _LIBRARIES)
    return tvm, ffi


def license_texts() -> dict[str, bytes]:
    """The licences and notices that must go where the two libraries go, by a file name for each."""
    texts = {}
    for name in _LIBRARIES:
        for file in files(name) or []:
            if file.name in ("LICENSE", "NOTICE"):
                part = f"-{file.parent.name}" if "3rdparty" in file.parts else ""
                texts[f"{name}{part}.{file.name}"] = Path(str(file.locate())).read_bytes()
    return texts


def _fetch(architecture: str, folder: Path) -> None:
    wheels = folder / "wheels"
    command = ["download", "--no-deps", "--only-binary=:all:"]
    for glibc in _MANYLINUX:
        command += ["--platform", f"manylinux_{glibc}_{architecture}"]
    command += [f"{name}=={version(name)}" for name in _LIBRARIES]
    tool_output(
        [sys.executable, "-m", "pip", *command, "--quiet", "--dest", wheels],
        f"pip cannot fetch TVM's runtime for {architecture}: where there is a network, run "
        f"`pip {shlex.join(command)} -d wheels` and set PIP_FIND_LINKS to that folder; pip says",
    )
    for name, (package, path) in _LIBRARIES.items():
        _extract(next(wheels.glob(f"{name.replace('-', '_')}-*.whl")), f"{package}/{path}", architecture, folder)
    shutil.rmtree(wheels)


def _extract(wheel: Path, member: str, architecture: str, folder: Path) -> None:
    """Copy a library out of a wheel, its checksum and its architecture checked."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(member)  # pip checked the wheel against the index; this checks the member's CRC
    except (zipfile.BadZipFile, KeyError) as error:
        raise BuildError(
            f"{wheel.name}: cannot be used: {error}; remove it from pip's cache and PIP_FIND_LINKS"
        ) from None
    if _architecture_of(data) != architecture:
        raise BuildError(f"{wheel.name}: its {member} is not for {architecture}; remove it from PIP_FIND_LINKS")
    (folder / Path(member).name).write_bytes(data)


def elf_architecture(path: Path) -> str | None:
    """What a program or library is for, as `uname -m` says it; None where it is neither, or for an unknown one."""
    try:
        with path.open("rb") as file:
            return _architecture_of(file.read(20))
    except OSError:
        return None


def _architecture_of(data: bytes) -> str | None:
    """By an ELF file's first bytes."""
    machine = int.from_bytes(data[18:20], "little") if data[:4] == b"\x7fELF" else None
    return None if machine is None else architecture_of_machine(machine)
