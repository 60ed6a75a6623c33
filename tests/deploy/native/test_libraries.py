"""TVM's runtime libraries of this machine and of others."""

import platform
import shutil
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from effgen.deploy.native import runtime_libraries
from effgen.errors import BuildError


def elf(machine: int) -> bytes:
    return b"\x7fELF".ljust(18, b"\0") + machine.to_bytes(2, "little")


def wheel(folder: Path, name: str, member: str, content: bytes) -> None:
    """A wheel that pip takes for the pinned version's, with one file in it."""
    stem = f"{name.replace('-', '_')}-{version(name)}"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{stem}-py3-none-manylinux_2_28_aarch64.whl", "w") as archive:
        archive.writestr(member, content)
        archive.writestr(
            f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version(name)}\n"
        )
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    return tmp_path / "links"


def test_libraries_of_this_machine_are_the_installed_ones() -> None:
    assert [path.name for path in runtime_libraries(platform.machine())] == ["libtvm_runtime.so", "libtvm_ffi.so"]


def test_libraries_out_of_wheels(wheels: Path, empty_cache: Path) -> None:
    wheel(wheels, "apache-tvm", "tvm/lib/libtvm_runtime.so", elf(183) + b"runtime")
    wheel(wheels, "apache-tvm-ffi", "tvm_ffi/lib/libtvm_ffi.so", elf(183) + b"ffi")
    runtime, ffi = runtime_libraries("aarch64")
    assert (runtime.read_bytes()[20:], ffi.read_bytes()[20:]) == (b"runtime", b"ffi")
    assert {path.name for path in runtime.parent.iterdir()} == {"libtvm_runtime.so", "libtvm_ffi.so"}
    shutil.rmtree(wheels)
    assert runtime_libraries("aarch64") == (runtime, ffi)


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("tvm/lib/libtvm_runtime.so", elf(62), "is not for aarch64"),
        ("tvm/lib/other.so", elf(183), "cannot be used: .*no item named"),
    ],
)
def test_libraries_out_of_odd_wheels(
    wheels: Path, empty_cache: Path, member: str, content: bytes, message: str
) -> None:
    wheel(wheels, "apache-tvm", member, content)
    wheel(wheels, "apache-tvm-ffi", "tvm_ffi/lib/libtvm_ffi.so", elf(183))
    with pytest.raises(BuildError, match=message):
        runtime_libraries("aarch64")
    assert [path.suffix for path in empty_cache.iterdir()] == [".lock"]


def test_libraries_without_a_network(wheels: Path, empty_cache: Path) -> None:
    wheels.mkdir()
    with pytest.raises(
        BuildError, match=r"run `pip download .*apache-tvm==.*PIP_FIND_LINKS.*pip says: ERROR"
    ) as caught:
        runtime_libraries("aarch64")
    assert "\n" not in str(caught.value)


def test_libraries_of_an_unknown_architecture() -> None:
    with pytest.raises(BuildError, match="no TVM runtime for the architecture riscv64: known: aarch64, x86_64"):
        runtime_libraries("riscv64")
