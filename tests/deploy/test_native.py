"""`effgen-run` and its Python half: it agrees with the Python runtime, and says in one line what is wrong."""

import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import edit_manifest, flip, seal, truncate
from networks import noise

import effgen
from effgen.deploy.executors import InProcess
from effgen.deploy.native import Runner, build_runner, run_bundle, run_images, runtime_libraries
from effgen.deploy.native.cache import cached_folder
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BuildError, BundleError
from effgen.judge.case import golden_pair, relative_l2
from effgen.machines.cpu import usable_cpus
from effgen.network import NetworkRequest
from effgen.runtime import read_manifest

HERE = f"{platform.machine()}-linux-gnu"
ARM = "aarch64-linux-gnu"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "effgen"


@pytest.fixture(scope="module")
def pair_bundle(tiny_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network for two images a call."""
    output = tmp_path_factory.mktemp("pair") / "pair"
    compile_bundle(CompileRequest(NetworkRequest(spec=str(tiny_spec), batch=2), output))
    return output


@pytest.fixture
def broken(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be damaged."""
    return shutil.copytree(tiny_bundle, tmp_path / "broken")


def run(runner: Runner, *options: object, **how: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([runner.program, *map(str, options)], capture_output=True, text=True, **how)


# What it computes.


def test_golden_pair(runner: Runner, tiny_bundle: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    image, expected = golden_pair(tiny_bundle)
    report = run_bundle(runner, tiny_bundle, runs=3, layers=True)
    assert report.passed and report.tolerance == manifest.tolerance["rel_l2"]
    assert report.rel_l2 == pytest.approx(relative_l2(effgen.load(tiny_bundle)(image), expected), rel=1e-6)
    assert (report.model, report.target, report.threads) == (manifest.name, "cpu", manifest.threads)
    assert len(report.runs_ms) == 3 and len(report.steps_ms) == len(manifest.steps)


def test_no_timing_unless_asked_for(runner: Runner, tiny_bundle: Path) -> None:
    report = run_bundle(runner, tiny_bundle, layers=True)
    assert report.passed and (report.runs_ms, report.steps_ms) == ((), ())


@pytest.mark.parametrize("threads", [1, len(usable_cpus())])
def test_images_of_ones_own_as_in_python(runner: Runner, pair_bundle: Path, threads: int) -> None:
    images = noise((6, 3, 32, 32))
    logits = run_images(runner, pair_bundle, images, threads)
    np.testing.assert_array_equal(logits, InProcess(effgen.load(pair_bundle, threads))(images))


def test_text_for_people(runner: Runner, tiny_bundle: Path) -> None:
    done = run(runner, tiny_bundle, "--threads", 1, "--runs", 2, "--min-time", 0)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split()[0] for line in done.stdout.splitlines()]
    assert lines == ["model", "target", "golden", "time"] and "1 thread\n" in done.stdout and "pass" in done.stdout


def test_folder_runs_wherever_it_is_copied(runner: Runner, tiny_bundle: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(runner.program.parent, tmp_path / "copied") / "effgen-run"
    nested = shutil.copytree(runner.program.parent, tmp_path / "nested")
    (nested / "lib").mkdir()
    for library in nested.glob("*.so"):
        library.rename(nested / "lib" / library.name)
    for program in (copied, nested / "effgen-run"):
        done = run(Runner(program), os.path.relpath(tiny_bundle, "/"), "--runs", 0, cwd="/", env={})
        assert (done.returncode, done.stderr) == (0, "")


def test_corrupted_golden_pair_is_missed(runner: Runner, broken: Path) -> None:
    image, expected = golden_pair(broken)
    np.savez(broken / "golden.npz", input=image, output=expected + np.float32(1e-3))
    seal(broken)
    done = run(runner, broken, "--json", "--runs", 0)
    assert done.returncode == 3 and done.stderr.count("\n") == 1 and "expected at most 1e-05" in done.stderr
    report = run_bundle(runner, broken)
    assert not report.passed and report.rel_l2 == json.loads(done.stdout)["rel_l2"] > report.tolerance


def test_nan_never_passes(runner: Runner, broken: Path) -> None:
    weights = np.fromfile(broken / "weights.bin", "<f4")
    np.full_like(weights, np.nan).tofile(broken / "weights.bin")
    seal(broken)
    edit_manifest(broken, lambda data: data.update(tolerance={"rel_l2": 1e300}))
    report = run_bundle(runner, broken)
    assert not report.passed and report.rel_l2 == float("inf")
    assert "the output is not finite" in run(runner, broken, "--runs", 0).stderr


# What it refuses.


def for_arm(bundle: Path) -> None:
    data = bytearray((bundle / "lib.so").read_bytes())
    data[18:20] = (183 if platform.machine() == "x86_64" else 62).to_bytes(2, "little")
    (bundle / "lib.so").write_bytes(data)


_UNREADABLE = (r"no bundle here \(no manifest.json\)", "cannot be read as JSON")


def golden(**changes: Any) -> Callable[[Path], None]:
    """The golden pair written again with other arrays, or by another of numpy's functions (`save`)."""

    def write(bundle: Path) -> None:
        image, output = golden_pair(bundle)
        save = changes.pop("save", np.savez)
        save(bundle / "golden.npz", **({"input": image, "output": output} | changes))

    return write


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: (b / "manifest.json").unlink(), r"no bundle here \(no manifest.json\)"),
        (lambda b: truncate(b / "manifest.json", 100), "cannot be read as JSON"),
        (
            lambda b: edit_manifest(b, lambda d: d.update(format_version=1)),
            "= 1: .*; compile the bundle again",
        ),
        (lambda b: edit_manifest(b, lambda d: d.update(format_version=99)), "99: written by a newer effgen"),
        (lambda b: edit_manifest(b, lambda d: d.update(format_version="4")), "format_version: missing or of another"),
        (lambda b: edit_manifest(b, lambda d: d["files"].pop("lib.so")), "files: no hash of lib.so"),
        (lambda b: edit_manifest(b, lambda d: d["files"].update(x=1)), "files: makes no sense"),
        (lambda b: edit_manifest(b, lambda d: d.pop("steps")), "steps: missing or of another type"),
        (lambda b: edit_manifest(b, lambda d: d.update(threads="2")), "threads: missing or of another type"),
        (lambda b: edit_manifest(b, lambda d: d["input"].update(shape=[1, 3])), "input: shape: makes no sense"),
        (lambda b: edit_manifest(b, lambda d: d["device"].update(kind="cuda")), "runs on CPUs only"),
        (lambda b: edit_manifest(b, lambda d: d["target"].update(features=["sse9"])), "this processor lacks sse9"),
        (lambda b: (b / "lib.so").unlink(), "lib.so: missing from the bundle"),
        (lambda b: (b / "lib.so").write_text("#!/bin/sh\n" * 20), "no shared library"),
        (for_arm, rf"lib.so is for \w+, this machine is {platform.machine()}"),
        (lambda b: truncate(b / "lib.so", 4096), "lib.so: truncated"),
        (lambda b: (b / "weights.bin").unlink(), "weights.bin: missing from the bundle"),
        (lambda b: truncate(b / "weights.bin", 4098), "4098 bytes: expected whole floats"),
        (
            lambda b: truncate(b / "weights.bin", 4096),
            r"refuses its arrays: Invalid weights.*, expected \d+: weights.bin",
        ),
        (lambda b: (b / "golden.npz").unlink(), "golden.npz: missing from the bundle"),
        (lambda b: ((b / "golden.npz").unlink(), (b / "golden.npz").mkdir()), "golden.npz: missing from the bundle"),
        (lambda b: truncate(b / "golden.npz", 10_000), "no whole .npz archive"),
        (golden(save=np.savez_compressed), "input.npy is compressed"),
        (golden(output=np.zeros((1, 10))), "another element type"),
        (golden(input=np.asfortranarray(noise((1, 3, 32, 32)))), "Fortran order"),
        (golden(output=np.zeros((1, 9), np.float32)), r"output: shape \(1, 9\): expected \(1, 10\)"),
        (lambda b: np.savez(b / "golden.npz", input=noise((1, 3, 32, 32))), "no array output.npy"),
    ],
)
def test_bundle_that_makes_no_sense(
    runner: Runner, broken: Path, damage: Callable[[Path], object], message: str
) -> None:
    """What no hash tells: the files are those that the manifest states."""
    damage(broken)
    if message not in _UNREADABLE:
        seal(broken)
    with pytest.raises(BundleError, match=message) as caught:
        run_bundle(runner, broken)
    assert "\n" not in str(caught.value) and str(broken) in str(caught.value)
    assert run(runner, broken).returncode == 1


