"""Loading and running bundles: what a bundle promises, and every way in which one can be broken."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import damage
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import effgen
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BundleError
from effgen.judge.case import golden_pair, relative_l2
from effgen.machines.cpu import usable_cpus
from effgen.machines.detection import host_triple
from effgen.network import NetworkRequest
from effgen.runtime import read_manifest


@pytest.fixture
def broken(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be damaged."""
    return shutil.copytree(tiny_bundle, tmp_path / "broken")


def edit_manifest(bundle: Path, **changes: Any) -> None:
    """A manifest that says something else and knows it: its digest is right."""
    (bundle / "manifest.json").write_text(replace(read_manifest(bundle), **changes).to_json())


def test_golden_pair(tiny_bundle):
    model = effgen.load(tiny_bundle)
    image, expected = golden_pair(tiny_bundle)
    assert relative_l2(model(image), expected) <= 1e-5


def test_same_answer_on_any_thread_count_and_twice(tiny_bundle):
    image, _ = golden_pair(tiny_bundle)
    one, many = effgen.load(tiny_bundle, threads=1), effgen.load(tiny_bundle, threads=len(usable_cpus()))
    assert (one.threads, many.threads) == (1, len(usable_cpus()))
    first = one(image)
    np.testing.assert_array_equal(many(image), first)
    np.testing.assert_array_equal(one(image), first)


def test_bundle_compiled_again_in_its_place(tiny_spec, tmp_path):
    """The dynamic loader must not hand out the library that it has loaded from this path before."""
    loaded = []  # the first stays loaded while the second is
    for seed in (1, 2):
        request = CompileRequest(NetworkRequest(spec=str(tiny_spec)), tmp_path / "b", seed=seed, force=True)
        compile_bundle(request)
        loaded.append(effgen.load(tmp_path / "b"))
        image, expected = golden_pair(tmp_path / "b")
        assert relative_l2(loaded[-1](image), expected) <= 1e-5


def test_output_belongs_to_the_caller(tiny_bundle):
    model = effgen.load(tiny_bundle)
    image, _ = golden_pair(tiny_bundle)
    first = model(image)
    kept = first.copy()
    model(image * 2)
    np.testing.assert_array_equal(first, kept)


def test_nan_comes_through(tiny_bundle):
    model = effgen.load(tiny_bundle)
    image, _ = golden_pair(tiny_bundle)
    image[0, 1, 5, 5] = np.nan
    assert np.isnan(model(image)).any()
    assert np.isfinite(model(golden_pair(tiny_bundle)[0])).all()


def test_non_contiguous_image(tiny_bundle):
    model = effgen.load(tiny_bundle)
    image, _ = golden_pair(tiny_bundle)
    turned = np.ascontiguousarray(image.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    np.testing.assert_array_equal(model(turned), model(image))


def test_calls_from_several_threads(tiny_bundle):
    model = effgen.load(tiny_bundle)
    image, _ = golden_pair(tiny_bundle)
    expected = {scale: model(image * np.float32(scale)) for scale in (1, 2, 3)}
    wrong: list[float] = []

    def work(scale: float) -> None:
        for _ in range(20):
            if not np.array_equal(model(image * np.float32(scale)), expected[scale]):
                wrong.append(scale)

    workers = [threading.Thread(target=work, args=(scale,)) for scale in expected]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.parametrize(
    "image", [np.zeros((1, 3, 32, 31), np.float32), np.zeros((2, 3, 32, 32), np.float32), np.zeros((1, 3, 32, 32))]
)
def test_wrong_image(tiny_bundle, image):
    with pytest.raises(BundleError, match=r"this bundle takes float32\[1, 3, 32, 32\]"):
        effgen.load(tiny_bundle)(image)


def test_any_memory_will_do(tiny_bundle):
    """An image is not copied where it need not be; read-only, in another order or at an odd address it is right."""
    model = effgen.load(tiny_bundle)
    image, _ = golden_pair(tiny_bundle)
    expected = model(image)
    shifted = np.empty(image.size + 1, np.float32)[1:].reshape(image.shape)
    shifted[...] = image
    frozen = image.copy()
    frozen.setflags(write=False)
    for same in (shifted, frozen, np.asfortranarray(image), np.repeat(image, 2, axis=3)[..., ::2]):
        np.testing.assert_array_equal(model(same), expected)
        assert (np.diff(model.trace(same)) >= 0).all()


def test_threads_are_each_models_own(tiny_bundle):
    """TVM keeps one thread count for a Python thread, whatever models it calls."""
    models = [effgen.load(tiny_bundle, threads=count) for count in (1, 2)]
    asked = []
    for model in models:
        real = model._set_threads
        model._set_threads = lambda mode, count, real=real: (asked.append(count), real(mode, count))
    image, _ = golden_pair(tiny_bundle)
    for index in (0, 0, 1, 1, 0):
        models[index](image)
    assert asked == [1, 2, 1]


def test_manifest_facts(tiny_bundle):
    manifest = read_manifest(tiny_bundle)
    assert manifest.network["weights"] == {"origin": "seed", "seed": 0}
    assert manifest.network["norm_eps"] == 1e-5
    assert manifest.input["shape"] == [1, 3, 32, 32]
    assert manifest.output["shape"] == [1, 10]
    assert set(manifest.files) == {"lib.so", "weights.bin", "model.onnx", "golden.npz"}
    assert manifest.workspace_bytes > 0
    assert all(kernel["source"] != "fallback" for kernel in manifest.kernels if "conv" in kernel["name"])
    assert Counter(manifest.steps) == {kernel["name"]: kernel["calls"] for kernel in manifest.kernels}


def test_threads_stay_within_tvms_own_limit(tiny_bundle):
    code = "import sys, effgen; print(effgen.load(sys.argv[1]).threads); effgen.load(sys.argv[1], threads=2)"
    command = [sys.executable, "-c", code, tiny_bundle]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TVM_NUM_THREADS": "1"})
    assert done.stdout == "1\n"
    assert "threads = 2: expected a whole number from 1 to 1" in done.stderr


def test_loads_without_torch_onnx_or_compiler(tiny_bundle):
    code = (
        "import sys, effgen; model = effgen.load(sys.argv[1]); import numpy as np;"
        "model(np.zeros((1, 3, 32, 32), np.float32));"
        "print(sorted({'torch', 'onnx', 'tvm', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, tiny_bundle], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
        (["output", "shape"], [1, 10.0], "shapes, threads or workspace_bytes make no sense"),
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


def test_image_that_is_no_array(tiny_bundle):
    with pytest.raises(BundleError, match="a list: this bundle takes a numpy array"):
        effgen.load(tiny_bundle)([1, 2])


@pytest.mark.parametrize("threads", [0, -1, 10_000, 1.5])
def test_thread_count_that_cannot_be(tiny_bundle, threads):
    with pytest.raises(BundleError, match="expected a whole number from 1 to"):
        effgen.load(tiny_bundle, threads=threads)
