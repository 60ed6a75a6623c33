"""`effgen quantize`: from pictures or an array to a file that compiles."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import one_line
from networks import noise
from pictures import write_picture

from effgen.graph.onnx import graph_from_onnx

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(6):
        write_picture(tmp_path / "pictures" / f"{'ab'[index % 2]}" / f"{index}.png", seed=index)
    return tmp_path / "pictures"


def test_a_folder_of_pictures(run: Any, tiny_spec: Path, folder: Path, tmp_path: Path) -> None:
    """What is written compiles, and says the same; the report lists every layer."""
    file = tmp_path / "q.onnx"
    words = ("--spec", tiny_spec, "--data", folder, "--images", "4", "--keep-float", "classifier")
    code, out, err = run("quantize", *words, "-o", file, "--json", tmp_path / "q.json")
    assert code == 0, err
    report = json.loads((tmp_path / "q.json").read_text())
    assert report["images"] == 4 and "layers in int8; on 4 images the outputs differ by" in out and str(file) in out
    assert "classifier" not in {layer["name"] for layer in report["layers"]}
    assert set(graph_from_onnx(file)[0].codes.values()) == {"uint8"}
    code, _, err = run("compile", "--onnx", file, "-o", tmp_path / "bundle")
    assert code == 0, err
    assert run("verify", tmp_path / "bundle", "-q")[0] == 0


def test_an_array_of_images(run: Any, tiny_spec: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", noise((5, 3, 32, 32)))
    words = ("--spec", tiny_spec, "--calibration", tmp_path / "x.npy", "--max-loss", "500%")
    code, out, _ = run("quantize", *words, "-o", tmp_path / "q.onnx", "-q")
    assert code == 0 and "on 5 images" in out
    again = one_line(run("quantize", "--onnx", tmp_path / "q.onnx", *words[2:4], "-o", tmp_path / "r.onnx", "-q"))
    assert "is quantised already" in again and not (tmp_path / "r.onnx").exists()


def test_what_is_refused(run: Any, tiny_spec: Path, folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "wrong.npy", noise((5, 3, 31, 32)))
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty").mkdir()

    def refused(*words: object) -> str:
        line = one_line(run("quantize", "--spec", tiny_spec, *words, "-o", tmp_path / "q.onnx", "-q"))
        assert not (tmp_path / "q.onnx").exists()
        return line

    neither = refused()
    assert "--data DIR" in neither and "--calibration FILE.npy" in neither
    assert refused("--data", folder, "--calibration", tmp_path / "wrong.npy") == neither
    assert "holds float32 (5, 3, 31, 32): expected a .npy file of float32 (N, 3, 32, 32)" in refused(
        "--calibration", tmp_path / "wrong.npy"
    )
    assert "expected a .npy file" in refused("--calibration", tmp_path / "text.npy")
    assert "cannot be read: No such file" in refused("--calibration", tmp_path / "absent.npy")
    assert "no pictures there" in refused("--data", tmp_path / "empty")
    assert "--max-loss 3: expected a percentage, e.g. 3%" in refused("--data", folder, "--max-loss", "3")
    assert "--max-loss nan%" in refused("--data", folder, "--max-loss", "nan%")
    assert "matches no layer" in refused("--data", folder, "--keep-float", "nothing")
