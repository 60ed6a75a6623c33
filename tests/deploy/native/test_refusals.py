"""What `effgen-run` refuses, in one line: bundles, images and options."""

import json
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import edit_manifest, flip, seal, truncate
from native_runner import run
from networks import noise

from effgen.deploy.native import Runner, run_bundle, run_images
from effgen.errors import BundleError
from effgen.judge.case import golden_pair


def for_arm(bundle: Path) -> None:
    data = bytearray((bundle / "lib.so").read_bytes())
    data[18:20] = (183 if platform.machine() == "x86_64" else 62).to_bytes(2, "little")
    (bundle / "lib.so").write_bytes(data)


def put(path: Path, position: int, value: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[position : position + len(value)] = value
    path.write_bytes(data)


def extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


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
        (lambda b: truncate(b / "lib.so", (b / "lib.so").stat().st_size - 1), "lib.so: truncated"),
        (lambda b: put(b / "lib.so", 56, b"\xff\xff"), "lib.so: truncated"),  # e_phnum
        (lambda b: put(b / "lib.so", 40, b"\xff" * 8), "lib.so: truncated"),  # e_shoff
        (lambda b: put(b / "lib.so", 16, b"\1"), "lib.so: no shared library"),  # e_type
        (lambda b: (b / "weights.bin").unlink(), "weights.bin: missing from the bundle"),
        (
            lambda b: truncate(b / "weights.bin", 4098),
            r"takes an array weights of \d+ numbers, the bundle has one of 1024",
        ),
        (lambda b: extend(b / "weights.bin"), r"\d+ bytes: expected whole floats"),
        (
            lambda b: edit_manifest(b, lambda d: d.update(workspace_bytes=4)),
            "array workspace of .*, the bundle has one of 1",
        ),
        (lambda b: edit_manifest(b, lambda d: d.update(workspace_bytes=1 << 40)), "workspace_bytes: makes no sense"),
        (lambda b: edit_manifest(b, lambda d: d["input"].update(shape=[1, 3, 33, 32])), "array image of 3072 numbers"),
        (
            lambda b: edit_manifest(b, lambda d: d["outputs"][0].update(shape=[1, 1 << 30])),
            "array logits of 10 numbers",
        ),
        (
            lambda b: edit_manifest(b, lambda d: d["outputs"][0].update(shape=[1, 1 << 31, 2])),
            "outputs: shape: makes no sense",
        ),
        (
            lambda b: edit_manifest(b, lambda d: d["steps"].pop()),
            r"takes an array clock of \d+ numbers, the bundle has one of \d+:",
        ),
        (lambda b: edit_manifest(b, lambda d: d["tolerance"].update(rel_l2=-1.0)), "tolerance: makes no sense"),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "cannot be read as JSON"),
        ('{"a":' * 200_000, "cannot be read as JSON"),
        ('{"a":' + "[" * 40 + "]" * 40 + "}", "cannot be read as JSON"),
        (" " * (16 << 20) + "{}", "larger than 16 MiB"),
        ("", "cannot be read as JSON"),
    ],
)
def test_manifest_beyond_its_limits(runner: Runner, broken: Path, text: str, message: str) -> None:
    """Before the reader that recurses sees any of it."""
    (broken / "manifest.json").write_text(text)
    done = run(runner, broken)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and message in done.stderr


def test_names_that_would_command_the_terminal(runner: Runner, broken: Path) -> None:
    evil = "evil\x1b[2J\x9b\u202e\nrow"
    edit_manifest(broken, lambda data: data.update(name=evil, steps=[evil] * len(data["steps"])))
    edit_manifest(broken, lambda data: data["target"].update(name=evil))
    done = run(runner, broken, "--runs", 1, "--min-time", 0, "--layers")
    assert done.returncode == 0 and r"model      evil\x1b[2J\xc2\x9b\xe2\x80\xae\x0arow" in done.stdout
    edit_manifest(broken, lambda data: data["target"].update(features=[evil]))
    refused = run(runner, broken)
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    for text in (done.stdout, done.stderr, refused.stderr):
        assert not {"\x1b", "\x9b", "\u202e"} & set(text)


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


@pytest.mark.parametrize("options", [["--json"], [], ["--help"]])
def test_standard_output_that_cannot_be_written(options: list[str], runner: Runner, tiny_bundle: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [runner.program, tiny_bundle, "--runs", "1", "--min-time", "0", *options]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "effgen-run: standard output: cannot be written\n")
