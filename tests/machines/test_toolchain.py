"""What a target needs of this machine, and what is said where that is missing."""

from dataclasses import replace
from pathlib import Path

import pytest

from effgen.errors import BuildError
from effgen.machines import detection
from effgen.machines.abilities import ability_of
from effgen.machines.detection import FoundGpu
from effgen.machines.target import load_target
from effgen.machines.target_file import Cuda
from effgen.machines.toolchain import cuda_program, emulator, linker, native_linker


@pytest.fixture
def empty_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A search path with nothing on it, nor in Python's packages."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr("effgen.machines.toolchain._packaged_cuda", lambda: [])
    return tmp_path


def program(folder: Path, name: str) -> str:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_native_linker_is_the_first_of_the_usual_names(empty_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match=r"c\+\+: not found .*c\+\+, g\+\+, clang\+\+.*apt-get install g\+\+"):
        native_linker()
    clang = program(empty_path, "clang++")
    assert linker(load_target("x86-64-v3")) == native_linker() == clang
    monkeypatch.setenv("CXX", "mine")
    with pytest.raises(BuildError, match="mine: not found"):
        native_linker()


def test_cross_compiler_is_the_targets_own(empty_path: Path) -> None:
    machine = load_target("rpi4")
    with pytest.raises(
        BuildError, match=r"aarch64-linux-gnu-g\+\+: not found.*apt-get install g\+\+-aarch64-linux-gnu"
    ):
        linker(machine)
    compiler = program(empty_path, "aarch64-linux-gnu-g++")
    assert linker(machine) == compiler
    with pytest.raises(BuildError, match=r"rpi4: no compiler that links for aarch64-linux-gnu; state \[toolchain\]"):
        linker(replace(machine, toolchain=None))


def test_emulator_is_for_foreign_machines(empty_path: Path) -> None:
    assert emulator(load_target("x86-64-v3")) == ()
    with pytest.raises(BuildError, match=r"qemu-aarch64-static: not found.*apt-get install qemu-user-static"):
        emulator(load_target("rpi4"))
    qemu = program(empty_path, "qemu-aarch64-static")
    assert emulator(load_target("rpi4"))[0] == qemu
    with pytest.raises(BuildError, match=r"aarch64 code does not run here, and the target states no emulator"):
        emulator(replace(load_target("rpi4"), emulator=None))


def test_cuda_programs_are_found_or_named(empty_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match=r"no-such-program: not found .*pip install 'effgen\[cuda\]'"):
        cuda_program("no-such-program")
    (empty_path / "bin").mkdir()
    nvcc = program(empty_path / "bin", "nvcc")
    assert cuda_program("nvcc") == nvcc


def test_abilities_say_why_not(empty_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(empty_path, "g++")
    here, board = (ability_of(load_target(name)) for name in ("cpu", "rpi4"))
    assert (here.builds, here.runs, here.why_not) == (True, "native", "")
    assert (board.builds, board.runs) == (False, "no") and "g++-aarch64-linux-gnu" in board.why_not
    lacking = ability_of(replace(load_target("x86-64-v3"), features=("avx1024",)))
    assert (lacking.builds, lacking.runs, lacking.why_not) == (True, "no", "this processor lacks avx1024")


def test_ability_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = Cuda(arch="sm_86", multiprocessors=10, shared_memory=100_000, l2=1 << 20)
    monkeypatch.setattr(detection, "found_gpu", lambda: FoundGpu("a card", facts))
    assert ability_of(load_target("cuda-sm80")).runs == "native"
    newer = ability_of(load_target("cuda-sm90"))
    assert (newer.runs, newer.why_not) == ("no", "a card is sm_86, older than sm_90") or not newer.builds
    monkeypatch.setattr(detection, "found_gpu", lambda: None)
    assert ability_of(load_target("cuda-sm80")).runs == "no"
    assert ability_of(load_target("jetson-orin")).runs == "no"
