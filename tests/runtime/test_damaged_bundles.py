"""Bundles that were damaged or made up: refused in one line before anything of them runs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import damage
import pytest
from hypothesis import given
from hypothesis import strategies as st

import effgen
from effgen.errors import BundleError
from effgen.machines.detection import host_triple
from effgen.runtime import read_manifest


@pytest.fixture
def broken(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be damaged."""
    return shutil.copytree(tiny_bundle, tmp_path / "broken")


def edit_manifest(bundle: Path, **changes: Any) -> None:
    """A manifest that says something else and knows it: its digest is right."""
    (bundle / "manifest.json").write_text(replace(read_manifest(bundle), **changes).to_json())


@pytest.mark.parametrize("name", ["lib.so", "weights.bin", "model.onnx", "golden.npz"])
def test_flipped_byte(broken, name):
    data = bytearray((broken / name).read_bytes())
    data[len(data) // 2] ^= 1
    (broken / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name}: SHA-256 is .* was changed"):
        effgen.load(broken)


def test_missing_file(broken):
    (broken / "lib.so").unlink()
    with pytest.raises(BundleError, match=r"lib\.so: missing"):
        effgen.load(broken)


def test_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="no bundle here"):
        effgen.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format_version": 99}', "99: written by a newer effgen, this one reads .*; upgrade effgen"),
        ('{"format_version": 1}', "= 1: this effgen reads .*; compile it again"),
        ('{"format_version": "4"}', "= '4': this effgen reads .*; compile it again"),
        ('{"format_version": 1e400}', "= inf: this effgen reads"),
    ],
)
def test_manifest_of_another_format(broken, text, message):
    (broken / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=message):
        effgen.load(broken)