@pytest.mark.parametrize("name", ["lib.so", "weights.bin", "golden.npz"])
def test_flipped_byte(runner: Runner, broken: Path, name: str) -> None:
    flip(broken / name)
    with pytest.raises(BundleError, match=rf"{name}: SHA-256 is .*the manifest says .* was changed or damaged"):
        run_bundle(runner, broken)


def test_library_is_not_run_before_its_hash_is_right(runner: Runner, broken: Path, tmp_path: Path) -> None:
    source = tmp_path / "evil.c"
    source.write_text(f'#include <stdio.h>\n__attribute__((constructor)) void f() {{ fopen("{tmp_path}/ran", "w"); }}')
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", broken / "lib.so"], check=True)
    with pytest.raises(BundleError, match=r"lib.so: SHA-256 is"):
        run_bundle(runner, broken)
    assert not (tmp_path / "ran").exists()
    seal(broken)  # the test is able to see it run
    with pytest.raises(BundleError, match="has no function run"):
        run_bundle(runner, broken)
    assert (tmp_path / "ran").exists()


def test_any_flipped_byte_of_the_manifest(runner: Runner, broken: Path) -> None:
    path = broken / "manifest.json"
    data = path.read_bytes()
    for position in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data)
        flip(path, position)
        done = run(runner, broken, "--runs", 0)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and "manifest.json" in done.stderr, position


