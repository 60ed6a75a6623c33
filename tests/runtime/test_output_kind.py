"""Networks that end in Softmax or Sigmoid: what they say is not normalised a second time, anywhere."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign import answer, node, save_model
from networks import noise
from pictures import pixels, write_picture

import effgen
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BundleError
from effgen.network.file_network import OnnxRequest
from effgen.runtime import read_manifest
from effgen.runtime.classify import probabilities_of, top_predictions
from effgen.runtime.manifest import MANIFEST

CLASSES = 6
CONSTANTS = {"w": noise((CLASSES, 3, 3, 3), seed=1) * 3, "b": noise((CLASSES,), seed=2)}

#: How a classifier ends, and what its numbers are.
ENDS = {
    "softmax": ([node("Flatten", ["p"], "f"), node("Softmax", ["f"], axis=-1)], "probabilities"),
    "sigmoid": ([node("Sigmoid", ["p"], "s"), node("Flatten", ["s"])], "labels"),
}


@pytest.fixture(scope="module", params=ENDS)
def ended(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The file, its bundle with the program, and the kind expected."""
    folder = tmp_path_factory.mktemp(request.param)
    nodes, kind = ENDS[request.param]
    trunk = [node("Conv", ["x", "w", "b"], "c", pads=[1] * 4), node("GlobalAveragePool", ["c"], "p")]
    file = save_model(folder / "net.onnx", [*trunk, *nodes], CONSTANTS, shape=(1, 3, 16, 16))
    compile_bundle(CompileRequest(OnnxRequest(file), folder / "bundle", emit=("bundle", "standalone", "executable")))
    return file, folder / "bundle", kind


def test_probabilities_are_the_files_own(ended: tuple[Path, Path, str]) -> None:
    file, bundle, kind = ended
    model = effgen.load(bundle)
    assert model.manifest.output_kind == model.manifest.outputs[0]["kind"] == kind
    expected = answer(file, model.prepare([pixels()]))[0]
    found = model.classify(pixels(), top=CLASSES)
    assert [p.index for p in found] == list(np.argsort(-expected))
    np.testing.assert_allclose([p.probability for p in found], sorted(expected, reverse=True), rtol=1e-5)


def test_run_and_its_report(ended: tuple[Path, Path, str], run: Any, tmp_path: Path) -> None:
    file, bundle, kind = ended
    picture = write_picture(tmp_path / "a.png")
    status, out, _ = run("run", bundle, picture, "--json", "-")
    report = json.loads(out)
    expected = answer(file, effgen.load(bundle).prepare([picture]))[0]
    assert status == 0 and report["output"] == kind
    best = report["answers"][0]["predictions"][0]
    assert best["probability"] == pytest.approx(expected.max(), rel=1e-5)


def test_program_and_header(ended: tuple[Path, Path, str], tmp_path: Path) -> None:
    file, bundle, _ = ended
    image = noise((1, 3, 16, 16), seed=7)
    image.tofile(tmp_path / "image.f32")
    files = read_manifest(bundle).standalone or {}
    said = subprocess.run(
        [bundle / files["executable"], tmp_path / "image.f32"], capture_output=True, text=True, check=True
    ).stdout
    expected = answer(file, image)[0]
    rows = [line.split() for line in said.splitlines()]
    assert [int(row[1]) for row in rows] == list(np.argsort(-expected)[:5])
    np.testing.assert_allclose([float(row[2]) for row in rows], sorted(expected, reverse=True)[:5], atol=2e-6)
    assert "no softmax is wanted" in (bundle / files["header"]).read_text()


def test_kinds_of_numbers() -> None:
    values = np.array([0.5, -1.0, 2.0], np.float32)
    softmax = np.exp(values.astype(np.float64)) / np.exp(values.astype(np.float64)).sum()
    np.testing.assert_allclose(probabilities_of(values, "logits"), softmax)
    np.testing.assert_allclose(probabilities_of(np.log(softmax).astype(np.float32), "log_probabilities"), softmax, 1e-6)
    for kind in ("probabilities", "labels"):
        np.testing.assert_array_equal(probabilities_of(softmax.astype(np.float32), kind), softmax.astype(np.float32))
    for logit in (-100.0, -2.0, 0.0, 3.0, 100.0):
        expected = 1 / (1 + np.exp(-np.float64(logit)))
        np.testing.assert_allclose(probabilities_of(np.array([logit], np.float32), "logits"), [expected], atol=1e-15)
    impossible = np.array([0.0, -np.inf], np.float32)  # a probability of 0, in logarithms
    assert [p.probability for p in top_predictions(impossible, 2, None, "log_probabilities")] == [1.0, 0.0]


def test_bundles_that_say_nothing_have_logits(tiny_bundle: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    assert manifest.outputs[0]["kind"] == "logits"
    del manifest.outputs[0]["kind"]
    assert manifest.output_kind == "logits"


def test_an_unknown_kind_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    odd = dataclasses.replace(manifest, outputs=[{**manifest.outputs[0], "kind": "odds"}])
    (tmp_path / MANIFEST).write_text(odd.to_json())
    with pytest.raises(BundleError, match=r"outputs\[0\]\.kind = .odds.: expected logits or probabilities"):
        read_manifest(tmp_path)
