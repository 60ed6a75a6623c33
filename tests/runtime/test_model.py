"""A loaded bundle: the same answer on any number of threads, for any memory, and at once."""

import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest

import effgen
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BundleError
from effgen.judge.case import golden_pair, relative_l2
from effgen.machines.processor import usable_cpus
from effgen.network import NetworkRequest
from effgen.runtime import read_manifest


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


def test_manifest_facts(tiny_bundle):
    manifest = read_manifest(tiny_bundle)
    assert manifest.network["weights"] == {"origin": "seed", "seed": 0}
    assert manifest.network["norm_eps"] == 1e-5
    assert manifest.input["shape"] == [1, 3, 32, 32]
    assert (manifest.classes, manifest.output_names) == (10, ["logits"])
    assert set(manifest.files) == {"lib.so", "weights.bin", "model.onnx", "golden.npz"}
    assert manifest.workspace_bytes > 0
    assert all(kernel["source"] != "fallback" for kernel in manifest.kernels if "conv" in kernel["name"])
    assert Counter(manifest.steps) == {kernel["name"]: kernel["calls"] for kernel in manifest.kernels}


def test_loads_without_torch_onnx_or_compiler(tiny_bundle):
    code = (
        "import sys, effgen; model = effgen.load(sys.argv[1]); import numpy as np;"
        "model(np.zeros((1, 3, 32, 32), np.float32));"
        "print(sorted({'torch', 'onnx', 'tvm', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, tiny_bundle], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_image_that_is_no_array(tiny_bundle):
    with pytest.raises(BundleError, match="a list: this bundle takes a numpy array"):
        effgen.load(tiny_bundle)([1, 2])


@pytest.mark.parametrize("threads", [0, -1, 10_000, 1.5])
def test_thread_count_that_cannot_be(tiny_bundle, threads):
    with pytest.raises(BundleError, match="expected a whole number from 1 to"):
        effgen.load(tiny_bundle, threads=threads)