@pytest.mark.parametrize("text", ["{", "[]", "null", "[" * 100_000, "\0", "1" * 10_000])
def test_manifest_that_is_none(broken, text):
    (broken / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json: "):
        effgen.load(broken)


def test_any_flipped_byte_of_the_manifest(broken):
    path = broken / "manifest.json"
    data = path.read_bytes()
    for position in range(0, len(data), 97):
        flipped = bytearray(data)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(BundleError, match=r"manifest\.json"):
            read_manifest(broken)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threads": "two"}, "threads = 'two': expected int"),
        ({"files": {"../lib.so": "0"}}, "no hash of"),
        (
            {"files": {"lib.so": "0", "weights.bin": "0", "model.onnx": "0", "golden.npz": "0", "../x": "0"}},
            "SHA-256|plain file name",
        ),
        ({"target": {"name": "other", "llvm": {"mtriple": host_triple()}, "features": ["avx1024"]}}, "lacks avx1024"),
        (
            {"target": {"name": "far", "llvm": {"mtriple": "riscv64-linux-gnu"}, "features": []}},
            "compiled for far, whose processor is riscv64; this one is ",
        ),
    ],
)
def test_manifest_that_lies(broken, changes, message):
    edit_manifest(broken, **changes)
    with pytest.raises(BundleError, match=message):
        effgen.load(broken)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["name"], 5, r"name = 5: expected str"),
        (["network", "phi"], [], r"network.phi = \[\]: expected a finite number"),
        (["network", "onnx"], {"layout": "NXYZ"}, r"network.onnx.layout = 'NXYZ': expected NCHW or NHWC"),
        (["target", "name"], None, r"target.name = None: expected str"),
        (["target", "llvm"], "x86", r"target.llvm = 'x86': expected dict"),
        (["target", "llvm"], {}, r"target.llvm.mtriple = None: expected str"),
        (["target", "llvm", "mtriple"], "../x", r"target.llvm.mtriple = '../x': expected an LLVM triple"),
        (["target", "features"], "avx2", r"target.features = 'avx2': expected list"),
        (["target", "features"], [1], r"target.features\[0\] = 1: expected str"),
        (
            ["target", "emulator"],
            {"command": [], "package": "x"},
            r"target.emulator.command = \[\]: expected a list of",
        ),
        (["device"], {}, r"device.kind = None: expected str"),
        (["device", "kind"], "tpu", r"device.kind = 'tpu': expected cpu or cuda; compile the bundle again"),
        (["device", "kind"], "cuda", r"device.archs = None: expected list"),
        (["files", "lib.so"], 5, r"files\['lib.so'\] = 5: expected str"),
        (["files", "x" * 300], "0", r"x: cannot be read: File name too long"),
        (["input", "shape"], [1, 3, 32], r"input.shape = \[1, 3, 32\]: expected a list of 4"),
        (["input", "shape"], [1, 3, -32, 32], r"input.shape\[2\] = -32: expected a whole number from 1"),
        (["input", "shape"], [1, 3, 2**16, 2**16], r"input.shape = .*: expected a shape of at most"),
        (
            ["input", "shape"],
            [1, 3, 33, 32],
            r"lib.so: takes an array image of 3072 numbers, the bundle has one of 3168",
        ),
        (["input", "mean"], [0.5], r"input.mean = \[0.5\]: expected a number for each of the 3 channels"),
        (["input", "std"], [0.5, 0, 1], r"input.std\[1\] = 0: expected a number other than 0"),
        (["outputs", 0, "shape"], [1, 10.0], r"outputs\[0\].shape\[1\] = 10.0: expected int"),
        (["outputs", 0, "shape"], [2, 10], r"outputs\[0\].shape = \[2, 10\]: expected the batch of the input first"),
        (["outputs", 0, "shape"], [1, 9], r"lib.so: takes an array logits of 10 numbers, the bundle has one of 9"),
        (
            ["outputs", 0, "shape"],
            [1, 2**31],
            r"lib.so: takes an array logits of 10 numbers, the bundle has one of 2147483648",
        ),
        (["outputs", 0, "start"], 4, r"outputs\[0\].start = 4: expected a multiple of 64"),
        (["outputs", 0], [], r"outputs\[0\] = \[\]: expected dict"),
        (["kernels", 0, "family"], None, r"kernels\[0\].family = None: expected str"),
        (["steps"], [], r"lib.so: takes an array clock of 32 numbers, the bundle has one of 2:"),
        (["threads"], 0, r"threads = 0: expected a whole number from 1"),
        (["threads"], True, r"threads = True: expected int"),
        (["dtype"], "int8", r"dtype = 'int8': expected float32 or float16"),
        (["workspace_bytes"], -4, r"workspace_bytes = -4: expected a multiple of 4 from 0"),
        (["workspace_bytes"], 4, r"lib.so: takes an array workspace of \d+ numbers, the bundle has one of 1:"),
        (["workspace_bytes"], 2**62, r"workspace_bytes = 46.*: expected a multiple of 4 from 0"),
        (
            ["standalone"],
            {"name": "x", "header": "lib.so", "shared": "../x.so", "static": "lib.so"},
            r"standalone.shared = '../x.so': expected one of the files",
        ),
        (["standalone"], {"name": ["x"]}, r"standalone.name = \['x'\]: expected str"),
        (["standalone"], {"name": "x;y"}, r"standalone.name = 'x;y': expected a name in C"),
        (["tolerance"], {}, r"tolerance.rel_l2 = None: expected float"),
        (["tolerance", "rel_l2"], float("nan"), r"tolerance.rel_l2 = nan: expected a finite number"),
    ],
)
def test_manifest_that_was_made_up(broken, keys, value, message):
    """Its digest is right; a program wrote it that knows little of bundles."""

    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    damage.edit_manifest(broken, change)
    with pytest.raises(BundleError, match=message) as caught:
        effgen.load(broken)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["lib.so", "weights.bin"])
def test_link_that_leaves_the_bundle(broken, tmp_path, name):
    (broken / name).rename(tmp_path / name)
    (broken / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError, match=rf"{name}: is a symbolic link that leaves the bundle"):
        effgen.load(broken)
    (broken / name).unlink()
    (tmp_path / name).rename(broken / "real")
    (broken / name).symlink_to("real")
    (tmp_path / "alias").symlink_to(broken)
    effgen.load(tmp_path / "alias")


def test_files_that_nobody_listed_are_not_looked_at(broken):
    (broken / "roofline.png").write_text("mine")
    effgen.load(broken)


def test_library_with_the_right_hash_that_is_none(broken):
    (broken / "lib.so").write_text("no library")
    damage.seal(broken)
    with pytest.raises(BundleError, match=r"lib\.so: cannot be loaded: .*; compile the bundle again") as caught:
        effgen.load(broken)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.999])
def test_library_that_is_cut_short_though_its_hash_is_right(broken, share):
    """The dynamic loader would map what is not there."""
    path = broken / "lib.so"
    damage.truncate(path, int(path.stat().st_size * share))
    damage.seal(broken)
    with pytest.raises(BundleError, match=r"lib\.so: cannot be loaded: truncated; compile the bundle again"):
        effgen.load(broken)


