"""Bundles for NVIDIA GPUs, from the compiler to the answer; the GPU is emulated (`cuda_emulator`)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cuda_emulator
import pytest
from cuda_calls import needs
from pictures import write_picture
from several_outputs import heads, saved

import effgen
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BundleError
from effgen.machines.toolchain import cuda_program
from effgen.network import NetworkRequest
from effgen.network.file_network import OnnxRequest
from effgen.runtime import read_manifest
from effgen.runtime.manifest import GOLDEN, KERNELS, MANIFEST

pytestmark = [needs("nvcc", "g++")]


@dataclass(frozen=True)
class Emulated:
    """A bundle, and the emulated GPU that runs it."""

    bundle: Path
    driver: Path
    kernels: Path

    def run(self, code: str, bundle: Path | None = None, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run Python code after SETUP in a process that sees the emulated GPU."""
        environment = cuda_emulator.environment(self.driver, self.kernels, **settings)
        environment["PYTHONPATH"] = str(Path(__file__).parents[1])
        command = [sys.executable, "-c", SETUP + code, str(bundle or self.bundle)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def succeed(self, code: str, **settings: Any) -> str:
        """The output of code that must not fail."""
        done = self.run(code, **settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refusal(self, code: str, bundle: Path | None = None, **settings: Any) -> str:
        """What the BundleError says that the code must raise: one line."""
        done = self.run(f"try:\n    {code}\nexcept BundleError as error:\n    print(error)", bundle, **settings)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1, done.stdout
        return done.stdout


SETUP = """
import gc, sys
import numpy as np
import effgen
from cuda_emulator.client import emulated
from effgen.errors import BundleError
from effgen.judge.case import golden_pair
from networks import relative_error
bundle = sys.argv[1]
def golden():
    from pathlib import Path
    return golden_pair(Path(bundle))
"""

GOLDEN_PAIR = """
model = effgen.load(bundle)
image, expected = golden()
first = model(image)
assert relative_error(first, expected) <= model.manifest.tolerance["rel_l2"]
print(relative_error(first, expected))
"""


def compiled(folder: Path, driver: Path, **request: Any) -> Emulated:
    """Compile for the emulated GPU."""
    request = {"target": "cuda-sm90", "network": NetworkRequest(), **request}
    compile_bundle(CompileRequest(output=folder / "bundle", debug_dump=folder / "dump", **request))
    (source,) = (folder / "dump").glob("*_cuda.cu")
    kernels = cuda_emulator.build_kernels(source.read_text(), folder / "kernels.so")
    return Emulated(folder / "bundle", driver, kernels)


@pytest.fixture(scope="module")
def compile_tiny(
    tiny_spec: Path, emulated_driver: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Emulated]:
    """Compile the tiny network, with what else a request says; the same request once."""

    @cache
    def compile_it(batch: int = 1, **request: Any) -> Emulated:
        network = NetworkRequest(spec=str(tiny_spec), batch=batch)
        return compiled(tmp_path_factory.mktemp("tiny"), emulated_driver, network=network, **request)

    return compile_it


@pytest.fixture(scope="module")
def tiny(compile_tiny: Callable[..., Emulated]) -> Emulated:
    return compile_tiny(dtype="float32")


def test_pictures_are_classified_one_after_the_other_or_many_at_once(tiny: Emulated, tmp_path: Path) -> None:
    for seed in range(4):
        write_picture(tmp_path / f"{seed}.png", seed)
    code = f"""
from effgen.runtime.run import RunRequest, run_bundle
from pathlib import Path
model = effgen.load(bundle)
paths = sorted(Path({str(tmp_path)!r}).iterdir())
for path, found in zip(paths, model.classify(paths, top=10), strict=True):
    logits = model(model.preparation(path)[None])[0]
    assert [p.index for p in found] == list(np.argsort(-logits, kind="stable"))
reports = [run_bundle(RunRequest(Path(bundle), ({str(tmp_path)!r},), throughput=many)) for many in (False, True)]
assert reports[0].answers == reports[1].answers and len(reports[0].answers) == 4
assert [report.threads for report in reports] == [1, 1] and reports[0].streams == 1
"""
    tiny.succeed(code)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("order", ["forward", "shuffled"])
def test_golden_pair(compile_tiny: Callable[..., Emulated], dtype: str, order: str) -> None:
    compile_tiny(dtype=dtype).succeed(GOLDEN_PAIR, order=order)


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "float16"])
def test_every_block_kind(kinds_spec: Path, emulated_driver: Path, tmp_path: Path, dtype: str) -> None:
    network = NetworkRequest(spec=str(kinds_spec))
    compiled(tmp_path, emulated_driver, network=network, dtype=dtype).succeed(GOLDEN_PAIR)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_several_outputs(emulated_driver: Path, tmp_path: Path, dtype: str) -> None:
    """Each is where the manifest says, float32, also as another kernel's input or twice in other shapes."""
    network = OnnxRequest(saved(heads(), tmp_path / "heads.onnx"))
    made = compiled(tmp_path, emulated_driver, network=network, dtype=dtype)
    code = """
model = effgen.load(bundle)
image, expected = golden()
for found in (model(image), model(image)):
    assert [output.shape for output in found] == [(2, 10), (2, 4), (2, 24), (2, 24, 1, 1)]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == np.float32 and relative_error(ours, theirs) <= model.manifest.tolerance["rel_l2"]
"""
    made.succeed(code, order="shuffled")