def test_manifest_may_be_laid_out_otherwise(runner: Runner, broken: Path) -> None:
    """The digest is of what it says: keys in any order, any white space."""
    path = broken / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True, indent="\t"))
    assert run_bundle(runner, broken).passed
    path.write_text(path.read_text().replace("{", '{"threads": 1, ', 1))
    with pytest.raises(BundleError, match="does not match its own digest"):
        run_bundle(runner, broken)


@pytest.mark.parametrize("name", ["lib.so", "weights.bin", "golden.npz"])
def test_link_that_leaves_the_bundle(runner: Runner, broken: Path, tmp_path: Path, name: str) -> None:
    (broken / name).rename(tmp_path / name)
    (broken / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError, match=rf"{name}: is a symbolic link that leaves the bundle"):
        run_bundle(runner, broken)
    (broken / name).unlink()
    (tmp_path / name).rename(broken / "real")
    (broken / name).symlink_to("real")
    (tmp_path / "alias").symlink_to(broken)
    assert run_bundle(runner, tmp_path / "alias").passed


def test_file_instead_of_a_bundle(runner: Runner, tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"lib.so: is a file: expected a bundle's directory; unpack an archive first"):
        run_bundle(runner, tiny_bundle / "lib.so")


@pytest.mark.parametrize("images", [np.zeros((3, 3, 32, 32), np.float32), np.zeros((2, 3, 32, 31), np.float32)])
def test_images_of_another_shape(runner: Runner, pair_bundle: Path, images: np.ndarray) -> None:
    with pytest.raises(BundleError, match=r"expected \(2, 3, 32, 32\), or a multiple in front"):
        run_images(runner, pair_bundle, images)


def test_images_of_another_type(runner: Runner, pair_bundle: Path) -> None:
    with pytest.raises(BundleError, match="expected an uncompressed array of little-endian float32"):
        run_images(runner, pair_bundle, np.zeros((2, 3, 32, 32)))


def test_output_that_cannot_be_written(runner: Runner, tiny_bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", noise((1, 3, 32, 32)))
    done = run(runner, tiny_bundle, "--input", tmp_path / "x.npy", "--output", tmp_path / "no" / "y.npy")
    assert done.returncode == 1 and "cannot be written; give --output" in done.stderr


@pytest.mark.parametrize("threads", [-1, 0, 10_000])
def test_thread_count_that_cannot_be(runner: Runner, tiny_bundle: Path, threads: int) -> None:
    with pytest.raises(BundleError, match=rf"^--threads {threads}: expected .*from [01]"):
        run_bundle(runner, tiny_bundle, threads=threads)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected the directory of a bundle"),
        (["a", "b"], "b: expected one bundle"),
        (["a", "--fast"], "unknown option --fast"),
        (["a", "--runs"], "--runs: expected a value"),
        (["a", "--runs", "many"], "expected a number"),
        (["a", "--threads", "1.5"], "expected a whole number"),
        (["a", "--min-time", "nan"], "expected a number"),
        (["a", "--input", "x.npy"], "expected both"),
        (["a", "--input", "x.npy", "--output", "y.npy", "--runs", "1"], "not timed"),
    ],
)
def test_wrong_options(runner: Runner, options: list[str], message: str) -> None:
    done = run(runner, *options)
    assert done.returncode == 2 and message in done.stderr.splitlines()[0] and "usage:" in done.stderr


# The process around it.


def script(path: Path, text: str) -> Runner:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return Runner(path)


def test_timeout(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"was stopped: expected to end within 0.1 s"):
        run_bundle(script(tmp_path / "slow", "exec sleep 600"), tiny_bundle, timeout_s=0.1)


def test_death_by_signal(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="died of SIGILL"):
        run_bundle(script(tmp_path / "dies", "kill -ILL $$"), tiny_bundle)


def test_status_of_its_own(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="ended with status 255: no such interpreter"):
        run_bundle(script(tmp_path / "odd", "echo no such interpreter >&2; exit 255"), tiny_bundle)


def test_under_an_emulator_features_are_not_looked_at(runner: Runner, broken: Path) -> None:
    edit_manifest(broken, lambda data: data["target"].update(features=["sse9"]))
    assert run_bundle(Runner(runner.program, ("env",)), broken).passed


