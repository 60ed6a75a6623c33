"""The CUDA emulator: it runs right kernels, and finds what a GPU would not say."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import cuda_emulator
import numpy as np
import pytest
from cuda_calls import Call, Kernels, build, needs
from numpy.typing import NDArray

from effgen.compiler.cuda_build import CudaSource, compile_fatbin
from effgen.machines.target import load_target

pytestmark = [needs("nvcc", "g++")]

ORDERS = ["forward", "reverse", "shuffled"]


@pytest.fixture(scope="module")
def built(emulated_driver: Path, tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    import cuda_kernels

    folder = tmp_path_factory.mktemp("cuda")
    return build(cuda_kernels.functions(), load_target("cuda-sm90"), emulated_driver, folder)


def call(kernels: Kernels, function: str, *inputs: NDArray[Any], out: tuple[int, ...], folder: Path, **settings: Any):
    """The function's output, float32 of the shape `out`."""
    found = kernels.call([Call("only", function, inputs, [(out, "float32")])], folder, **settings)
    return found["only"][0]


def random(*shape: int, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(7).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("order", ORDERS)
def test_elementwise(built: Kernels, tmp_path: Path, order: str) -> None:
    x = random(8192)
    out = call(built, "silu", x, out=x.shape, folder=tmp_path, order=order)
    half = x.astype(np.float16)
    np.testing.assert_allclose(out, x / (1 + np.exp(-x)) + (half + half).astype(np.float32), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_shared_memory(built: Kernels, tmp_path: Path, order: str) -> None:
    assert "float4" in built.source.text
    a, b = random(128, 64), random(64, 128)
    out = call(built, "matmul", a, b, out=(128, 128), folder=tmp_path, order=order)
    np.testing.assert_allclose(out, a @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_warp_shuffles(built: Kernels, tmp_path: Path, order: str) -> None:
    x = random(1024)
    out = call(built, "warp_sums", x, out=(32,), folder=tmp_path, order=order)
    np.testing.assert_allclose(out, x.reshape(32, 32).sum(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_tensor_cores(built: Kernels, tmp_path: Path, order: str) -> None:
    a, b = random(64, 64, dtype="float16"), random(64, 64, dtype="float16")
    out = call(built, "tensor_cores", a, b, out=(64, 64), folder=tmp_path, order=order)
    np.testing.assert_allclose(out, a.astype(np.float32) @ b.astype(np.float32), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_barriers(built: Kernels, tmp_path: Path, order: str) -> None:
    from cuda_kernels import LARGE

    x = random(LARGE)
    np.testing.assert_array_equal(call(built, "reverse", x, out=x.shape, folder=tmp_path, order=order), x[::-1])


@pytest.mark.parametrize("order", ORDERS)
def test_asynchronous_copies(built: Kernels, tmp_path: Path, order: str) -> None:
    x = random(8, 1024)
    out = call(built, "pipeline", x, out=(1024,), folder=tmp_path, order=order)
    np.testing.assert_allclose(out, x.sum(0).reshape(256, 4)[::-1].reshape(-1), rtol=1e-4, atol=1e-5)


def test_a_missing_wait_shows(built: Kernels, tmp_path: Path) -> None:
    source = re.sub(r'asm volatile\("cp.async.wait_group 1;"[^;]*;', "", built.source.text)
    assert source != built.source.text
    broken = replace(built, library=cuda_emulator.build_kernels(source, tmp_path / "kernels.so"))
    assert np.isnan(call(broken, "pipeline", random(8, 1024), out=(1024,), folder=tmp_path)).any()


def test_unknown_ptx_is_named() -> None:
    source = 'extern "C" __global__ void f() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }'
    with pytest.raises(ValueError, match=r"PTX that the emulator does not know: .*wgmma"):
        cuda_emulator.host_source(source)


def test_a_missing_barrier_shows(built: Kernels, tmp_path: Path) -> None:
    source = built.source.text.replace("__syncthreads();", "")
    broken = replace(built, library=cuda_emulator.build_kernels(source, tmp_path / "kernels.so"))
    x = random(12288)
    for order in ORDERS:
        assert np.isnan(call(broken, "reverse", x, out=x.shape, folder=tmp_path, order=order)).any()


def test_a_divergent_barrier_ends_the_process(built: Kernels, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"kernel diverge_kernel, block .* divergent barrier: thread 0 waits"):
        call(built, "diverge", random(256), out=(256,), folder=tmp_path)


def test_reading_out_of_bounds_ends_the_process(built: Kernels, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="illegal memory access in kernel out_of_bounds_kernel"):
        call(built, "out_of_bounds", random(256), out=(256,), folder=tmp_path)


def test_code_for_another_gpu_is_refused(built: Kernels, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="CUDA_ERROR_NO_BINARY_FOR_GPU"):
        call(built, "silu", random(8192), out=(8192,), folder=tmp_path, sm=80)
    # The image holds PTX too, which later GPUs compile.
    call(built, "silu", random(8192), out=(8192,), folder=tmp_path, sm=100)


#: The beginning of a script that is given an image.
SETUP = """
import ctypes, sys
import numpy as np
from cuda_emulator.client import Gpu, emulated
from effgen.machines.cuda_driver import DriverError
image = open(sys.argv[1], "rb").read()
gpu = Gpu(image)
driver = gpu.driver

def status(name, *arguments):
    try:
        driver.call(name, *arguments)
    except DriverError as error:
        return error.status
    return 0
"""


def script(built: Kernels, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    image = folder / "image"
    image.write_bytes(built.image)
    return built.run(SETUP + code, str(image))


def test_the_host_cannot_touch_device_memory(built: Kernels, tmp_path: Path) -> None:
    done = script(built, "ctypes.string_at(driver.allocate(16), 4)", tmp_path)
    assert done.returncode != 0 and "host code touches device memory" in done.stderr


def test_new_memory_holds_nothing_usable(built: Kernels, tmp_path: Path) -> None:
    done = script(built, "assert np.isnan(gpu.download(driver.allocate(4000), (1000,))).all()", tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_thread_without_a_context_is_refused(built: Kernels, tmp_path: Path) -> None:
    code = """
import threading
found = []
threading.Thread(target=lambda: found.append(status("cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), 16))).run()
thread = threading.Thread(target=lambda: found.append(status("cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), 16)))
thread.start()
thread.join()
assert found == [0, 201], found
"""
    done = script(built, code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_images_and_launches_are_checked(built: Kernels, tmp_path: Path) -> None:
    code = """
made = ctypes.byref(ctypes.c_void_p())
assert status("cuModuleLoadData", made, b"// a PTX text, or CUDA source") == 200
assert status("cuModuleGetFunction", made, gpu.module, b"absent") == 500
function = gpu.function("silu_kernel")

def launch(grid, block, shared=0):
    return status("cuLaunchKernel", function, *grid, *block, shared, None, (ctypes.c_void_p * 2)(), None)

invalid = 1
assert launch((1, 1, 1), (2048, 1, 1)) == invalid          # more threads than a block has
assert launch((1, 1, 1), (512, 1, 1)) == invalid           # more than the kernel's launch bounds
assert launch((1, 65536, 1), (256, 1, 1)) == invalid
assert launch((0, 1, 1), (256, 1, 1)) == invalid
assert launch((1, 1, 1), (256, 1, 1), 50000) == invalid    # not asked for
dynamic_shared_size = 8
assert status("cuFuncSetAttribute", function, dynamic_shared_size, 240 * 1024) == invalid
"""
    done = script(built, code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2048 threads in a block" in done.stderr


def test_a_captured_launch_runs_when_its_graph_does(built: Kernels, tmp_path: Path) -> None:
    code = """
a, b = (np.random.default_rng(i).standard_normal(shape, np.float32) for i, shape in enumerate([(128, 64), (64, 128)]))
addresses = [gpu.upload(array) for array in (a, b, np.zeros((128, 128), np.float32))]
before = emulated("launches")
driver.begin_capture(gpu.stream)
gpu.launch("matmul_kernel", 4, 256, addresses)
graph = driver.end_capture(gpu.stream)
assert emulated("launches") == before and not gpu.download(addresses[-1], (128, 128)).any()
for repetition in (1, 2):
    gpu.upload(a * repetition, addresses[0])
    driver.call("cuGraphLaunch", graph, gpu.stream)
    np.testing.assert_allclose(gpu.download(addresses[-1], (128, 128)), a * repetition @ b, rtol=1e-4, atol=1e-4)
assert emulated("launches") == before + 2

driver.begin_capture(gpu.stream)
assert status("cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), 16) == 900
assert status("cuStreamEndCapture", gpu.stream, ctypes.byref(ctypes.c_void_p())) == 901
"""
    done = script(built, code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_dynamic_shared_memory_has_to_be_asked_for(built: Kernels, tmp_path: Path) -> None:
    source = """
extern "C" __global__ void __launch_bounds__(32) turned(float* out) {
  extern __shared__ float numbers[];
  for (int i = 0; i < 512; ++i) numbers[i * 32 + threadIdx.x] = i * 32 + threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = numbers[16383 - threadIdx.x];
}
"""
    code = """
function, out = gpu.function("turned"), ctypes.c_uint64(driver.allocate(128))
parameters = (ctypes.c_void_p * 1)(ctypes.addressof(out))
arguments = (function, 1, 1, 1, 32, 1, 1, 65536, gpu.stream, parameters, None)
assert status("cuLaunchKernel", *arguments) == 1
driver.call("cuFuncSetAttribute", function, 8, 65536)
driver.call("cuLaunchKernel", *arguments)
np.testing.assert_array_equal(gpu.download(out.value, (32,)), 16383 - np.arange(32))
"""
    done = script(_from_source(built, source, tmp_path), code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_stray_store_to_global_memory_is_found(built: Kernels, tmp_path: Path) -> None:
    source = """
extern "C" __global__ void __launch_bounds__(32) stray(float* out) {
  out[(int)threadIdx.x - 1] = 1.0f;
}
"""
    done = _launch_and_free(built, source, "stray", tmp_path)
    assert "something was written beside an allocation of 128 bytes" in done.stderr


def test_a_stray_store_to_shared_memory_is_found(built: Kernels, tmp_path: Path) -> None:
    source = """
extern "C" __global__ void __launch_bounds__(32) stray(float* out) {
  __shared__ float numbers[32];
  numbers[threadIdx.x + 1] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = numbers[threadIdx.x];
}
"""
    done = _launch_and_free(built, source, "stray", tmp_path)
    assert "a store went 0 bytes beyond the end of an array in shared memory (128 bytes)" in done.stderr


def test_a_misaligned_access_is_found(built: Kernels, tmp_path: Path) -> None:
    source = """
extern "C" __global__ void __launch_bounds__(32) misaligned(float* out) {
  *(float4*)(out + 1 + threadIdx.x % 4) = make_float4(1.0f, 2.0f, 3.0f, 4.0f);
}
"""
    done = _launch_and_free(built, source, "misaligned", tmp_path)
    assert "misaligned access in kernel misaligned" in done.stderr


def test_warp_collectives_need_their_lanes(built: Kernels, tmp_path: Path) -> None:
    source = """
extern "C" __global__ void __launch_bounds__(32) lonely(float* out) {
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __shfl_xor_sync(0xffffffff, float(threadIdx.x), 1);
  }
  __syncthreads();
}
"""
    done = _launch_and_free(built, source, "lonely", tmp_path)
    assert "waits in a warp collective (mask 0xffffffff)" in done.stderr


def _from_source(built: Kernels, source: str, folder: Path) -> Kernels:
    """Kernels as a person would write them."""
    gpu = load_target("cuda-sm90")
    library = cuda_emulator.build_kernels(source, folder / "kernels.so")
    return replace(built, library=library, image=compile_fatbin(source, gpu), source=CudaSource(source, {}))


def _launch_and_free(built: Kernels, source: str, kernel: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a kernel of one block of 32 threads, whose argument is 32 floats; it has to fail."""
    code = f"""
address = driver.allocate(128)
gpu.launch("{kernel}", 1, 32, [address])
gpu.free(address)
"""
    done = script(_from_source(built, source, folder), code, folder)
    assert done.returncode != 0
    return done
