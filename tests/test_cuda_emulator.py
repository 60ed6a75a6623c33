"""The CUDA emulator, and with it the way TVM's CUDA libraries are built without a driver."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cuda_emulator
import numpy as np
import pytest
from numpy.typing import NDArray

pytestmark = [
    pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is missing: it compiles what the emulator checks"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is missing: it compiles the emulator"),
]

FOLDER = Path(__file__).parent
ORDERS = ["forward", "reverse", "shuffled"]


@dataclass(frozen=True)
class Built:
    """A shipped CUDA library and what runs it here."""

    driver: Path
    library: Path
    kernels: Path
    source: str

    def run(self, code: str, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run Python code (or a module's file) in a process that sees the emulated GPU."""
        environment = cuda_emulator.environment(self.driver, self.kernels, **settings)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(FOLDER), environment.get("PYTHONPATH")]))
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    def call(self, function: str, *inputs: NDArray[Any], out: NDArray[Any], folder: Path, **settings: Any) -> Any:
        """The function's output for the inputs."""
        np.savez(folder / "inputs.npz", *inputs, out)
        code = "import sys; from cuda_emulator.client import main; main(*sys.argv[1:])"
        files = str(folder / "inputs.npz"), str(folder / "out.npy")
        done = self.run(code, str(self.library), function, *files, **settings)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return np.load(files[1])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    import cuda_kernels
    import tvm
    from cuda_emulator import library

    folder = tmp_path_factory.mktemp("cuda")
    compiled = tvm.compile(cuda_kernels.module(), cuda_kernels.TARGET)
    source = library.export(compiled.mod, folder / "library.so", library.fatbin)
    kernels = cuda_emulator.build_kernels(source, folder / "kernels.so")
    return Built(cuda_emulator.build_driver(folder / "driver"), folder / "library.so", kernels, source)


