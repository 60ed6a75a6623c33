"""The standalone library: a C library of a model that needs nothing, right and alone in whatever it is linked into."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import one_line
from networks import noise
from standalone_bundles import (
    EMIT,
    PROGRAMS,
    SYSTEM,
    Made,
    driver_objects,
    made,
    needed_by,
    output_of,
    versions_of_glibc,
)

import effgen
from effgen.deploy.standalone import emits_from_texts
from effgen.deploy.standalone.build import sources
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BuildError, BundleError, VerifyError
from effgen.judge.bench import LeftOut, Plan, bench_bundle
from effgen.judge.case import golden_pair, relative_l2
from effgen.judge.verify import verify_bundle
from effgen.machines.cpu import cpu_features, features_of, usable_cpus
from effgen.network import NetworkRequest, build_network
from effgen.network.c_name import c_name_from_text, library_name
from effgen.network.scaling import Overrides
from effgen.runtime.standalone import StandaloneModel, load_standalone

EXAMPLES = Path(__file__).parents[2] / "examples"
#: B0's name, a fraction of its size: what the examples are compiled against.
SMALL_B0 = NetworkRequest(overrides=Overrides(width=0.25, depth=0.3, resolution=32, classes=10))
ALLOWED = {"libc.so.6", "libm.so.6", "libpthread.so.0"}

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


@pytest.fixture(scope="module")
def tiny(tiny_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("tiny"), NetworkRequest(spec=str(tiny_spec)))


@pytest.fixture(scope="module")
def small_b0(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made(tmp_path_factory.mktemp("b0"), SMALL_B0, ("bundle", "standalone"), name="efficientnet_b0")


def answer(made: Made, image: np.ndarray, threads: int) -> np.ndarray:
    """The bundle's own."""
    return effgen.load(made.bundle, threads)(image)


# What is asked for, and what it is called.


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], ["bundle"]),
        (["standalone"], ["bundle", "standalone"]),
        (["executable"], ["bundle", "standalone", "executable"]),
        (["standalone, bundle", "executable"], ["bundle", "standalone", "executable"]),
    ],
)
def test_emits(texts: list[str], names: list[str]) -> None:
    assert list(emits_from_texts(texts)) == names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("efficientnet_b0", "efficientnet_b0"),
        ("ResNet-152 (v2)", "resnet_152_v2"),
        ("efficientnet_phi1.5", "efficientnet_phi1_5"),
        ("double", "model_double"),
        ("3d-net", "model_3d_net"),
        ("__x__", "model_x"),
        ("größe", "gr_e"),
        ("***", "model"),
        ("static_cast", "model_static_cast"),
        ("size_t", "model_size"),
        ("efficientnet_t", "model_efficientnet"),
        ("n1" * 100, "n1" * 32),
    ],
)
def test_c_names(text: str, name: str) -> None:
    assert c_name_from_text(text) == name


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (NetworkRequest(), "efficientnet_b0"),
        (NetworkRequest(phi="7"), "efficientnet_b7"),
        (NetworkRequest(phi="l2"), "efficientnet_l2"),
        (NetworkRequest(phi="1.5"), "efficientnet_phi1_5"),
        (NetworkRequest(phi="1", law="formula"), "efficientnet_phi1"),
        (SMALL_B0, "efficientnet_b0_r32_c10_w0_25_d0_3"),
        (NetworkRequest(batch=8), "efficientnet_b0_batch8"),
        (NetworkRequest(phi="2", batch=8, overrides=Overrides(resolution=160)), "efficientnet_b2_batch8_r160"),
        (NetworkRequest(overrides=Overrides(width=1.1, padding="same")), "efficientnet_b0_w1_1_same"),
        (NetworkRequest(overrides=Overrides(norm_eps=1e-3)), "efficientnet_b0_eps0_001"),
    ],
)
def test_names_of_networks(request_: NetworkRequest, name: str) -> None:
    assert library_name(build_network(request_)) == name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--emit", "standalon"], "--emit standalon: did you mean standalone? known: bundle, executable, standalone"),
        (["--emit", "standalone", "--target", "cuda-sm90"], "--emit standalone: --target cuda-sm90 compiles for a GPU"),
        (["--emit", "executable", "--target", "cuda-sm80", "--dtype", "float16"], "--emit executable: --target cuda"),
        (
            ["--name", "my_model"],
            "--name my_model: is what a C library is called; expected --emit standalone beside it",
        ),
        *(
            (["--emit", "standalone", "--name", name], f"--name {name!r}: expected a C name that is no keyword: ")
            for name in (
                "double",
                "thread_local",
                "int8_t",
                "a-b",
                "3d_net",
                "My_Model",
                "a__b",
                "../x_1",
                "x_" * 40,
                "",
                "é_1",
            )
        ),
        (["--emit", "standalone", "--dtype", "float16"], "--dtype float16: kernels for CPUs are float32 yet"),
    ],
)
def test_what_cannot_be_emitted(options: list[str], message: str, run: Any, tmp_path: Path) -> None:
    assert one_line(run("compile", "-o", tmp_path / "out", *options)).startswith(message)
    assert not list(tmp_path.iterdir())


