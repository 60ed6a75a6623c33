"""`effgen compile --onnx`: a small network with most of what can be read, judged by onnxruntime; bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from foreign import Array, answer, node, save_model
from networks import noise, relative_error

import effgen
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import GraphError, VerifyError
from effgen.judge.reading import check_reading
from effgen.judge.verify import verify_bundle
from effgen.network.file_network import OnnxRequest, read_network
from effgen.runtime.manifest import read_manifest

STEM = {"w0": noise((8, 3, 3, 3), 1) / np.float32(5), "t": noise((1, 3, 1, 1), 2)}


def kitchen_sink(path: Path, batch: int | str = 2) -> Path:
    """Odd sizes, every operator: a residual block as ResNet's, a dense one, Inception's pools, ShuffleNet's shuffle."""

    def kernel(seed: int, *shape: int) -> Array:
        return noise(shape, seed) / np.float32(np.sqrt(np.prod(shape[1:])))

    constants: dict[str, Array] = {**STEM, "w1": kernel(3, 8, 8, 3, 3), "w2": kernel(4, 8, 8, 3, 3)}
    constants |= {"w3": kernel(5, 6, 8, 1, 1), "w4": kernel(6, 12, 2, 3, 3), "w5": kernel(7, 7, 12, 3, 3)}
    constants |= {"w6": kernel(8, 19, 10), "b1": noise((8,), 9), "b6": noise((10,), 10), "b5": noise((7,), 18)}
    constants |= {name: np.abs(noise((14,), seed)) + np.float32(0.5) for name, seed in
                  (("g", 11), ("h", 12), ("m", 13), ("v", 14))}  # fmt: skip
    constants |= {"five": np.array([0, 3, 4, 9, 8]), "four": np.array([0, 12, 9, 8]), "sizes": np.array([5, 7])}
    constants |= {"row": np.array([0, -1]), "quarter": np.array(0.25, np.float32)}
    nodes = [
        node("Add", ["x", "t"], "shifted"),
        node("Conv", ["shifted", "w0"], "stem", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["stem"], "r0"),
        node("MaxPool", ["r0"], "p0", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], ceil_mode=1),
        node("Conv", ["p0", "w1", "b1"], "c1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], "r1"),
        node("Conv", ["r1", "w2"], "c2", pads=[2, 2, 2, 2], dilations=[2, 2]),
        node("Add", ["c2", "p0"], "a2"),
        node("Relu", ["a2"], "r2"),
        node("Conv", ["r2", "w3"], "c3"),
        node("Concat", ["r2", "c3"], "d", axis=1),
        node("BatchNormalization", ["d", "g", "h", "m", "v"], "n"),
        node("Relu", ["n"], "rn"),
        node("AveragePool", ["rn"], "e", kernel_shape=[2, 3], pads=[1, 1, 0, 1], count_include_pad=1),
        node("Slice", ["e", "two", "end", "one"], "f"),
        node("Reshape", ["f", "five"], "s5"),
        node("Transpose", ["s5"], "t5", perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["t5", "four"], "shuffled"),
        node("Conv", ["shuffled", "w4"], "c4", group=6, pads=[1, 1, 1, 1]),
        node("LeakyRelu", ["c4"], "l", alpha=0.1),
        node("Conv", ["l", "w5", "b5"], "c5", auto_pad="SAME_UPPER"),
        node("HardSwish", ["c5"], "hs"),
        node("Sigmoid", ["l"], "sg"),
        node("Mul", ["sg", "quarter"], "q"),
        node("Concat", ["hs", "q"], "last", axis=1),
        node("GlobalAveragePool", ["last"], "gap"),
        node("Reshape", ["gap", "row"], "rows"),
        node("MatMul", ["rows", "w6"], "mm"),
        node("Add", ["mm", "b6"], "logits"),
        node("Softmax", ["logits"], "y", axis=-1),
    ]
    constants |= {"two": np.array([2]), "end": np.array([99]), "one": np.array([1])}
    return save_model(path, nodes, constants, shape=(batch, 3, 31, 27))


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The file, and its bundle for two images."""
    folder = tmp_path_factory.mktemp("sink")
    path = kitchen_sink(folder / "sink.onnx", "N")
    compile_bundle(CompileRequest(OnnxRequest(path, batch=2), folder / "bundle"))
    return path, folder / "bundle"


def test_agrees_with_onnxruntime(sink: tuple[Path, Path]) -> None:
    path, bundle = sink
    model = effgen.load(bundle)
    for seed in range(3):
        image = noise((2, 3, 31, 27), seed)
        assert relative_error(model(image), answer(path, image)) <= 1e-5


def test_the_bundle_is_verified_like_any_other(sink: tuple[Path, Path]) -> None:
    report = verify_bundle(sink[1])
    assert report.passed and report.judged >= 6


def test_what_the_manifest_says(sink: tuple[Path, Path]) -> None:
    bundle = sink[1]
    manifest = read_manifest(bundle)
    assert manifest.name == "sink"
    facts = manifest.network["onnx"]
    assert (facts["file"], facts["producer"], facts["opset"]) == ("sink.onnx", "someone 1.2", 17)
    assert facts["reading"]["checked_by"] == f"onnxruntime {onnxruntime.__version__}"
    assert 0 <= facts["reading"]["rel_l2"] <= 1e-5
    assert facts["sha256"] == manifest.network["weights"]["sha256"]
    assert len(facts["sha256"]) == 64
    assert manifest.input["mean"] == [0.485, 0.456, 0.406]
    kernels = {kernel["name"] for kernel in manifest.kernels}
    assert "f32_conv2d_k3s1_i8o8_h9w8_d2_p2x2x2x2_b2_res_relu" in kernels
    assert {"f32_concat_c8_c6_h9w8_b2_affine_relu", "f32_maxpool_k3s2_c8_h16w14_p1x1x1x1_b2"} & kernels


def command(run: Any, *words: object) -> tuple[int, str]:
    status, _, err = run(*words)
    return status, err.splitlines()[-1] if err else ""


def test_the_command(run: Any, tmp_path: Path) -> None:
    names = ["scale", "shift", "mean", "var"]
    constants: dict[str, Array] = {name: np.abs(noise((4,), i)) + np.float32(0.3) for i, name in enumerate(names)}
    constants |= {"w": noise((4, 1, 3, 3))}
    nodes = [node("Conv", ["x", "w"], "c"), node("BatchNormalization", ["c", *names], "n"),
             node("Relu", ["n"], "r"), node("GlobalAveragePool", ["r"], "g"), node("Flatten", ["g"])]  # fmt: skip
    path = save_model(tmp_path / "grey.onnx", nodes, constants, shape=("N", 1, 9, 9))
    words = ("compile", "--onnx", path, "-o", tmp_path / "b", "--std", "0.5", "--json", tmp_path / "c.json")
    status, _, err = run(*words)
    assert status == 0, err
    assert f"{path}: written by someone 1.2, opset 17, 5 operators" in err
    assert "x 1x1x9x9 -> y 1x4, 5 operators as simplified" in err
    assert "agrees with the file by onnxruntime" in err
    found = json.loads((tmp_path / "c.json").read_text())
    assert (found["input"]["mean"], found["input"]["std"]) == ([0.0], [0.5])
    assert found["parameters"] == 4 * 9 + 8


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--phi", "0", "--weights", "w.pth"), "the file says what --phi, --weights would; leave one of them out"),
        (("--seed", "3"), "the file says what --seed would"),
        (("--mean", "0.5"), "--mean 0.5: the image of {path} has 3 channels; expected as many"),
        (("--std", "1,0,1"), "--std 1,0,1: expected numbers above 0 with commas between, one a channel"),
        (("--mean", "a,b"), "--mean a,b: expected numbers with commas between, one a channel"),
        (("--batch", "3"), "{path}: input x: the file's batch is 2, not 3; leave out --batch or export again"),
        (("--batch", "0"), "--batch 0: expected from 1 to 4096 images"),
    ],
)
def test_options_that_do_not_go_together(words: tuple[str, ...], line: str, run: Any, tmp_path: Path) -> None:
    path = kitchen_sink(tmp_path / "m.onnx")
    status, last = command(run, "compile", "--onnx", path, "-o", tmp_path / "b", *words)
    assert status == 1 and line.format(path=path) in last
    assert not (tmp_path / "b").exists()


def test_mean_needs_a_file(run: Any, tmp_path: Path) -> None:
    status, last = command(run, "compile", "--mean", "0,0,0", "-o", tmp_path / "b")
    assert (status, last) == (
        1,
        "error: --mean 0,0,0: a spec has its own, under [input]; expected --onnx FILE beside it",
    )


def test_what_does_not_take_images(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.onnx", [node("Relu", ["x"])], shape=(1, 6))
    with pytest.raises(GraphError, match=r"input x has shape \(1, 6\): expected an image \(N, C, H, W\)$"):
        read_network(OnnxRequest(path))


def test_a_misreading_cannot_pass(tmp_path: Path) -> None:
    network = read_network(OnnxRequest(kitchen_sink(tmp_path / "m.onnx")))
    image = noise((2, 3, 31, 27))
    right = answer(network.request.file, image)
    reading = check_reading(network, image, right)
    assert reading.facts == {"checked_by": f"onnxruntime {onnxruntime.__version__}", "rel_l2": reading.rel_l2}
    assert reading.agreement.startswith(f"agrees with the file by onnxruntime {onnxruntime.__version__}: relative L2 ")
    with pytest.raises(VerifyError, match="onnxruntime and the graph that was read disagree: relative L2"):
        check_reading(network, image, right * np.float32(1.001))


def test_a_file_that_onnxruntime_cannot_run_is_not_checked(tmp_path: Path) -> None:
    path = kitchen_sink(tmp_path / "m.onnx")
    network = read_network(OnnxRequest(path))
    model = onnx.load(path)
    model.ir_version = 99
    onnx.save(model, path)
    reading = check_reading(network, noise((2, 3, 31, 27)), noise((2, 10)))
    assert list(reading.facts) == ["not_checked"] and "\n" not in reading.not_checked
    assert reading.not_checked.startswith("onnxruntime cannot run it: ")


def test_a_bundle_says_that_its_reading_was_not_checked(run: Any, tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], "c"), node("GlobalAveragePool", ["c"], "g"), node("Flatten", ["g"])]
    path = save_model(tmp_path / "m.onnx", nodes, {"w": noise((4, 3, 3, 3))}, shape=(1, 3, 9, 9))
    model = onnx.load(path)
    model.ir_version = 99
    onnx.save(model, path)
    status, _, err = run("compile", "--onnx", path, "-o", tmp_path / "b")
    assert status == 0, err
    reason = read_manifest(tmp_path / "b").network["onnx"]["reading"]["not_checked"]
    assert reason.startswith("onnxruntime cannot run it: ")
    assert err.splitlines()[-1] == f"warning: the file's own answer not checked: {reason}"


def test_what_a_gpu_lacks_is_said_in_one_line(run: Any, tmp_path: Path) -> None:
    path = kitchen_sink(tmp_path / "m.onnx")
    words = ("compile", "--onnx", path, "-o", tmp_path / "b", "--target", "cuda-sm90")
    status, last = command(run, *words)
    assert (status, last) == (1, "error: y: operator Softmax cannot be compiled for a GPU yet")


def test_inspect_and_tune_take_a_file(run: Any, tmp_path: Path) -> None:
    path = kitchen_sink(tmp_path / "m.onnx", "N")
    status, out, _ = run("inspect", "--onnx", path, "--batch", "3", "--json", "-")
    found = json.loads(out)
    assert status == 0 and found["batch"] == 3 and found["image"] == [3, 31, 27]
    rows = {row["operator"]: row for row in found["operators"]}
    assert sum(row["macs"] for row in rows.values()) == found["macs"] and rows["Conv"]["count"] == 6
    assert run("inspect", "--onnx", path, "--phi", "2")[0] == 1
    status, _, err = run("tune", "--onnx", path, "--seed", "1", "--trials", "0")
    assert status == 1 and err.splitlines()[-1].startswith("error: --trials 0")