def random(*shape: int, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(7).standard_normal(shape).astype(dtype)


def empty(*shape: int) -> NDArray[Any]:
    return np.zeros(shape, np.float32)


def test_the_library_holds_machine_code_instead_of_source(built: Built) -> None:
    content = built.library.read_bytes()
    assert bytes.fromhex("50ed55ba") in content and b"__global__" not in content


@pytest.mark.parametrize("order", ORDERS)
def test_elementwise(built: Built, tmp_path: Path, order: str) -> None:
    x = random(8192)
    out = built.call("silu", x, out=empty(8192), folder=tmp_path, order=order)
    half = x.astype(np.float16)
    np.testing.assert_allclose(out, x / (1 + np.exp(-x)) + (half + half).astype(np.float32), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_shared_memory(built: Built, tmp_path: Path, order: str) -> None:
    assert "float4" in built.source
    a, b = random(128, 64), random(64, 128)
    out = built.call("matmul", a, b, out=empty(128, 128), folder=tmp_path, order=order)
    np.testing.assert_allclose(out, a @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_warp_shuffles(built: Built, tmp_path: Path, order: str) -> None:
    x = random(1024)
    out = built.call("warp_sums", x, out=empty(32), folder=tmp_path, order=order)
    np.testing.assert_allclose(out, x.reshape(32, 32).sum(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_tensor_cores(built: Built, tmp_path: Path, order: str) -> None:
    a, b = random(64, 64, dtype="float16"), random(64, 64, dtype="float16")
    out = built.call("tensor_cores", a, b, out=empty(64, 64), folder=tmp_path, order=order)
    np.testing.assert_allclose(out, a.astype(np.float32) @ b.astype(np.float32), rtol=1e-4, atol=1e-4)


def test_large_dynamic_shared_memory(built: Built, tmp_path: Path) -> None:
    x = random(24576)
    out = built.call("reverse", x, out=empty(24576), folder=tmp_path)
    np.testing.assert_array_equal(out, x[::-1])


@pytest.mark.parametrize("order", ORDERS)
def test_asynchronous_copies(built: Built, tmp_path: Path, order: str) -> None:
    x = random(8, 1024)
    out = built.call("pipeline", x, out=empty(1024), folder=tmp_path, order=order)
    np.testing.assert_allclose(out, x.sum(0).reshape(256, 4)[::-1].reshape(-1), rtol=1e-4, atol=1e-5)


def test_a_missing_wait_shows(built: Built, tmp_path: Path) -> None:
    source = re.sub(r'asm volatile\("cp.async.wait_group 1;"[^;]*;', "", built.source)
    broken = replace(built, kernels=cuda_emulator.build_kernels(source, tmp_path / "kernels.so"))
    assert np.isnan(broken.call("pipeline", random(8, 1024), out=empty(1024), folder=tmp_path)).any()


def test_unknown_ptx_is_named() -> None:
    source = 'extern "C" __global__ void f() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }'
    with pytest.raises(ValueError, match=r"PTX that the emulator does not know: .*wgmma"):
        cuda_emulator.host_source(source)


def test_a_missing_barrier_shows(built: Built, tmp_path: Path) -> None:
    kernels = cuda_emulator.build_kernels(built.source.replace("__syncthreads();", ""), tmp_path / "kernels.so")
    broken = replace(built, kernels=kernels)
    x = random(24576)
    for order in ORDERS:
        out = broken.call("reverse", x, out=empty(24576), folder=tmp_path, order=order)
        assert np.isnan(out).any()


def test_a_divergent_barrier_ends_the_process(built: Built, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"kernel diverge_kernel, block .* divergent barrier: thread 0 waits"):
        built.call("diverge", random(256), out=empty(256), folder=tmp_path)


def test_reading_out_of_bounds_ends_the_process(built: Built, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="illegal memory access in kernel out_of_bounds_kernel"):
        built.call("out_of_bounds", random(256), out=empty(256), folder=tmp_path)


def test_the_host_cannot_touch_device_memory(built: Built) -> None:
    code = """
import ctypes, sys
from cuda_emulator import client
client.load(sys.argv[1])
tensor = client.empty((4,), "float32")
ctypes.string_at(tensor.data_ptr(), 4)
"""
    done = built.run(code, str(built.library))
    assert done.returncode != 0 and "host code touches device memory" in done.stderr


def test_new_memory_holds_nothing_usable(built: Built) -> None:
    code = """
import sys, numpy
from cuda_emulator import client
client.load(sys.argv[1])
assert numpy.isnan(client.download(client.empty((1000,), "float32"))).all()
"""
    done = built.run(code, str(built.library))
    assert done.returncode == 0, done.stderr


def test_code_for_another_gpu_is_refused(built: Built, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="CUDA_ERROR_NO_BINARY_FOR_GPU"):
        built.call("silu", random(8192), out=empty(8192), folder=tmp_path, sm=80)
    # The library holds PTX too, which later GPUs compile.
    built.call("silu", random(8192), out=empty(8192), folder=tmp_path, sm=100)


def test_launches_are_checked(built: Built, tmp_path: Path) -> None:
    from cuda_emulator import library

    image = tmp_path / "image"
    image.write_bytes(library.fatbin(built.source))
    code = """
import ctypes, sys
driver = ctypes.CDLL("libcuda.so.1")
module, function = ctypes.c_void_p(), ctypes.c_void_p()
image = open(sys.argv[1], "rb").read()
assert driver.cuModuleLoadData(ctypes.byref(module), b"// a PTX text, or CUDA source") == 200
assert driver.cuModuleLoadData(ctypes.byref(module), image) == 0
assert driver.cuModuleGetFunction(ctypes.byref(function), module, b"absent") == 500
assert driver.cuModuleGetFunction(ctypes.byref(function), module, b"silu_kernel") == 0
def launch(grid, block, shared=0):
    parameters = (ctypes.c_void_p * 2)()
    return driver.cuLaunchKernel(function, *grid, *block, shared, None, parameters, None)
invalid = 1
assert launch((1, 1, 1), (2048, 1, 1)) == invalid          # more threads than a block has
assert launch((1, 1, 1), (512, 1, 1)) == invalid           # more than the kernel's launch bounds
assert launch((1, 65536, 1), (256, 1, 1)) == invalid
assert launch((0, 1, 1), (256, 1, 1)) == invalid
assert launch((1, 1, 1), (256, 1, 1), 50000) == invalid    # not asked for
dynamic_shared_size = 8
assert driver.cuFuncSetAttribute(function, dynamic_shared_size, 240 * 1024) == invalid
"""
    done = built.run(code, str(image))
    assert done.returncode == 0, done.stderr
    assert "2048 threads in a block" in done.stderr


def test_a_captured_call_runs_when_its_graph_is_launched(built: Built) -> None:
    code = """
import ctypes, sys
import numpy as np
from cuda_emulator import client
module = client.load(sys.argv[1])
runtime = client.cudart()
a, b = (np.random.default_rng(i).standard_normal(shape, np.float32) for i, shape in enumerate([(128, 64), (64, 128)]))
tensors = [client.upload(a), client.upload(b), client.upload(np.zeros((128, 128), np.float32))]
with client.stream() as stream:
    module["matmul"](*tensors)  # loads the kernels, which a capture does not allow
    client.upload(np.zeros((128, 128), np.float32), tensors[-1])
    before = client.launches()
    with client.capture(stream) as graph:
        module["matmul"](*tensors)
    assert client.launches() == before and not client.download(tensors[-1]).any()
    for repetition in (1, 2):
        client.upload(a * repetition, tensors[0])
        client.check(runtime.cudaGraphLaunch(graph, stream))
        client.check(runtime.cudaStreamSynchronize(stream))
        np.testing.assert_allclose(client.download(tensors[-1]), a * repetition @ b, rtol=1e-4, atol=1e-4)
    assert client.launches() == before + 2
    try:
        with client.capture(stream):
            assert runtime.cudaMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(4)) == 900
    except RuntimeError as error:
        assert "cudaErrorStreamCaptureInvalidated" in str(error)
    else:
        raise AssertionError("a broken capture gave a graph")
"""
    done = built.run(code, str(built.library))
    assert done.returncode == 0, done.stderr


def test_a_stray_store_to_shared_memory_is_found(built: Built, tmp_path: Path) -> None:
    source = """
extern "C" __global__ void __launch_bounds__(32) stray(float* out) {
  __shared__ float numbers[32];
  numbers[threadIdx.x + 1] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = numbers[threadIdx.x];
}
"""
    done = _run_source(built, source, "stray", tmp_path)
    assert "a store went 0 bytes beyond the end of an array in shared memory (128 bytes)" in done.stderr


def test_a_misaligned_access_is_found(built: Built, tmp_path: Path) -> None:
    source = """
extern "C" __global__ void __launch_bounds__(32) misaligned(float* out) {
  *(float4*)(out + 1 + threadIdx.x % 4) = make_float4(1.0f, 2.0f, 3.0f, 4.0f);
}
"""
    done = _run_source(built, source, "misaligned", tmp_path)
    assert "misaligned access in kernel misaligned" in done.stderr


def test_warp_collectives_need_their_lanes(built: Built, tmp_path: Path) -> None:
    source = """
extern "C" __global__ void __launch_bounds__(32) lonely(float* out) {
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __shfl_xor_sync(0xffffffff, float(threadIdx.x), 1);
  }
  __syncthreads();
}
"""
    done = _run_source(built, source, "lonely", tmp_path)
    assert "waits in a warp collective (mask 0xffffffff)" in done.stderr


def _run_source(built: Built, source: str, kernel: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a kernel of one block of 32 threads, whose argument is 32 floats."""
    from cuda_emulator import library

    kernels = cuda_emulator.build_kernels(source, folder / "kernels.so")
    image = folder / "image"
    image.write_bytes(library.fatbin(source))
    code = """
import ctypes, sys
driver, runtime = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL("libcudart.so.13")
module, function, memory = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
assert driver.cuModuleLoadData(ctypes.byref(module), open(sys.argv[1], "rb").read()) == 0
assert driver.cuModuleGetFunction(ctypes.byref(function), module, sys.argv[2].encode()) == 0
assert runtime.cudaMalloc(ctypes.byref(memory), ctypes.c_size_t(128)) == 0
parameters = (ctypes.c_void_p * 1)(ctypes.addressof(memory))
assert driver.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, None, parameters, None) == 0
"""
    return Built(built.driver, built.library, kernels, source).run(code, str(image), kernel)
