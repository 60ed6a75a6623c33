"""What `effgen pack` refuses to pack, leaving nothing behind."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import one_line
from damage import edit_manifest, flip, seal
from packing import HERE

from effgen.deploy.pack import PackRequest, pack_bundle
from effgen.errors import BuildError, VerifyError
from effgen.judge.case import golden_pair


@pytest.fixture
def broken(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "broken")


def not_packed(bundle: Path, run: Any, message: str, *options: str, status: int = 1) -> None:
    output = bundle.parent / "new" / "x.tar.gz"
    assert message in one_line(run("pack", bundle, "-o", output, *options, "-q"), status)
    assert not output.parent.exists()


def test_runtime_of_another_machine(broken: Path, run: Any) -> None:
    other = "aarch64" if HERE == "x86_64" else "x86_64"
    message = f"--runtime {other}: the bundle {broken} was compiled for cpu, whose processor is {HERE}; leave --runtime"
    not_packed(broken, run, message, "--runtime", other)
    assert run("pack", broken, "--runtime", "mips")[0] == 2


def test_bundle_of_a_gpu(broken: Path, run: Any) -> None:
    (broken / "lib.so").rename(broken / "kernels.fatbin")

    def to_gpu(data: dict[str, Any]) -> None:
        launch = {"step": 0, "kernel": "k", "blocks": 1, "threads": 32, "arguments": [["image", 0]]}
        data["device"] |= {"kind": "cuda", "archs": ["sm_90"], "launches": [launch]}
        data["files"]["kernels.fatbin"] = data["files"].pop("lib.so")

    edit_manifest(broken, to_gpu)
    not_packed(broken, run, "compiled for a GPU (cpu), which effgen-run does not drive: copy the bundle there")


def test_unknown_machine(broken: Path, run: Any) -> None:
    edit_manifest(broken, lambda data: data["target"]["llvm"].update(mtriple="s390x-linux-gnu"))
    not_packed(broken, run, "target cpu: no compiler that links for s390x-linux-gnu")


@pytest.mark.parametrize("name", ["lib.so", "weights.bin", "golden.npz", "model.onnx"])
def test_damaged_bundle(broken: Path, run: Any, name: str) -> None:
    flip(broken / name)
    not_packed(broken, run, f"{name}: SHA-256 is")
    not_packed(broken.parent / "absent", run, "no bundle here")


def test_bundle_without_a_golden_pair(broken: Path, run: Any) -> None:
    (broken / "golden.npz").unlink()
    not_packed(broken, run, f"{broken}/golden.npz: missing from the bundle")
    edit_manifest(broken, lambda data: data["files"].pop("golden.npz"))
    not_packed(
        broken, run, f"{broken}/manifest.json: files: no hash of golden.npz, which judges it; compile the bundle"
    )


def test_wrong_answer(broken: Path, run: Any) -> None:
    image, output = golden_pair(broken)
    np.savez(broken / "golden.npz", input=image, output=output + np.float32(1e-3))
    seal(broken)
    not_packed(broken, run, "the archive does not verify: effgen-run: ", status=3)
    with pytest.raises(VerifyError, match=rf"{broken}/bundle: golden pair: relative L2 .*; nothing was written"):
        pack_bundle(PackRequest(broken, output=broken.parent / "x"))


def test_library_that_does_not_load(broken: Path, run: Any) -> None:
    subprocess.run(["cc", "-shared", "-x", "c", "/dev/null", "-o", broken / "lib.so"], check=True)
    seal(broken)
    not_packed(broken, run, "the archive does not verify: effgen-run: ")


def test_processor_that_this_one_is_not(broken: Path) -> None:
    edit_manifest(broken, lambda data: data["target"].update(features=["avx1024"]))
    phases: list[str] = []
    packed = pack_bundle(PackRequest(broken, output=broken.parent / "x"), phases.append)
    assert packed.verified_by is None and "not verified: this processor lacks avx1024" in phases


def test_path_that_cannot_be_written(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match="file is not a directory"):
        pack_bundle(PackRequest(tiny_bundle, output=tmp_path / "file" / "x"))