# What is written.


def test_bundle_holds_it(tiny: Made) -> None:
    assert tiny.manifest.standalone == {
        "name": "tiny_phi0",
        "header": "tiny_phi0.h",
        "shared": "libtiny_phi0.so",
        "static": "libtiny_phi0.a",
        "executable": "tiny_phi0",
    }
    assert {"tiny_phi0.h", "libtiny_phi0.so", "libtiny_phi0.a", "tiny_phi0"} <= tiny.manifest.files.keys()
    assert {file.name for file in tiny.bundle.iterdir()} == tiny.manifest.files.keys() | {"manifest.json"}


def test_not_unless_asked_for(tiny_bundle: Path, small_b0: Made) -> None:
    assert effgen.load(tiny_bundle).manifest.standalone is None
    assert small_b0.manifest.standalone is not None and small_b0.manifest.standalone["executable"] is None
    assert not (small_b0.bundle / small_b0.name).exists()


def test_changed_library_is_refused(tiny: Made, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny.bundle, tmp_path / "bundle")
    with (bundle / "libtiny_phi0.so").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"libtiny_phi0\.so: SHA-256 is"):
        load_standalone(bundle)


def test_path_out_of_the_bundle_is_refused(tiny: Made, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny.bundle, tmp_path / "bundle")
    standalone = {**(tiny.manifest.standalone or {}), "shared": "../evil.so"}
    (bundle / "manifest.json").write_text(replace(tiny.manifest, standalone=standalone).to_json())
    with pytest.raises(BundleError, match=r"standalone\.shared = '\.\./evil\.so': expected one of the files"):
        load_standalone(bundle)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"int nothing;", r"libtiny_phi0\.so: cannot be loaded: .*symbol: tiny_phi0_create; compile it again"),
        (None, r"libtiny_phi0\.so: cannot be loaded: .*(file too short|invalid ELF header); compile it again"),
    ],
)
def test_library_that_cannot_be_loaded(code: bytes | None, message: str, tiny: Made, tmp_path: Path) -> None:
    library = tmp_path / "libtiny_phi0.so"
    if code is None:
        library.write_bytes(b"nothing")
    else:
        subprocess.run(["cc", "-shared", "-x", "c", "-", "-o", library], input=code, check=True)
    with pytest.raises(BundleError, match=message) as refused:
        StandaloneModel(tmp_path, tiny.manifest)
    assert "\n" not in str(refused.value)


def test_library_of_another_processor(tiny: Made) -> None:
    target = tiny.manifest.target | {"name": "board", "llvm": {"mtriple": "riscv64-linux-gnu", "mcpu": "generic"}}
    with pytest.raises(BundleError, match=r"compiled for board, whose processor is riscv64; this one is"):
        StandaloneModel(tiny.bundle, replace(tiny.manifest, target=target))


