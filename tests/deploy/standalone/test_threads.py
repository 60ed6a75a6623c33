"""The standalone library under threads, sanitizers, forks and shortage, and when nothing is asked of it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from networks import noise
from standalone_bundles import (
    PROGRAMS,
    SYSTEM,
    Made,
    driver_objects,
    made,
    output_of,
)

from effgen.deploy.standalone.build import sources
from effgen.errors import BundleError
from effgen.judge.case import golden_pair, relative_l2
from effgen.network import NetworkRequest
from effgen.runtime.standalone import load_standalone

#: Bytes by which ten thousand runs of the bundle's library let the heap grow, and Python's objects at a byte each.
GROWTH = """if True:
    import ctypes, sys
    from pathlib import Path
    import numpy as np
    from effgen.runtime.standalone import load_standalone

    class Heap(ctypes.Structure):  # struct mallinfo2: what malloc() has handed out, in its arena and by mmap()
        _fields_ = [(name, ctypes.c_size_t) for name in (
            "arena", "ordblks", "smblks", "hblks", "mapped", "usmblks", "fsmblks", "in_use", "fordblks", "keepcost")]

    read_heap = ctypes.CDLL(None).mallinfo2
    read_heap.restype = Heap

    def handed_out():
        heap = read_heap()
        return heap.in_use + heap.mapped + sys.getallocatedblocks()

    image = np.zeros((1, 3, 32, 32), np.float32)
    with load_standalone(Path(sys.argv[1]), 1) as model:
        for _ in range(100):
            model(image)
        before = handed_out()
        for _ in range(10_000):
            model(image)
        print(handed_out() - before)
"""


def test_idle_handles_take_no_time(tiny: Made, tmp_path: Path) -> None:
    """Their threads go to sleep, and nothing wakes them: counted by the kernel, whatever else the machine does."""
    words = ["cc", "-Wall", "-Werror", "-I", tiny.bundle, "-I", tmp_path / "driver", PROGRAMS / "idle.c"]
    objects = driver_objects(tiny, tmp_path / "driver")
    output_of(*words, "-o", tmp_path / "idle", *objects, *tiny.kernels, *SYSTEM)
    assert output_of(tmp_path / "idle", 2, 4) == "4 threads asleep\n"


def test_memory_is_the_same_after_ten_thousand_runs(tiny: Made) -> None:
    """In a process of its own, of one thread: what the C library and Python have handed out, not what is resident."""
    assert int(output_of(sys.executable, "-c", GROWTH, tiny.bundle)) < 10_000


def stress(tiny: Made, folder: Path, flags: list[str], threads: int, handles: int, runs: int) -> np.ndarray:
    """The stress program built with `flags`, and what it answers."""
    objects = driver_objects(tiny, folder / "driver", *flags)
    program = folder / "stress"
    words = ["cc", "-Wall", "-Werror", "-Wno-unused-result", *flags, "-I", folder / "driver", PROGRAMS / "stress.c"]
    output_of(*words, "-o", program, *objects, *tiny.kernels, *SYSTEM)
    output_of(program, threads, handles, runs, tiny.image(folder), folder / "logits.f32")
    return np.fromfile(folder / "logits.f32", np.float32)[None]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_handles_at_once_are_bit_for_bit_equal(threads: int, tiny: Made, tmp_path: Path) -> None:
    found = stress(tiny, tmp_path, ["-O2"], threads, handles=4, runs=100)
    with load_standalone(tiny.bundle, threads) as model:
        np.testing.assert_array_equal(found, model(golden_pair(tiny.bundle)[0]))


def sanitized(name: str, folder: Path) -> list[str]:
    """The flags of a sanitizer; skips where the toolchain lacks it."""
    flags = ["-g", "-O1", f"-fsanitize={name}", "-fno-sanitize-recover=all"]
    (folder / "probe.c").write_text("int main(void) { return 0; }\n")
    probe = ["cc", *flags, str(folder / "probe.c"), "-o", str(folder / "probe")]
    if subprocess.run(probe, capture_output=True).returncode or subprocess.run([folder / "probe"]).returncode:
        pytest.skip(f"no -fsanitize={name} in this toolchain")
    return flags


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("name", ["address,undefined", "thread"])
def test_sanitizers(name: str, threads: int, tiny: Made, tmp_path: Path) -> None:
    found = stress(tiny, tmp_path, sanitized(name, tmp_path), threads, handles=3, runs=20)
    assert relative_l2(found, golden_pair(tiny.bundle)[1]) <= 1e-5


@pytest.mark.parametrize("name", ["", "address,undefined", "thread"])
def test_driver_under_odd_kernels(name: str, tiny: Made, tmp_path: Path) -> None:
    flags = sanitized(name, tmp_path) if name else []
    objects = driver_objects(tiny, tmp_path / "driver", *flags)
    headers = ["-I", tmp_path / "driver", "-I", sources().parent / "pool"]
    output_of("cc", "-Wall", *flags, *headers, PROGRAMS / "kernels.c", "-o", tmp_path / "odd", *objects, *SYSTEM)
    output_of(tmp_path / "odd")


@pytest.mark.parametrize("threads", [1, 3])
def test_handle_inherited_by_a_fork(threads: int, tiny: Made, tmp_path: Path) -> None:
    objects = driver_objects(tiny, tmp_path / "driver")
    words = ["cc", "-Wall", "-Werror", "-I", tmp_path / "driver", PROGRAMS / "fork.c", "-o", tmp_path / "fork"]
    output_of(*words, *objects, *tiny.kernels, *SYSTEM)
    output_of(tmp_path / "fork", threads)


def test_python_child_ends_with_an_inherited_model(tiny: Made) -> None:
    """Its finalizer runs there, too."""
    with load_standalone(tiny.bundle, 2) as model:
        model(noise((1, 3, 32, 32)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: what this is about
            child = os.fork()
        if child == 0:
            signal.alarm(60)
            with contextlib.suppress(BundleError):
                model(noise((1, 3, 32, 32)))
                os._exit(1)
            model.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        model(noise((1, 3, 32, 32)))


@pytest.mark.parametrize("name", ["", "address,undefined"])
def test_shortage_of_memory_and_threads(name: str, small_b0: Made, tmp_path: Path) -> None:
    flags = sanitized(name, tmp_path) if name else []
    objects = driver_objects(small_b0, tmp_path / "driver", *flags)
    wrapped = [f"-Wl,--wrap={function}" for function in ("aligned_alloc", "calloc", "pthread_create")]
    program, headers = tmp_path / "shortage", ["-I", tmp_path / "driver"]
    output_of(
        "cc", *flags, *headers, PROGRAMS / "shortage.c", *wrapped, "-o", program, *objects, *small_b0.kernels, *SYSTEM
    )
    creates, runs = map(int, output_of(program).split())
    assert creates == 4 and runs >= 1  # handle, activations, logits, pool; and what kernels ask for


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_kernels_stay_inside_their_arrays(tiny_spec: Path, tmp_path: Path) -> None:
    """Valgrind knows AVX2, not AVX-512."""
    avx2 = made(tmp_path, NetworkRequest(spec=str(tiny_spec)), target="x86-64-v3")
    options = ["--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=all"]
    stress(avx2, tmp_path, ["-O1", "-g"], threads=2, handles=1, runs=1)
    output_of("valgrind", *options, tmp_path / "stress", 2, 2, 2, avx2.image(tmp_path), tmp_path / "out.f32")
