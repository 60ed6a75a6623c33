"""The standalone library for ARM, run under an emulator."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from standalone_bundles import (
    ALLOWED,
    EMIT,
    PROGRAMS,
    SYSTEM,
    driver_objects,
    made,
    needed_by,
    output_of,
    versions_of_glibc,
)

from effgen.deploy.standalone.run import answer_of_program
from effgen.driver import CompileRequest, compile_bundle
from effgen.judge.case import golden_pair, relative_l2
from effgen.judge.verify import verify_bundle
from effgen.network import NetworkRequest


@pytest.mark.arm
def test_for_arm(tiny_spec: Path, tmp_path: Path) -> None:
    board = made(tmp_path, NetworkRequest(spec=str(tiny_spec)), target="rpi4")
    readelf, qemu = "aarch64-linux-gnu-readelf", ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"]
    assert needed_by(readelf, board.shared) <= ALLOWED
    assert max(versions_of_glibc(readelf, board.shared)) <= (2, 17)
    image, expected = board.image(tmp_path), golden_pair(board.bundle)[1]
    headers, compiler = ["-I", board.bundle, "-I", tmp_path / "driver"], "aarch64-linux-gnu-gcc"
    driver_objects(board, tmp_path / "driver", compiler="aarch64-linux-gnu-g++")
    output_of(compiler, *headers, PROGRAMS / "stress.c", "-o", tmp_path / "stress", board.shared, *SYSTEM)
    for threads in (1, 2, 4):
        program = ["qemu-aarch64-static", board.bundle / board.name, "--threads", threads]
        output_of(*program, image, tmp_path / "static.f32")
        shared = [*qemu, "-E", f"LD_LIBRARY_PATH={board.bundle}", tmp_path / "stress"]
        output_of(*shared, threads, 2, 3, image, tmp_path / "shared.f32")
        found = [np.fromfile(tmp_path / f"{kind}.f32", np.float32)[None] for kind in ("static", "shared")]
        np.testing.assert_array_equal(*found)
        assert relative_l2(found[0], expected) <= 1e-5
    report = verify_bundle(board.bundle)
    assert report.passed and report.cases[1].name == "golden pair, standalone"


@pytest.mark.arm
def test_emulated_check_needs_no_program_in_the_bundle(tiny_spec: Path, tmp_path: Path) -> None:
    phases: list[str] = []
    request = CompileRequest(NetworkRequest(spec=str(tiny_spec)), tmp_path / "b", target="rpi4", emit=EMIT[:2])
    compile_bundle(request, phases.append)
    assert phases[-1] == "check the standalone library" and not (tmp_path / "b" / "tiny_phi0").exists()


@pytest.mark.arm
def test_emulated_check_runs_the_program_once(tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*words: Any) -> np.ndarray:
        calls.append(words)
        return answer_of_program(*words)

    for module in ("effgen.deploy.standalone.run", "effgen.judge.standalone"):
        monkeypatch.setattr(f"{module}.answer_of_program", counted)
    compile_bundle(CompileRequest(NetworkRequest(spec=str(tiny_spec)), tmp_path / "b", target="rpi4", emit=EMIT))
    assert len(calls) == 1
