"""Bundles for other machines: verified under an emulator, never timed by it; what is said where a tool is missing."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import one_line

from effgen.deploy.executors import Emulated, executor_of
from effgen.deploy.native import run_bundle
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BundleError, VerifyError
from effgen.judge.verify import verify_bundle
from effgen.network import NetworkRequest
from effgen.runtime import load, read_manifest

QEMU = "qemu-aarch64-static"


def without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no program of this name were installed."""
    real = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda wanted, mode=1, path=None: None if wanted == name else real(wanted, path=path)
    )


def compiled(spec: Path, target: str, folder: Path) -> tuple[Path, list[str]]:
    """The network's bundle, and the phases of compiling it."""
    phases: list[str] = []
    compile_bundle(CompileRequest(NetworkRequest(spec=str(spec)), folder / target, target=target), phases.append)
    return folder / target, phases


@pytest.fixture(scope="module")
def board_bundle(tiny_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tiny_spec, "rpi4", tmp_path_factory.mktemp("board"))[0]


@pytest.fixture
def foreign(tiny_bundle: Path, tmp_path: Path) -> Iterator[Path]:
    """A bundle whose manifest says that it is for a board; nothing needs to be installed to make it."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "foreign")
    manifest = read_manifest(bundle)
    llvm = manifest.target["llvm"] | {"mtriple": "s390x-linux-gnu"}
    (bundle / "manifest.json").write_text(replace(manifest, target=manifest.target | {"llvm": llvm}).to_json())
    yield bundle


# What is refused, without a tool of another machine.


@pytest.mark.parametrize("options", [[], ["--layers"]])
def test_bench_says_where_to_go(foreign: Path, run: Any, options: list[str]) -> None:
    text = one_line(run("bench", foreign, *options))
    assert "compiled for cpu (s390x): the times of an emulator say nothing about it" in text and "effgen-run" in text


def test_bundle_without_an_emulator(foreign: Path, run: Any) -> None:
    text = one_line(run("verify", foreign))
    assert text == "target cpu: s390x code does not run here, and the target states no emulator"
    with pytest.raises(BundleError, match="compiled for cpu, whose processor is s390x"):
        load(foreign)


# Under the emulator.


@pytest.mark.arm
@pytest.mark.parametrize("target", ["aarch64", "rpi4", "rpi5", "graviton3"])
def test_every_arm_target_is_verified(target: str, tiny_spec: Path, tmp_path: Path) -> None:
    bundle, phases = compiled(tiny_spec, target, tmp_path)
    assert phases[-1] == f"run it by {QEMU}"
    report = verify_bundle(bundle)
    assert (report.run_by, len(report.cases), report.judged) == (QEMU, 9, 9)
    assert report.passed and report.rel_l2 <= 1e-5


@pytest.mark.arm
def test_every_block_kind(kinds_spec: Path, tmp_path: Path) -> None:
    bundle, _ = compiled(kinds_spec, "aarch64", tmp_path)
    report = verify_bundle(bundle)
    assert report.passed and report.rel_l2 <= 1e-5


@pytest.mark.arm
def test_b0_for_a_board(tmp_path: Path) -> None:
    compile_bundle(CompileRequest(NetworkRequest(), tmp_path / "b0", target="rpi4"))
    report = verify_bundle(tmp_path / "b0")
    assert report.passed and report.judged == 9 and report.rel_l2 <= 1e-5


@pytest.mark.arm
def test_manifest_carries_what_verifying_needs(board_bundle: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = read_manifest(board_bundle).target
    assert target["toolchain"] == {"compiler": "aarch64-linux-gnu-g++", "package": "g++-aarch64-linux-gnu"}
    assert target["emulator"]["command"][0] == QEMU
    monkeypatch.setattr("effgen.measure.routes.target_names", list)  # another desk, without the target's file
    code, out, _ = run("verify", board_bundle, "--threads", 1)
    assert code == 0 and f"on {QEMU} against pytorch" in out and "passed" in out and "1 thread" in out
    data = json.loads(run("verify", board_bundle, "--json", "-")[1])
    assert data["run_by"] == QEMU and data["passed"] and data["rel_l2"] <= 1e-5


@pytest.mark.arm
@pytest.mark.parametrize("threads", [1, 2])
def test_golden_pair_by_the_program_itself(board_bundle: Path, threads: int) -> None:
    executor = executor_of(board_bundle)
    assert isinstance(executor, Emulated)
    report = run_bundle(executor.runner, board_bundle, threads, runs=2, timeout_s=600)
    assert report.passed and report.rel_l2 <= 1e-5
    assert report.threads == threads and len(report.runs_ms) == 2


@pytest.mark.arm
def test_board_bundle_is_not_timed(board_bundle: Path, run: Any) -> None:
    assert "compiled for rpi4 (aarch64): the times of an emulator" in one_line(run("bench", board_bundle))


@pytest.mark.arm
@pytest.mark.parametrize(
    ("tool", "package"),
    [(QEMU, "qemu-user-static"), ("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"), ("cmake", "cmake")],
)
def test_missing_tool_is_named_by_verify(
    tool: str, package: str, board_bundle: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(tool, monkeypatch)
    text = one_line(run("verify", board_bundle))
    assert text.startswith(f"{tool}: not found: it ") and text.endswith(f"install {package}")


@pytest.mark.arm
@pytest.mark.parametrize(("tool", "package"), [(QEMU, "qemu-user-static"), ("cmake", "cmake")])
def test_compiling_goes_on_without(
    tool: str, package: str, tiny_spec: Path, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(tool, monkeypatch)
    code, _, err = run("compile", "--spec", tiny_spec, "--target", "rpi4", "-o", tmp_path / "board")
    assert code == 0 and read_manifest(tmp_path / "board").target["name"] == "rpi4"
    (line,) = [line for line in err.splitlines() if "not checked" in line]
    assert line.startswith(f"warning: golden pair not checked: {tool}: not found") and line.endswith(
        f"install {package}"
    )
    assert read_manifest(tmp_path / "board").network["golden"] == {"not_checked": line.split("not checked: ")[1]}


@pytest.mark.arm
def test_wrong_library_is_not_written(tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Emulated.__call__

    def wrong(self: Emulated, images: np.ndarray) -> np.ndarray:
        return right(self, images) * np.float32(1.0001)

    monkeypatch.setattr(Emulated, "__call__", wrong)
    with pytest.raises(VerifyError, match=r"disagrees with PyTorch: relative L2 1\.00e-04.*no bundle was written"):
        compiled(tiny_spec, "rpi4", tmp_path)
    assert not (tmp_path / "rpi4").exists()
