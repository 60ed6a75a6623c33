"""Archives for a board, verified under an emulator in a folder that holds nothing else."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from damage import flip
from packing import HERE, QEMU, refused

from effgen.deploy.pack import PackRequest, pack_bundle
from effgen.driver import CompileRequest, compile_bundle
from effgen.network import NetworkRequest
from effgen.runtime import read_manifest


@pytest.fixture(scope="module")
def board_pack(tiny_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    compile_bundle(CompileRequest(NetworkRequest(spec=str(tiny_spec)), folder / "tiny", target="rpi4"))
    packed = pack_bundle(PackRequest(folder / "tiny", "aarch64", folder / "x.tar.gz"))
    assert packed.verified_by is not None and Path(packed.verified_by[0]).name == QEMU
    return folder / "x.tar.gz"


@pytest.mark.arm
@pytest.mark.parametrize("by", ["tar", "effgen"])
def test_board_pack_in_a_folder_that_holds_nothing_else(board_pack: Path, by: str, tmp_path: Path, run: Any) -> None:
    if by == "tar":
        subprocess.run(["tar", "-xzf", board_pack, "-C", tmp_path], check=True)
        (tmp_path / "tiny-phi-0-rpi4-aarch64").rename(tmp_path / "alone")
    else:
        assert run("unpack", board_pack, "-o", tmp_path / "alone")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["alone"]
    environment = {"PATH": os.defpath, "EFFGEN_EMULATOR": f"{QEMU} -L /usr/aarch64-linux-gnu"}
    done = subprocess.run(["./verify"], cwd=tmp_path / "alone", env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "target     rpi4, " in done.stdout and ": pass\n" in done.stdout and "(1 runs)" in done.stdout
    if HERE != "aarch64":
        refused(tmp_path / "alone", f"made for aarch64, this machine is {HERE}", env={"PATH": os.defpath})
    flip(tmp_path / "alone" / "bundle" / "lib.so")
    refused(tmp_path / "alone", "bundle/lib.so: changed, damaged or missing", env=environment)


@pytest.mark.arm
def test_board_pack_without_an_emulator(board_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, mode=1, path=None: None if name == QEMU else real(name, path=path)
    )
    phases: list[str] = []
    packed = pack_bundle(PackRequest(board_pack.parent / "tiny", output=tmp_path / "x.tar.gz"), phases.append)
    assert packed.verified_by is None and any(phase.startswith(f"not verified: {QEMU}: not found") for phase in phases)
    assert (tmp_path / "x.tar.gz").read_bytes() == board_pack.read_bytes()
    assert read_manifest(board_pack.parent / "tiny").target["name"] == "rpi4"
