"""`model.classify`: the classes that the logits of the prepared picture say, for one picture or many."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, pixels, write_picture
from PIL import Image

import effgen
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BundleError, ImageError
from effgen.network import NetworkRequest
from effgen.runtime import Prediction
from effgen.runtime.classify import top_predictions

NAMES = [f"thing {number}" for number in range(10)]


@pytest.fixture(scope="module")
def labelled(tiny_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network for three images a call, with labels."""
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "names.txt").write_text("\n".join(NAMES))
    request = NetworkRequest(spec=str(tiny_spec), batch=3)
    compile_bundle(CompileRequest(request, folder / "bundle", labels=str(folder / "names.txt")))
    return folder / "bundle"


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits.astype(np.float64))
    return shares / shares.sum()


def test_top_of_the_logits(tiny_bundle: Path) -> None:
    model = effgen.load(tiny_bundle)
    picture = pixels()
    shares = softmax(model(model.preparation(picture)[None])[0])
    found = model.classify(picture, top=4)
    assert [p.index for p in found] == list(np.argsort(-shares)[:4])
    assert [p.label for p in found] == [str(p.index) for p in found]
    np.testing.assert_allclose([p.probability for p in found], sorted(shares, reverse=True)[:4], rtol=1e-6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found[0].label = "x"  # type: ignore[misc]


def test_all_classes_make_one(tiny_bundle: Path) -> None:
    found = effgen.load(tiny_bundle).classify(pixels(), top=99)
    assert len(found) == 10
    assert sum(p.probability for p in found) == pytest.approx(1)


def test_any_kind_of_picture(tiny_bundle: Path, tmp_path: Path) -> None:
    model = effgen.load(tiny_bundle)
    path = write_picture(tmp_path / "a.png")
    expected = model.classify(pixels())
    assert isinstance(expected[0], Prediction)
    for same in (path, str(path), path.read_bytes(), Image.open(path)):
        assert model.classify(same) == expected


def test_a_list_gives_a_list_in_groups_of_the_batch(labelled: Path) -> None:
    model = effgen.load(labelled)
    pictures = [pixels(seed=seed) for seed in range(7)]
    found = model.classify(pictures, top=10)
    assert len(found) == 7
    for picture, ours in zip(pictures, found, strict=True):
        shares = softmax(model(np.stack([model.preparation(picture)] * 3))[0])
        np.testing.assert_allclose([p.probability for p in ours], [shares[p.index] for p in ours], rtol=1e-5)
        assert [p.label for p in ours] == [NAMES[p.index] for p in ours]
    assert model.classify(tuple(pictures), top=10) == found
    assert model.classify([]) == []
    assert model.classify(pictures[0], top=10) == found[0]


def test_labels_of_ones_own(tiny_bundle: Path) -> None:
    model = effgen.load(tiny_bundle)
    model.labels = tuple(NAMES)
    assert model.classify(pixels(), top=1)[0].label.startswith("thing ")


def test_labels_are_hashed_and_checked(labelled: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(labelled, tmp_path / "broken")
    (broken / "labels.txt").write_text("other\n" * 10)
    with pytest.raises(BundleError, match=r"labels\.txt: SHA-256"):
        effgen.load(broken)


def test_errors_name_the_picture(tiny_bundle: Path, tmp_path: Path) -> None:
    model = effgen.load(tiny_bundle)
    with pytest.raises(ImageError, match=r"none\.png: cannot be read"):
        model.classify([pixels(), str(tmp_path / "none.png")])
    with pytest.raises(ImageError, match="top = 0: expected at least 1"):
        model.classify(pixels(), top=0)


def test_an_output_that_is_no_answer(tiny_bundle: Path) -> None:
    model = effgen.load(tiny_bundle)
    with pytest.raises(BundleError, match="output is not finite"):
        model.predictions(np.full((1, 3, 32, 32), np.nan, np.float32), 1)


def test_ties_and_extremes() -> None:
    found = top_predictions(np.float32([1000, -1000, 1000]), 2, None)
    assert found == [Prediction(0, "0", 0.5), Prediction(2, "2", 0.5)]


def test_twins_share_weights_and_run_at_once(tiny_bundle: Path) -> None:
    model = effgen.load(tiny_bundle)
    twins = [model.twin(threads=1) for _ in range(3)]
    assert {id(twin._weights) for twin in twins} == {id(model._weights)}
    assert {twin.threads for twin in twins} == {1}
    pictures = [pixels(seed=seed) for seed in range(3)]
    expected = [model.classify(picture, top=10) for picture in pictures]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(30):
            if twins[index].classify(pictures[index], top=10) != expected[index]:
                wrong.append(index)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    assert twins[0].trace(model.preparation(pictures[0])[None]).shape == model._clock[:, 0].shape


def test_twins_of_one_lock_each(tiny_bundle: Path) -> None:
    """A twin does not wait for its model's turn."""
    model = effgen.load(tiny_bundle)
    twin = model.twin()
    expected = model.classify(pixels())
    with model._one_call.taken():
        assert twin.classify(pixels()) == expected


def test_first_answer_needs_neither_torch_nor_onnx_nor_the_command_line(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(pixels(), "JPEG"))
    code = (
        "import sys, effgen; model = effgen.load(sys.argv[1]); assert 'PIL' not in sys.modules;"
        "print(model.classify(sys.argv[2])[0].index);"
        "print(sorted({'torch', 'onnx', 'tvm', 'typer', 'pydantic', 'rich', 'timm', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, tiny_bundle, path], capture_output=True, text=True, check=True)
    index, loaded = done.stdout.splitlines()
    assert int(index) == effgen.load(tiny_bundle).classify(path)[0].index
    assert loaded == "[]"