def test_missing_tools_name_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match=r"no-such-g\+\+: not found: .*apt-get install g-plus-plus$"):
        build_runner(HERE, "no-such-g++", "g-plus-plus")
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if name == "cmake" else real(name, path=path))
    with pytest.raises(BuildError, match=r"cmake: not found: .*pip install cmake"):
        build_runner(HERE, "c++", "g++")


def test_machine_without_a_toolchain_file() -> None:
    with pytest.raises(BuildError, match=rf"cannot be built for riscv64-linux-gnu here: .*known: {ARM}"):
        build_runner("riscv64-linux-gnu", "c++", "g++")


def test_failed_build_leaves_nothing(empty_cache: Path, tmp_path: Path) -> None:
    compiler = script(tmp_path / "bad-c++", 'test "$1" = --version && exec c++ --version; echo error: no >&2; exit 1')
    with pytest.raises(BuildError, match=r"building effgen-run .* failed: .*error"):
        build_runner(HERE, str(compiler.program), "g++")
    assert [path.suffix for path in empty_cache.iterdir()] == [".lock"]


# The cache.


def test_cached_folder_is_made_once_by_several_processes(empty_cache: Path) -> None:
    code = """
import os, time
from effgen.deploy.native.cache import cached_folder

def fill(folder):
    with open(os.environ["XDG_CACHE_HOME"] + "/log", "a") as log:
        log.write("made\\n")
    time.sleep(0.2)
    (folder / "whole").touch()

assert (cached_folder("x", fill) / "whole").exists()
"""
    empty_cache.mkdir(parents=True)
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (empty_cache.parent / "log").read_text() == "made\n"


def test_what_a_killed_process_left_is_not_used(empty_cache: Path) -> None:
    (empty_cache / "x.partial").mkdir(parents=True)
    (empty_cache / "x.partial" / "half").touch()
    assert list(cached_folder("x", lambda folder: None).iterdir()) == []


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BuildError, match=r"cannot be written: .*; set XDG_CACHE_HOME"):
        cached_folder("x", lambda folder: None)


# TVM's libraries.


def elf(machine: int) -> bytes:
    return b"\x7fELF".ljust(18, b"\0") + machine.to_bytes(2, "little")


def wheel(folder: Path, name: str, member: str, content: bytes) -> None:
    """A wheel that pip takes for the pinned version's, with one file in it."""
    stem = f"{name.replace('-', '_')}-{version(name)}"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{stem}-py3-none-manylinux_2_28_aarch64.whl", "w") as archive:
        archive.writestr(member, content)
        archive.writestr(
            f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version(name)}\n"
        )
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    return tmp_path / "links"


def test_libraries_of_this_machine_are_the_installed_ones() -> None:
    assert [path.name for path in runtime_libraries(platform.machine())] == ["libtvm_runtime.so", "libtvm_ffi.so"]


def test_libraries_out_of_wheels(wheels: Path, empty_cache: Path) -> None:
    wheel(wheels, "apache-tvm", "tvm/lib/libtvm_runtime.so", elf(183) + b"runtime")
    wheel(wheels, "apache-tvm-ffi", "tvm_ffi/lib/libtvm_ffi.so", elf(183) + b"ffi")
    runtime, ffi = runtime_libraries("aarch64")
    assert (runtime.read_bytes()[20:], ffi.read_bytes()[20:]) == (b"runtime", b"ffi")
    assert {path.name for path in runtime.parent.iterdir()} == {"libtvm_runtime.so", "libtvm_ffi.so"}
    shutil.rmtree(wheels)
    assert runtime_libraries("aarch64") == (runtime, ffi)


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("tvm/lib/libtvm_runtime.so", elf(62), "is not for aarch64"),
        ("tvm/lib/other.so", elf(183), "cannot be used: .*no item named"),
    ],
)
def test_libraries_out_of_odd_wheels(
    wheels: Path, empty_cache: Path, member: str, content: bytes, message: str
) -> None:
    wheel(wheels, "apache-tvm", member, content)
    wheel(wheels, "apache-tvm-ffi", "tvm_ffi/lib/libtvm_ffi.so", elf(183))
    with pytest.raises(BuildError, match=message):
        runtime_libraries("aarch64")
    assert [path.suffix for path in empty_cache.iterdir()] == [".lock"]


def test_libraries_without_a_network(wheels: Path, empty_cache: Path) -> None:
    wheels.mkdir()
    with pytest.raises(
        BuildError, match=r"run `pip download .*apache-tvm==.*PIP_FIND_LINKS.*pip says: ERROR"
    ) as caught:
        runtime_libraries("aarch64")
    assert "\n" not in str(caught.value)


def test_libraries_of_an_unknown_architecture() -> None:
    with pytest.raises(BuildError, match="no TVM runtime for the architecture riscv64: known: aarch64, x86_64"):
        runtime_libraries("riscv64")
