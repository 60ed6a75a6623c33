"""The folder that goes to a GPU machine: what it holds, and that it runs there with little."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cuda_emulator
import pytest
import torch
from networks import relative_error

from effgen.errors import BuildError

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"
sys.path.insert(0, str(FOLDER))

import make_folder as maker  # noqa: E402
from gpu_compare import folder  # noqa: E402
from gpu_compare.torch_network import module_from  # noqa: E402

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"

sys.path.insert(0, str(FOLDER))

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is missing: it compiles the bundles")

needs_compilers = pytest.mark.skipif(
    shutil.which("nvcc") is None or shutil.which("g++") is None, reason="nvcc or g++ is missing"
)


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dump")


@pytest.fixture(scope="module")
def made(tiny_spec: Path, dumped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the tiny network at batch 1 and 2."""
    output = tmp_path_factory.mktemp("gpu") / "folder"
    request = maker.FolderRequest(output, ["0"], (1, 2), ("float32",), spec=str(tiny_spec), dump=dumped)
    maker.make_folder(request)
    return output


@needs_nvcc
def test_the_folder_has_what_is_shared_once(made: Path) -> None:
    plan = folder.read_plan(made)
    assert [item.name for item in plan.configurations] == ["phi0-batch1-float32", "phi0-batch2-float32"]
    assert len(list((made / "weights").iterdir())) == 1
    assert sorted(file.name for file in (made / "networks").iterdir()) == ["phi0.json", "phi0.npz"]
    assert not list(made.rglob("model.onnx")) and not list(made.rglob("__pycache__"))
    assert plan.archs == ("sm_90",) and (made / "README.md").read_text().count("| 0 |") == 1


@needs_nvcc
def test_the_folders_golden_logits_are_those_of_its_network(made: Path) -> None:
    for item in folder.read_plan(made).configurations:
        image = folder.noise(item.shape, item.seed)
        golden = folder.golden_logits(made, item, image)
        with torch.no_grad():
            found = module_from(*folder.read_network(made, item))(torch.from_numpy(image)).numpy()
        assert golden is not None and relative_error(found, golden) <= 1e-5
        assert folder.golden_logits(made, item, image + 1) is None


@needs_nvcc
def test_a_folder_replaces_only_its_own_kind(made: Path, tiny_spec: Path, tmp_path: Path) -> None:
    request = maker.FolderRequest(made, ["0"], (1,), ("float32",), spec=str(tiny_spec))
    with pytest.raises(BuildError, match="exists already"):
        maker.make_folder(request)
    other = tmp_path / "mine"
    other.mkdir()
    (other / "file").touch()
    with pytest.raises(BuildError, match="is not a folder of this kind"):
        maker.make_folder(replace(request, output=other, force=True))
    assert (other / "file").exists()


def numpy_alone(where: Path, environment: dict[str, str]) -> dict[str, str]:
    """The environment of a Python (with -S) that has numpy and nothing else to import."""
    where.mkdir(exist_ok=True)
    spec = find_spec("numpy")
    assert spec is not None and spec.origin is not None
    packages = Path(spec.origin).parents[1]
    for name in ("numpy", "numpy.libs"):
        if (packages / name).exists() and not (where / name).exists():
            (where / name).symlink_to(packages / name)
    return {**environment, "PYTHONPATH": str(where)}


def run_there(made: Path, environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", str(made / "run.py"), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@needs_nvcc
@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(made: Path, tmp_path: Path) -> None:
    done = run_there(made, numpy_alone(tmp_path / "numpy", dict(os.environ)))
    assert done.returncode == 1 and done.stderr.startswith("error: no GPU: ") and done.stderr.count("\n") == 1
    assert "sm_90 or newer" in done.stderr


@needs_nvcc
def test_without_numpy_it_says_so_in_one_line(made: Path, tmp_path: Path) -> None:
    done = run_there(made, {**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1 and "no module numpy" in done.stderr and done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def emulated(made: Path, dumped: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Environment by configuration: an emulated GPU, and numpy as the only package."""
    where = tmp_path_factory.mktemp("emulator")
    driver = cuda_emulator.build_driver(where / "driver")
    found = {}
    for dump in sorted(dumped.iterdir()):
        (source,) = dump.glob("*_cuda.cu")
        kernels = cuda_emulator.build_kernels(source.read_text(), where / f"{dump.name}.so")
        found[dump.name] = numpy_alone(where / "numpy", cuda_emulator.environment(driver, kernels))
    return found


@needs_compilers
def test_effgens_half_runs_with_numpy_and_the_driver_alone(
    made: Path, emulated: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "results.json"
    options = ("--no-peers", "--rounds", "1", "--seconds", "0.001", "--out", str(out))
    for name, environment in emulated.items():
        done = run_there(made, environment, *options, "--only", name)
        assert done.returncode == 0, done.stderr
    measured = json.loads(out.read_text())
    assert measured["device"]["arch"] == "sm_90" and measured["configurations"].keys() == emulated.keys()
    for name, item in measured["configurations"].items():
        assert item["accuracy"]["met"] and item["accuracy"]["golden_rel_l2"] <= 1e-4, name
        assert item["accuracy"]["torch_rel_l2"] is None and item["backends"][0]["device_ms"]["runs"] >= 3
    before = out.read_bytes()
    again = run_there(made, emulated["phi0-batch1-float32"], *options)  # the other's kernels are not there
    assert again.returncode == 0 and out.read_bytes() == before and "phi0-batch2-float32" in again.stdout


@needs_compilers
def test_without_torch_it_says_so_in_one_line(made: Path, emulated: dict[str, dict[str, str]], tmp_path: Path) -> None:
    done = run_there(made, emulated["phi0-batch1-float32"], "--out", str(tmp_path / "r.json"))
    assert done.returncode == 1 and done.stderr.startswith("error: no PyTorch: ") and done.stderr.count("\n") == 1
