"""`effgen eval`: a bundle over a folder of pictures."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import damage
import pytest
from commands import one_line
from pictures import write_picture

import effgen
from effgen.judge import evaluate
from effgen.runtime.manifest import LABELS, read_manifest, sha256_of

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def labelled(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Six pictures in the folders of the classes that the bundle takes them for, and one in that of another."""
    model = effgen.load(tiny_bundle)
    for seed in range(7):
        picture = write_picture(tmp_path / "made" / f"{seed}.png", seed)
        (best,) = model.classify(picture, top=1)
        number = best.index if seed < 6 else (best.index + 1) % 10
        folder = tmp_path / "data" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(picture, folder)
    return tmp_path / "data"


def report_of(run: Any, *words: object) -> dict[str, Any]:
    code, out, err = run("eval", *words, "--json", "-", "-q")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_labelled_folder(run: Any, tiny_bundle: Path, labelled: Path) -> None:
    code, out, err = run("eval", tiny_bundle, "--data", labelled)
    assert code == 0 and "top-1" in out and "85.71%" in out and "same best class" in out and "100.00%" in out, err
    assert "classes with most errors" in out and "folders are class numbers" in out
    found = report_of(run, tiny_bundle, "--data", labelled)
    assert (found["images"], found["matched"], found["agreement"]) == (7, "numbers", 1)
    assert found["found"]["top1"] == found["expected"]["top1"] == pytest.approx(6 / 7)
    assert 6 / 7 <= found["found"]["top5"] <= 1
    assert 0 < found["rel_l2"] <= found["worst_rel_l2"] < 1e-5 and found["worst_image"].endswith(".png")
    (worst,) = found["worst_classes"]
    (count,) = (one for one in found["by_class"] if one["index"] == worst)
    assert (count["errors"], count["times"], count["taken_for"]) == (1, 1, (worst - 1) % 10)
    assert sum(one["images"] for one in found["by_class"]) == 7


def test_groups_and_the_last_of_them(
    run: Any, tiny_bundle: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = report_of(run, tiny_bundle, "--data", labelled)
    monkeypatch.setattr(evaluate, "_AT_ONCE", 3)
    parts = report_of(run, tiny_bundle, "--data", labelled)
    for key in ("rel_l2", "worst_rel_l2"):  # PyTorch may choose other kernels for other batches
        assert parts.pop(key) < 1e-5 and whole.pop(key) < 1e-5
    del parts["worst_image"], whole["worst_image"]
    assert parts == whole
    assert report_of(run, tiny_bundle, "--data", labelled, "--images", "2")["images"] == 2


def test_the_bundles_labels_name_folders(run: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "b")
    (bundle / LABELS).write_text("\n".join(f"kind {number}" for number in range(10)) + "\n")
    manifest = read_manifest(bundle)
    files = {**manifest.files, LABELS: sha256_of(bundle / LABELS)}
    (bundle / "manifest.json").write_text(replace(manifest, files=files).to_json())
    write_picture(tmp_path / "data" / "kind 7" / "x.png")
    found = report_of(run, bundle, "--data", tmp_path / "data")
    assert (found["matched"], found["by_class"][0]["index"], found["by_class"][0]["name"]) == ("labels", 7, "kind 7")
    write_picture(tmp_path / "data" / "kidn 8" / "x.png")
    assert "kidn 8: not in the bundle's labels" in one_line(run("eval", bundle, "--data", tmp_path / "data", "-q"))


def test_pictures_without_classes(run: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "data" / "x.png")
    code, out, err = run("eval", tiny_bundle, "--data", tmp_path / "data")
    assert code == 0 and "top-1" not in out and "same best class" in out and "only agreement" in out, err
    found = report_of(run, tiny_bundle, "--data", tmp_path / "data")
    assert found["found"] is None and found["by_class"] == [] and found["agreement"] == 1


def test_what_codes_cost(run: Any, tiny_spec: Path, tiny_bundle: Path, labelled: Path, tmp_path: Path) -> None:
    """Beside its own codes a bundle is right to rounding, beside the float32 network it is not. What fills up its last
    batch is not counted."""
    file, bundle = tmp_path / "q.onnx", tmp_path / "q"
    assert run("quantize", "--spec", tiny_spec, "--batch", "3", "--data", labelled, "-o", file, "-q")[0] == 0
    assert run("compile", "--onnx", file, "-o", bundle, "-q")[0] == 0
    code, out, err = run("eval", bundle, "--data", labelled)
    assert code == 0 and "codes as in the bundle" in out and "what they cost is told by --against" in out, err
    own = report_of(run, bundle, "--data", labelled)
    other = report_of(run, bundle, "--data", labelled, "--against", tiny_bundle)
    assert own["images"] == other["images"] == 7 and own["agreement"] == 1
    assert own["codes"] and other["codes"] and other["against"] == str(tiny_bundle)
    assert other["rel_l2"] > 1e-3 and other["expected"]["top1"] == pytest.approx(6 / 7)
    assert "computes with codes, too" in one_line(
        run("eval", tiny_bundle, "--data", labelled, "--against", bundle, "-q")
    )


def test_what_is_refused(run: Any, tiny_bundle: Path, labelled: Path, tmp_path: Path) -> None:
    def refused(*words: object) -> str:
        return one_line(run("eval", *words, "-q"))

    assert "absent: does not exist" in refused(tiny_bundle, "--data", tmp_path / "absent")
    assert "no bundle here" in refused(tmp_path / "absent", "--data", labelled)
    assert "no bundle here" in refused(tiny_bundle, "--data", labelled, "--against", tmp_path / "absent")
    write_picture(tmp_path / "two" / "cat" / "x.png")
    write_picture(tmp_path / "two" / "dog" / "x.png")
    assert "2 folders (cat, dog): the network has 10 classes" in refused(tiny_bundle, "--data", tmp_path / "two")
    (labelled / "3").mkdir(exist_ok=True)
    (labelled / "3" / "broken.png").write_text("no picture")
    assert "broken.png: not a picture" in refused(tiny_bundle, "--data", labelled)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda data: data["input"].update(mean=[0.0, 0.0, 0.0]), "prepares pictures otherwise"),
        (lambda data: data["outputs"][0].update(kind="labels"), "expected the same network"),
        (lambda data: data["outputs"][0].update(shape=[1, 9]), "has 9 classes, "),
    ],
)
def test_another_network_is_none_to_agree_with(
    run: Any, tiny_bundle: Path, labelled: Path, tmp_path: Path, change: Callable[[Any], None], text: str
) -> None:
    other = shutil.copytree(tiny_bundle, tmp_path / "other")
    damage.edit_manifest(other, change)
    words = ("eval", tiny_bundle, "--data", labelled, "--against", other, "-q")
    assert text in one_line(run(*words))
