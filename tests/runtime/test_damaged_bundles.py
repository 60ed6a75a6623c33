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
        (["target", "name"], None, r"target.name = None: expected str"),
        (["target", "llvm"], "x86", r"target.llvm.mtriple = None: expected str"),
        (["target", "features"], "avx2", r"target.features = 'avx2': expected list"),
        (["target", "features"], [1], "files, features or steps: expected text"),
        (["device"], {}, r"device.kind = None: expected str"),
        (["device", "kind"], "tpu", r"device.kind = 'tpu': expected cpu or cuda; compile the bundle again"),
        (["files", "lib.so"], 5, "files, features or steps: expected text"),
        (["input", "shape"], [1, 3, 32], "shapes, threads or workspace_bytes make no sense"),
        (["input", "shape"], [1, 3, -32, 32], "shapes, threads or workspace_bytes make no sense"),
        (["outputs", 0, "shape"], [1, 10.0], r"output logits: shape \[1, 10.0\] makes no sense"),
        (["outputs", 0, "shape"], [2, 10], r"output logits: shape \[2, 10\] makes no sense"),
        (["outputs", 0, "start"], 4, "outputs: .*: expected name, shape and start"),
        (["outputs"], [], r"outputs: there is none"),
        (["threads"], 0, "shapes, threads or workspace_bytes make no sense"),
        (["workspace_bytes"], -4, "shapes, threads or workspace_bytes make no sense"),
        (
            ["standalone"],
            {"name": "x", "shared": "../x.so"},
            r"standalone.shared = '../x.so': expected one of the files",
        ),
        (["standalone"], {"name": ["x"]}, r"standalone.name = \['x'\]: expected one of the files"),
        (["tolerance"], {}, r"tolerance.rel_l2 = None: expected float"),
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
