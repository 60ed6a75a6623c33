"""Networks that are no classifiers, from an ONNX file through everything that takes a bundle; onnxruntime with the file
judges images that nobody saw before."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from damage import seal
from native_runner import run as run_program
from several_outputs import heads, mask, pyramid, saved
from standalone_bundles import PROGRAMS, SYSTEM, output_of

import effgen
from effgen.deploy.native import Runner, run_bundle, run_images
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BundleError, VerifyError
from effgen.judge.bench import bench_bundle
from effgen.judge.case import golden_pair, relative_l2, save_golden_pair
from effgen.judge.verify import verify_bundle
from effgen.network.file_network import OnnxRequest
from effgen.report.verify import json_from_verify
from effgen.results.reports import Plan
from effgen.runtime import LoadedModel, read_manifest
from effgen.runtime.standalone import load_standalone

TOLERANCE = 1e-5


def answers(path: Path, image: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, {"x": image})]


def fresh(bundle: Path) -> np.ndarray:
    shape = read_manifest(bundle).input["shape"]
    return np.random.default_rng().standard_normal(shape, dtype=np.float32)


def assert_right(found: Any, expected: list[np.ndarray]) -> None:
    for ours, theirs in zip(found if isinstance(found, (tuple, list)) else [found], expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == np.float32
        assert relative_l2(ours, theirs) <= TOLERANCE


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """File and bundle of each network, with the C library and the program."""
    folder, found = tmp_path_factory.mktemp("outputs"), {}
    for name, graph in {"pyramid": pyramid(), "heads": heads(), "mask": mask()}.items():
        file, bundle = saved(graph, folder / f"{name}.onnx"), folder / name
        emit = ("bundle", "standalone", "executable")
        compile_bundle(CompileRequest(OnnxRequest(file), bundle, emit=emit, threads=2, name=f"feature_{name}"))
        found[name] = file, bundle
    return found


@pytest.fixture(params=["pyramid", "heads", "mask"])
def pair(request: pytest.FixtureRequest, made: dict[str, tuple[Path, Path]]) -> tuple[Path, Path]:
    return made[request.param]


def test_a_call_returns_all_outputs_by_name(pair: tuple[Path, Path]) -> None:
    file, bundle = pair
    model = effgen.load(bundle)
    names = [info.name for info in onnxruntime.InferenceSession(str(file)).get_outputs()]
    assert model.output_names == names
    images = [fresh(bundle) for _ in range(2)]
    found = [model(image) for image in images]  # an answer is a copy: the next call does not change it
    assert isinstance(found[0], tuple) is (len(names) > 1)
    for answer, image in zip(found, images, strict=True):
        assert_right(answer, answers(file, image))


def test_every_other_way_of_running(pair: tuple[Path, Path], runner: Runner, tmp_path: Path) -> None:
    """The C library in this process, its program, effgen-run with several batches."""
    file, bundle = pair
    image = fresh(bundle)
    with load_standalone(bundle) as model:
        assert_right(model(image), answers(file, image))
    image.tofile(tmp_path / "image.f32")
    name = (read_manifest(bundle).standalone or {})["name"]
    said = output_of(bundle / name, tmp_path / "image.f32", tmp_path / "answer.f32").splitlines()
    expected = answers(file, image)
    whole = np.concatenate([output.ravel() for output in expected])
    written = np.fromfile(tmp_path / "answer.f32", np.float32)
    assert relative_l2(written[None], whole[None]) <= TOLERANCE
    assert len(said) == len(expected)
    for line, output in zip(said, expected, strict=True):
        numbers = [float(number) for number in re.match(r".*  from (\S+) to (\S+), mean (\S+)$", line).groups()]  # type: ignore[union-attr]
        right = [output.min(), output.max(), output.mean(dtype=np.float64)]
        np.testing.assert_allclose(numbers, right, rtol=1e-4, atol=1e-4 * float(np.abs(output).max()))
    images = np.concatenate([image, fresh(bundle), image])
    parts = zip(*(answers(file, part) for part in np.split(images, 3)), strict=True)
    assert_right(run_images(runner, bundle, images), [np.concatenate(part) for part in parts])
    assert run_bundle(runner, bundle).passed


def test_verify_compares_every_output(made: dict[str, tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = made["pyramid"][1]
    report = verify_bundle(bundle)
    assert report.passed and [case.output for case in report.cases[:3]] == ["p1", "p2", "p3"]
    assert len(report.cases) == 3 * len(report.by_input) and all(case.top1 is None for case in report.cases)
    right = LoadedModel.__call__

    def wrong(self: LoadedModel, image: np.ndarray) -> tuple[np.ndarray, ...]:
        first, second, third = right(self, image)
        return first, second * np.float32(1.001), third

    monkeypatch.setattr(LoadedModel, "__call__", wrong)
    report = verify_bundle(bundle)
    assert not report.passed and {case.output for case in report.cases if not case.passed} == {"p2"}
    said = json_from_verify(report)
    assert (said["worst_output"], said["passed"]) == ("p2", False)


def test_a_wrong_output_is_named_and_nothing_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = LoadedModel.__call__
    monkeypatch.setattr(LoadedModel, "__call__", lambda *words: (*right(*words)[:2], 2 * right(*words)[2]))
    request = CompileRequest(OnnxRequest(saved(pyramid(), tmp_path / "m.onnx")), tmp_path / "b")
    with pytest.raises(VerifyError, match=r"disagrees with PyTorch about p3: relative L2 1\.0"):
        compile_bundle(request)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_effgen_run_compares_every_output(
    changed: int, made: dict[str, tuple[Path, Path]], runner: Runner, tmp_path: Path
) -> None:
    bundle = tmp_path / "b"
    shutil.copytree(made["pyramid"][1], bundle)
    image, expected = golden_pair(bundle)
    outputs = [output * np.float32(1.01 if number == changed else 1) for number, output in enumerate(expected)]
    save_golden_pair(bundle, image, tuple(outputs))
    seal(bundle)
    report = run_bundle(runner, bundle)
    assert not report.passed and report.rel_l2 == pytest.approx(0.01, rel=0.02)
    done = run_program(runner, bundle, "--runs", 0)
    assert done.returncode == 3
    assert f"golden pair, output p{changed + 1}: relative L2" in done.stderr and done.stderr.count("\n") == 1


def test_bench(made: dict[str, tuple[Path, Path]]) -> None:
    """Peers are held to all outputs."""
    report = bench_bundle(made["heads"][1], ["pytorch", "onnxruntime", "openvino", "standalone"], 1, Plan(2, 0.02))
    assert not report.left_out and len(report.results) == 5
    assert all(result.rel_l2 <= TOLERANCE for result in report.results)


def test_a_c_program(made: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    file, bundle = made["pyramid"]
    image = fresh(bundle)
    image.tofile(tmp_path / "image.f32")
    words = ["cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", bundle, PROGRAMS / "outputs.c"]
    output_of(*words, "-o", tmp_path / "program", bundle / "libfeature_pyramid.a", *SYSTEM)
    output_of(tmp_path / "program", tmp_path / "image.f32", tmp_path / "out.f32")
    whole = np.concatenate([output.ravel() for output in answers(file, image)])
    assert relative_l2(np.fromfile(tmp_path / "out.f32", np.float32)[None], whole[None]) <= TOLERANCE


def test_what_is_no_classifier_says_so(pair: tuple[Path, Path], run: Any, tmp_path: Path) -> None:
    file, bundle = pair
    model = effgen.load(bundle)
    pixels = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(BundleError, match=rf"^{bundle.name}: is no classifier, which gives classes: it gives \w+ \("):
        model.classify(pixels)
    (tmp_path / "x.png").write_bytes(b"never read")
    for words in (("run", bundle, tmp_path / "x.png"), ("eval", bundle, "--data", tmp_path, "-q")):
        status, _, said = run(*words)
        assert status == 1 and said.startswith(f"error: {bundle.name}: is no classifier") and said.count("\n") == 1
    status, _, said = run("compile", "--onnx", file, "--labels", "imagenet", "-o", tmp_path / "b", "-q")
    assert status == 1 and "--labels imagenet: the network is no classifier" in said
    assert not (tmp_path / "b").exists()


@pytest.mark.arm
def test_for_arm(tmp_path: Path) -> None:
    """By effgen-run and the C library, both under the emulator."""
    phases: list[str] = []
    request = OnnxRequest(saved(heads(), tmp_path / "heads.onnx"))
    compile_bundle(CompileRequest(request, tmp_path / "b", target="rpi4", emit=("bundle", "standalone")), phases.append)
    assert phases[-1] == "check the standalone library"
    report = verify_bundle(tmp_path / "b")
    assert report.passed and len({case.output for case in report.cases}) == 4 and report.run_by.startswith("qemu")


def test_some_outputs_by_the_option(made: dict[str, tuple[Path, Path]], run: Any, tmp_path: Path) -> None:
    """One of the file's makes a classifier of it; one inside is checked against the file as well."""
    file = made["heads"][0]
    status, out, _ = run("compile", "--onnx", file, "--outputs", "classes", "-o", tmp_path / "one", "--json", "-")
    assert status == 0 and json.loads(out)["outputs"] == [
        {"name": "classes", "shape": [2, 10], "dtype": "float32", "kind": "logits"}
    ]
    image = fresh(tmp_path / "one")
    assert_right(effgen.load(tmp_path / "one")(image), answers(file, image)[:1])
    assert run("compile", "--onnx", file, "--outputs", "raw,stem", "-o", tmp_path / "two", "-q")[0] == 0
    manifest = read_manifest(tmp_path / "two")
    assert manifest.output_names == ["raw", "stem"]
    assert manifest.network["onnx"]["reading"]["rel_l2"] <= TOLERANCE
    status, _, said = run("compile", "--onnx", file, "--outputs", "clases", "-o", tmp_path / "no", "-q")
    assert status == 1 and "--outputs clases: no tensor of that name; did you mean classes? known: boxes," in said
    assert run("compile", "--outputs", "classes", "-o", tmp_path / "no", "-q")[0] == 1