@pytest.mark.parametrize("folder", ["größe 中 🙂", "a \"b\" 'c'", "back\\slash\\n", "a,b;c$d%s#e&f"])
def test_odd_folders(folder: str, tiny: Made, tiny_spec: Path, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    again = made(tmp_path / folder, NetworkRequest(spec=str(tiny_spec)))
    for name in ("libtiny_phi0.so", "tiny_phi0"):
        assert again.manifest.files[name] == tiny.manifest.files[name], name


def test_same_input_same_files(tiny: Made, tiny_spec: Path, tmp_path: Path) -> None:
    again = made(tmp_path, NetworkRequest(spec=str(tiny_spec)))
    ours, theirs = tiny.manifest.files, again.manifest.files
    for name in ("tiny_phi0.h", "libtiny_phi0.a", "libtiny_phi0.so", "tiny_phi0"):
        assert ours[name] == theirs[name], name


def test_needs_nothing(tiny: Made) -> None:
    assert needed_by("readelf", tiny.shared) <= ALLOWED
    assert max(versions_of_glibc("readelf", tiny.shared)) <= (2, 17)
    listed = subprocess.run(["ldd", tiny.bundle / tiny.name], capture_output=True, text=True)
    assert "not a dynamic executable" in listed.stderr + listed.stdout or "statically linked" in listed.stdout


def test_exports_its_functions_only(tiny: Made) -> None:
    wanted = {f"tiny_phi0_{name}" for name in ("create", "run", "destroy", "error")}
    for options, library in ((["-D"], tiny.shared), ([], tiny.static)):
        lines = output_of("nm", *options, "--defined-only", "--extern-only", library).splitlines()
        assert {line.split()[-1] for line in lines if " " in line} == wanted


def test_no_mutable_state(tiny: Made) -> None:
    """Beside what the C compiler's start-up code keeps, nothing is written but through a handle."""
    lines = output_of("objdump", "-t", tiny.static).splitlines()
    written = [line for line in lines if re.search(r" O \.(data|bss)\t", line)]
    assert [line.split()[-1] for line in written] == []


def test_kernels_are_the_bundles(tiny: Made) -> None:
    """The functions of the object that `lib.so` was linked from, by name and size."""

    def functions(file: Path) -> Counter[tuple[str, ...]]:
        lines = (line.split() for line in output_of("nm", "--print-size", file).splitlines())
        return Counter((words[1], words[3]) for words in lines if len(words) == 4 and words[2] in "tT")

    (kernels,) = tiny.kernels
    assert functions(kernels).total() > 3
    for library in (tiny.static, tiny.shared, tiny.bundle / "lib.so"):
        assert functions(kernels) <= functions(library)


# Answers.


@pytest.mark.parametrize("threads", [1, *([2] if len(usable_cpus()) > 1 else [])])
def test_bit_for_bit_the_bundles(tiny: Made, threads: int) -> None:
    with load_standalone(tiny.bundle, threads) as model:
        for seed in range(3):
            image = noise((1, 3, 32, 32), seed)
            np.testing.assert_array_equal(model(image), answer(tiny, image, threads))


@pytest.mark.parametrize("threads", [3, 4 * len(usable_cpus())])
def test_more_threads_than_cores(tiny: Made, threads: int) -> None:
    image = noise((1, 3, 32, 32))
    with load_standalone(tiny.bundle, threads) as model:
        for _ in range(20):
            assert relative_l2(model(image), answer(tiny, image, 1)) <= 1e-6


def test_variants_in_one_program(tiny: Made, tiny_spec: Path, tmp_path: Path) -> None:
    """By the default names, and by ones given; each static library is the first on the command line once."""
    variants = [tiny]
    for number, (batch, name) in enumerate([(2, None), (1, "my_model")]):
        (tmp_path / str(number)).mkdir()
        request = NetworkRequest(spec=str(tiny_spec), batch=batch)
        variants.append(made(tmp_path / str(number), request, EMIT[:2], name=name))
    names = [made.name for made in variants]
    assert names == ["tiny_phi0", "tiny_phi0_batch2", "my_model"]
    calls = " || ".join(f"{name}_create(&{name}_handle, 1)" for name in names)
    lines = [f'#include "{name}.h"\nstatic {name} *{name}_handle;' for name in names]
    (tmp_path / "main.c").write_text("\n".join([*lines, f"int main(void) {{ return {calls}; }}\n"]))
    headers = [word for made in variants for word in ("-I", made.bundle)]
    libraries = [made.static for made in variants]
    output_of("cc", "-Wall", "-Werror", *headers, tmp_path / "main.c", "-o", tmp_path / "all", *libraries, *SYSTEM)
    output_of(tmp_path / "all")


def test_name_of_an_onnx_files(tiny: Made, run: Any, tmp_path: Path) -> None:
    options = ["--target", "cpu", "--emit", "standalone", "--quiet"]
    for folder, more, name in (("own", [], "tiny_phi0_onnx"), ("given", ["--name", "my_net"], "my_net")):
        shutil.copy(tiny.bundle / "model.onnx", tmp_path / "tiny_phi0_onnx.onnx")
        done = run("compile", "--onnx", tmp_path / "tiny_phi0_onnx.onnx", "-o", tmp_path / folder, *options, *more)
        assert done[0] == 0, done[2]
        assert load_standalone(tmp_path / folder).manifest.standalone["name"] == name  # type: ignore[index]
        assert (tmp_path / folder / f"{name}.h").is_file() and (tmp_path / folder / f"lib{name}.a").is_file()


def test_several_images_a_call(tiny_spec: Path, tmp_path: Path) -> None:
    pair = made(tmp_path, NetworkRequest(spec=str(tiny_spec), batch=2))
    images = noise((2, 3, 32, 32))
    with load_standalone(pair.bundle, 1) as model:
        np.testing.assert_array_equal(model(images), answer(pair, images, 1))
    lines = output_of(pair.bundle / pair.name, pair.image(tmp_path, images)).splitlines()
    assert [line.split()[1] for line in lines] == ["0"] * 5 + ["1"] * 5


def test_verify_and_bench_report_it(tiny: Made, tiny_bundle: Path) -> None:
    report = verify_bundle(tiny.bundle)
    assert report.passed and [case.name for case in report.cases][:2] == ["golden pair", "golden pair, standalone"]
    quick = Plan(rounds=1, min_time_s=0.01)
    result = bench_bundle(tiny.bundle, ["standalone"], 1, quick).results[1]
    assert (result.backend, result.rel_l2) == ("standalone", 0.0)
    (left_out,) = bench_bundle(tiny_bundle, ["standalone"], 1, quick).left_out
    assert isinstance(left_out, LeftOut) and "holds no standalone library; compile it with --emit" in left_out.reason


def test_wrong_library_is_not_written(tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = StandaloneModel.__call__
    monkeypatch.setattr(StandaloneModel, "__call__", lambda self, image: right(self, image) * np.float32(1.0001))
    request = CompileRequest(NetworkRequest(spec=str(tiny_spec)), tmp_path / "out", emit=EMIT)
    with pytest.raises(VerifyError, match=r"the standalone library disagrees with PyTorch: relative L2 1\.00e-04"):
        compile_bundle(request)
    assert not list(tmp_path.iterdir())


def test_missing_tool(tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from effgen.deploy.standalone import build

    real = build.tool_output

    def without_objcopy(command: Any, failure: str) -> str:
        return "no-objcopy\n" if "-print-prog-name=objcopy" in command else real(command, failure)

    monkeypatch.setattr(build, "tool_output", without_objcopy)
    request = CompileRequest(NetworkRequest(spec=str(tiny_spec)), tmp_path / "out", emit=EMIT)
    with pytest.raises(BuildError, match=r"^no-objcopy: not found: .*apt-get install binutils"):
        compile_bundle(request)
    assert not list(tmp_path.iterdir())


# The header's functions.


def test_statuses(tiny: Made) -> None:
    library = ctypes.CDLL(str(tiny.shared))
    create, run, destroy, error = (library[f"tiny_phi0_{name}"] for name in ("create", "run", "destroy", "error"))
    run.argtypes, error.restype, destroy.argtypes = [ctypes.c_void_p] * 3, ctypes.c_char_p, [ctypes.c_void_p]
    handle = ctypes.c_void_p(1)
    assert create(None, 1) == 1
    for threads in (-1, 1025):
        assert create(ctypes.byref(handle), threads) == 1 and handle.value is None
    assert create(ctypes.byref(handle), 0) == 0 and handle.value
    image, logits = noise((1, 3, 32, 32)), np.zeros(10, np.float32)
    for words in ((None, image, logits), (handle, None, logits), (handle, image, None)):
        assert run(*(word.ctypes.data if isinstance(word, np.ndarray) else word for word in words)) == 1
    assert run(handle, image.ctypes.data, logits.ctypes.data) == 0
    np.testing.assert_array_equal(logits[None], answer(tiny, image, min(2, len(usable_cpus()))))
    destroy(handle)
    destroy(None)
    texts = [error(status).decode() for status in range(-1, 6)]
    assert texts[1:3] == ["no error", "a wrong argument: NULL, or a thread count out of range"]
    assert texts[0] == texts[6] == "not a status of this library" and len(set(texts)) == 6


def test_arrays_need_not_be_aligned(tiny: Made) -> None:
    image = noise((1, 3, 32, 32))
    shifted = np.empty(image.size + 1, np.float32)[1:].reshape(image.shape)
    shifted[:] = image
    with load_standalone(tiny.bundle, 1) as model:
        np.testing.assert_array_equal(model(shifted), model(image))


def test_processor_without_an_instruction_set(tiny: Made, tmp_path: Path) -> None:
    objects = driver_objects(tiny, tmp_path / "driver", features=[*tiny.manifest.target["features"], "sse9"])
    output_of("cc", "-shared", "-o", tmp_path / "lib.so", *objects, *tiny.kernels)
    library = ctypes.CDLL(str(tmp_path / "lib.so"))
    handle = ctypes.c_void_p(1)
    assert library.tiny_phi0_create(ctypes.byref(handle), 1) == 4 and handle.value is None
    library.tiny_phi0_error.restype = ctypes.c_char_p
    assert re.match(
        rb"this processor lacks an instruction set out of those needed: .*sse9$", library.tiny_phi0_error(4)
    )


def test_processor_is_seen_as_linux_sees_it(tmp_path: Path) -> None:
    output_of("cc", "-Wall", "-Werror", "-shared", "-fPIC", sources() / "processor.c", "-o", tmp_path / "processor.so")
    has_feature = ctypes.CDLL(str(tmp_path / "processor.so")).has_feature
    has_feature.restype = ctypes.c_bool
    known = features_of(os.uname().machine).values()
    assert {name for name in known if has_feature(name.encode())} == set(known) & cpu_features()
    text = (sources() / "processor.c").read_text()
    for architecture in ("x86_64", "aarch64"):
        assert all(f'{{"{name}", ' in text for name in features_of(architecture).values())


def test_idle_handles_take_no_time(tiny: Made, tmp_path: Path) -> None:
    """Their threads go to sleep, and nothing wakes them: counted by the kernel, whatever else the machine does."""
    words = ["cc", "-Wall", "-Werror", "-I", tiny.bundle, "-I", tmp_path / "driver", PROGRAMS / "idle.c"]
    objects = driver_objects(tiny, tmp_path / "driver")
    output_of(*words, "-o", tmp_path / "idle", *objects, *tiny.kernels, *SYSTEM)
    assert output_of(tmp_path / "idle", 2, 4) == "4 threads asleep\n"


def test_memory_is_the_same_after_ten_thousand_runs(tiny: Made) -> None:
    """In a process of its own, of one thread: what the C library and Python have handed out, not what is resident."""
    assert int(output_of(sys.executable, "-c", GROWTH, tiny.bundle)) < 10_000


# Programs.


@pytest.mark.parametrize("linked", ["static", "shared"])
@pytest.mark.parametrize(("source", "compiler"), [("c/main.c", "cc -std=c99"), ("cpp/main.cc", "c++ -std=c++17")])
def test_examples(source: str, compiler: str, linked: str, small_b0: Made, tmp_path: Path) -> None:
    program = tmp_path / "classify"
    library = [small_b0.static] if linked == "static" else ["-L", small_b0.bundle, "-lefficientnet_b0"]
    words = [*compiler.split(), "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", small_b0.bundle, EXAMPLES / source]
    output_of(*words, "-o", program, *library, *SYSTEM)
    lines = output_of(program, small_b0.image(tmp_path), env={"LD_LIBRARY_PATH": str(small_b0.bundle)}).splitlines()
    expected = golden_pair(small_b0.bundle)[1][0]
    found = [re.match(r"class +(\d+)  logit (\S+)$", line).groups() for line in lines]  # type: ignore[union-attr]
    assert [int(best) for best, _ in found] == np.argsort(-expected)[:5].tolist()
    np.testing.assert_allclose([float(logit) for _, logit in found], np.sort(expected)[::-1][:5], atol=2e-6)
    refused = subprocess.run(
        [program, tmp_path / "absent"], capture_output=True, env={"LD_LIBRARY_PATH": small_b0.bundle}
    )
    assert refused.returncode == 1 and refused.stderr.count(b"\n") == 1


@pytest.mark.parametrize("static", [True, False])
def test_two_models_in_one_program(tiny: Made, small_b0: Made, static: bool, tmp_path: Path) -> None:
    program = tmp_path / "both"
    headers = ["-I", tiny.bundle, "-I", small_b0.bundle]
    libraries = [made.static if static else made.shared for made in (tiny, small_b0)]
    output_of("c++", "-Wall", "-Werror", *headers, PROGRAMS / "two_models.cc", "-o", program, *libraries, *SYSTEM)
    files = [word for made in (tiny, small_b0) for word in (made.image(tmp_path), tmp_path / f"{made.name}.out")]
    output_of(program, *files, env={"LD_LIBRARY_PATH": f"{tiny.bundle}:{small_b0.bundle}"})
    for made_ in (tiny, small_b0):
        found = np.fromfile(tmp_path / f"{made_.name}.out", np.float32)[None]
        with load_standalone(made_.bundle, 2) as model:
            np.testing.assert_array_equal(found, model(golden_pair(made_.bundle)[0]))


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
    headers = ["-I", tmp_path / "driver", "-I", sources()]
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


# The static program.


def test_program(tiny: Made, tmp_path: Path) -> None:
    program, image, expected = tiny.bundle / tiny.name, tiny.image(tmp_path), golden_pair(tiny.bundle)[1]
    lines = output_of(program, "--threads", 1, "--runs", 5, image, tmp_path / "logits.f32", env={}).splitlines()
    logits = np.fromfile(tmp_path / "logits.f32", np.float32)[None]
    np.testing.assert_array_equal(logits, answer(tiny, golden_pair(tiny.bundle)[0], 1))
    assert re.fullmatch(r"min [\d.]+ ms, median [\d.]+ ms, p90 [\d.]+ ms \(5 runs\)", lines[0])
    found = [re.fullmatch(r"class +(\d+)  ([\d.]+)", line).groups() for line in lines[1:]]  # type: ignore[union-attr]
    shares = np.exp(expected[0].astype(np.float64)) / np.exp(expected[0].astype(np.float64)).sum()
    assert [int(best) for best, _ in found] == np.argsort(-expected[0])[:5].tolist()
    np.testing.assert_allclose([float(share) for _, share in found], np.sort(shares)[::-1][:5], atol=1e-6)
    piped = subprocess.run([program, "-"], input=image.read_bytes(), capture_output=True, check=True).stdout
    assert piped.decode().splitlines() == lines[1:]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "tiny_phi0: IMAGE: missing"),
        (["--threads"], 2, "tiny_phi0: --threads: expected a number after it"),
        (["--threads", "0", "x"], 2, "tiny_phi0: --threads: expected from 1 to 1024"),
        (["--runs", "many", "x"], 2, "tiny_phi0: --runs: expected from 0 to 1000000"),
        (["--fast", "x"], 2, "tiny_phi0: --fast: unknown option"),
        (["a", "b", "c"], 2, "tiny_phi0: c: expected an image and a file for its logits, nothing more"),
        (["absent"], 1, "tiny_phi0: absent: No such file or directory"),
        (["/dev/null"], 1, "tiny_phi0: /dev/null: expected 12288 bytes: 1 x 3 x 32 x 32 float32"),
        (["/dev/zero"], 1, "tiny_phi0: /dev/zero: expected 12288 bytes: 1 x 3 x 32 x 32 float32"),
    ],
)
def test_program_refuses(words: list[str], status: int, message: str, tiny: Made) -> None:
    done = subprocess.run([tiny.bundle / tiny.name, *words], capture_output=True, text=True, cwd="/")
    assert done.returncode == status and done.stderr.splitlines()[0] == message
    assert ("usage:" in done.stderr) == (status == 2)


def test_program_whose_logits_cannot_be_written(tiny: Made, tmp_path: Path) -> None:
    for target in (tmp_path / "no" / "logits", Path("/dev/full")):
        command = [tiny.bundle / tiny.name, tiny.image(tmp_path), target]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and str(target) in done.stderr


# Other machines.


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
    from effgen.judge import standalone as check

    real, calls = check._by_program, []

    def counted(*words: Any) -> np.ndarray:
        calls.append(words)
        return real(*words)

    monkeypatch.setattr(check, "_by_program", counted)
    compile_bundle(CompileRequest(NetworkRequest(spec=str(tiny_spec)), tmp_path / "b", target="rpi4", emit=EMIT))
    assert len(calls) == 1


def test_processor_that_the_driver_does_not_know(tiny: Made, tmp_path: Path) -> None:
    from effgen.deploy.standalone import write_standalone

    target = tiny.manifest.target | {"llvm": {"mtriple": "riscv64-linux-gnu", "mcpu": "generic"}}
    with pytest.raises(BuildError, match="no driver for the processor riscv64; known: aarch64, x86_64"):
        write_standalone(replace(tiny.manifest, target=target), "tiny_phi0", tmp_path, [], EMIT)