def test_every_way_of_running_gives_the_same(tiny: Emulated) -> None:
    tiny.succeed(
        GOLDEN_PAIR
        + """
other = np.random.default_rng(5).standard_normal(image.shape, dtype=np.float32)
second = model(other)
assert not np.array_equal(first, second)
np.testing.assert_array_equal(model(image), first)
times = model.trace(other)
assert times.shape == (len(model.manifest.steps) + 1,) and times[0] == 0 and (np.diff(times) >= 0).all()
np.testing.assert_array_equal(model._outputs.reshape(second.shape), second)
assert len(model.resident_ms(image, 3)) == 3
strided = np.asfortranarray(image)
np.testing.assert_array_equal(model(strided), first)
np.testing.assert_array_equal(effgen.load(bundle)(image), first)
"""
    )


def test_calls_from_several_threads(tiny: Emulated) -> None:
    tiny.succeed(
        GOLDEN_PAIR
        + """
from concurrent.futures import ThreadPoolExecutor
images = [image * scale for scale in (1, 2, 3, 4)]
alone = [model(one) for one in images]
with ThreadPoolExecutor(4) as pool:
    for found, right in zip(pool.map(model, images * 3), alone * 3):
        np.testing.assert_array_equal(found, right)
"""
    )


def test_everything_is_given_back(tiny: Emulated) -> None:
    tiny.succeed(
        """
import threading
image, expected = golden()
for _ in range(2):
    model = effgen.load(bundle)
    model(image)
    model.trace(image)
    model.resident_ms(image, 2)
    assert emulated("bytes") > 0 and emulated("contexts") == 1
    thread = threading.Thread(target=lambda: (globals().pop("model"), gc.collect()))  # a thread without a context
    thread.start()
    thread.join()
    assert emulated("bytes") == 0 and emulated("contexts") == 0
"""
    )


def test_batch(compile_tiny: Callable[..., Emulated]) -> None:
    batch = compile_tiny(batch=2)
    assert read_manifest(batch.bundle).input["shape"][0] == 2
    batch.succeed(
        GOLDEN_PAIR
        + """
swapped = model(np.ascontiguousarray(image[::-1]))
np.testing.assert_allclose(swapped[::-1], first, rtol=0, atol=1e-5)
"""
    )


@needs("cuobjdump")
def test_several_architectures(compile_tiny: Callable[..., Emulated]) -> None:
    both = compile_tiny(cuda_archs=("sm_80", "sm_90"))
    assert read_manifest(both.bundle).device["archs"] == ["sm_80", "sm_90"]

    def listed(option: str) -> list[str]:
        command = [cuda_program("cuobjdump"), option, str(both.bundle / KERNELS)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return sorted(re.findall(r"sm_\d+", done.stdout))

    assert listed("-lelf") == ["sm_80", "sm_90"]
    assert listed("-lptx") == ["sm_90"]
    for sm in (80, 86, 90, 100):
        both.succeed(GOLDEN_PAIR, sm=sm)


def test_another_gpu_is_refused(tiny: Emulated) -> None:
    said = tiny.refusal("effgen.load(bundle)", sm=75)
    assert "compiled for sm_90 and newer; this GPU is emulated GPU (sm_75)" in said and "--cuda-arch" in said


def test_a_network_that_does_not_fit_is_refused(tiny: Emulated, tmp_path: Path) -> None:
    large = shutil.copytree(tiny.bundle, tmp_path / "large")
    manifest = replace(read_manifest(large), workspace_bytes=16 << 30)
    (large / MANIFEST).write_text(manifest.to_json())
    said = tiny.refusal("effgen.load(bundle)", large)
    assert re.search(r"tiny.*: [\d,]+ bytes do not fit on emulated GPU \(sm_90\)", said)


@pytest.mark.parametrize("shape", ["(1, 3, 32, 31)", "(2, 3, 32, 32)", "(3, 32, 32)"])
def test_an_image_of_another_shape_is_refused(tiny: Emulated, shape: str) -> None:
    assert "this bundle takes float32[1, 3, 32, 32] (NCHW)" in tiny.refusal(
        f"effgen.load(bundle)(np.zeros({shape}, np.float32))"
    )


def test_an_image_of_another_type_is_refused(tiny: Emulated) -> None:
    assert "float64" in tiny.refusal("effgen.load(bundle)(np.zeros((1, 3, 32, 32)))")


def test_several_threads_are_refused(tiny: Emulated) -> None:
    assert "threads = 4: this bundle runs on a GPU" in tiny.refusal("effgen.load(bundle, threads=4)")


def test_damaged_kernels_are_refused(tiny: Emulated, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny.bundle, tmp_path / "broken")
    content = bytearray((broken / KERNELS).read_bytes())
    content[len(content) // 2] ^= 1
    (broken / KERNELS).write_bytes(content)
    assert KERNELS in tiny.refusal("effgen.load(bundle)", broken)


def test_without_a_driver_it_says_so(tiny: Emulated, monkeypatch: pytest.MonkeyPatch) -> None:
    from effgen.machines import cuda_driver

    def no_library(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", no_library)
    cuda_driver.cuda_driver.cache_clear()
    with pytest.raises(BundleError, match=r"^libcuda.so.1 cannot be loaded: there is no NVIDIA driver.*\Z"):
        effgen.load(tiny.bundle)
    cuda_driver.cuda_driver.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_b0(emulated_driver: Path, tmp_path: Path, dtype: str) -> None:
    b0 = compiled(tmp_path, emulated_driver, dtype=dtype)
    assert (b0.bundle / GOLDEN).is_file()
    error = float(b0.succeed(GOLDEN_PAIR, order="shuffled"))
    assert error <= {"float32": 1e-5, "float16": 2e-2}[dtype]