@pytest.mark.parametrize(
    ("at", "size", "value", "message"),
    [
        (4, 1, 1, "no shared library of 64 bits"),
        (16, 2, 1, "no shared library"),  # an object file's kind
        (18, 2, 243, "is for another processor, not for"),
        (32, 8, 2**63, "truncated"),  # e_phoff
        (40, 8, 2**64 - 8, "truncated"),  # e_shoff
        (54, 2, 1, "no shared library"),  # e_phentsize
        (56, 2, 0, "no shared library that can be loaded"),  # e_phnum
        (56, 2, 0xFFFF, "truncated"),
        (60, 2, 0xFFFF, "truncated"),  # e_shnum
    ],
)
def test_library_with_odd_headers(broken, at, size, value, message):
    path = broken / "lib.so"
    data = bytearray(path.read_bytes())
    data[at : at + size] = value.to_bytes(size, "little")
    path.write_bytes(data)
    damage.seal(broken)
    with pytest.raises(BundleError, match=rf"lib\.so: cannot be loaded: {message}"):
        effgen.load(broken)


@pytest.mark.parametrize("size", [0, 4096, 4097])
def test_weights_that_are_short(broken, size):
    damage.truncate(broken / "weights.bin", size)
    damage.seal(broken)
    with pytest.raises(
        BundleError, match=rf"takes an array weights of \d+ numbers, the bundle has one of {size // 4}:"
    ):
        effgen.load(broken)


def test_weights_that_are_no_whole_floats(broken):
    with (broken / "weights.bin").open("ab") as file:
        file.write(b"x")
    damage.seal(broken)
    with pytest.raises(BundleError, match=r"weights\.bin: \d+ bytes: expected whole floats"):
        effgen.load(broken)


def test_library_without_the_functions(broken):
    damage.compile_library("int other;", broken / "lib.so")
    damage.seal(broken)
    with pytest.raises(BundleError, match=r"lib\.so: has no function run_on; compile the bundle again"):
        effgen.load(broken)


def test_manifest_beyond_its_limits(broken):
    (broken / "manifest.json").write_bytes(b" " * (16 << 20) + b"{}")
    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read as JSON: larger than 16 MiB"):
        effgen.load(broken)
    (broken / "manifest.json").unlink()
    (broken / "manifest.json").mkdir()
    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read"):
        effgen.load(broken)


@pytest.mark.parametrize("threads", [-1, 0, 10**9, 1.0, "1", True])
def test_twin_with_threads_that_cannot_be(tiny_bundle, threads):
    model = effgen.load(tiny_bundle, threads=1)
    with pytest.raises(BundleError, match=r"threads = .*: expected a whole number from 1 to 1"):
        model.twin(threads)
    assert model.twin().threads == model.twin(1).threads == 1


def test_temporary_folder_that_others_may_write_to(tiny_bundle, tmp_path, monkeypatch):
    tmp_path.chmod(0o777)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(
        BundleError, match=r"others may write to it \(mode 777\): .*; set TMPDIR to a folder of your own"
    ):
        effgen.load(tiny_bundle)
    tmp_path.chmod(0o1777)  # as /tmp is
    effgen.load(tiny_bundle)


def same_json(data: bytes, path: Path) -> bool:
    """Whether only white space, or digits beyond a number's precision, were changed."""
    try:
        return bool(json.loads(data) == json.loads(path.read_text()))
    except ValueError:
        return False


@given(where=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255), cut=st.booleans())
def test_any_damage_to_any_file(tiny_bundle, tmp_path_factory, where, mask, cut):
    folder = tmp_path_factory.mktemp("damaged") / "bundle"
    shutil.copytree(tiny_bundle, folder)
    for name in ("manifest.json", "lib.so", "weights.bin", "golden.npz"):
        data = bytearray((tiny_bundle / name).read_bytes())
        position = int(where * len(data))
        if cut:
            del data[position:]
        else:
            data[position] ^= mask
        (folder / name).write_bytes(data)
        if name != "manifest.json" or not same_json(data, tiny_bundle / name):
            with pytest.raises(BundleError, match=name) as caught:
                effgen.load(folder)
            assert "\n" not in str(caught.value)
        (folder / name).write_bytes((tiny_bundle / name).read_bytes())
    shutil.rmtree(folder)
