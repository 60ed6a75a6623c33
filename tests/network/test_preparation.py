"""How pictures are prepared for a file's network: what options, the file's metadata and custom say, in that order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from commands import one_line
from foreign import answer, node, save_model
from networks import noise
from pictures import write_picture
from PIL import Image

import effgen
from effgen.errors import GraphError
from effgen.network.file_network import OnnxRequest, read_network
from effgen.network.preparation import (
    FileMetadata,
    PictureOptions,
    colour_from_text,
    numbers_from_text,
    preparation_of_file,
    read_metadata,
)
from effgen.runtime.picture import Preparation

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def prepared(
    texts: dict[str, str] | None = None, size: tuple[int, int] = (224, 224), channels: int = 3, **options: Any
) -> Preparation:
    metadata = read_metadata(texts or {}, channels, 10)
    return preparation_of_file("m.onnx", channels, size, PictureOptions(**options), metadata)


def test_what_is_usual() -> None:
    assert prepared() == Preparation(3, 224, 256, "bilinear", MEAN, STD)
    assert prepared(size=(299, 299)).resize == 342
    assert prepared(channels=1) == Preparation(1, 224, 256, "bilinear", (0.0,), (1.0,))
    assert prepared(size=(48, 192)) == Preparation(3, (48, 192), (48, 192), "bilinear", MEAN, STD, fit="stretch")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"channel_order": "bgr"}, {"channel_order": "bgr", "mean": MEAN[::-1], "std": STD[::-1]}),
        ({"pixel_range": 255}, {"pixel_range": 255, "mean": ZERO, "std": ONE}),
        ({"mean": (104.0, 117.0, 123.0)}, {"pixel_range": 255, "mean": (104.0, 117.0, 123.0), "std": ONE}),
        ({"mean": (0.5,) * 3, "std": (0.5,) * 3}, {"mean": (0.5,) * 3, "std": (0.5,) * 3}),
        ({"mean": ZERO, "std": (255.0,) * 3}, {"pixel_range": 255, "mean": ZERO, "std": (255.0,) * 3}),
        ({"mean": (2.0,) * 3, "pixel_range": 1}, {"mean": (2.0,) * 3}),
        ({"fit": "stretch"}, {"fit": "stretch", "resize": 224}),
        ({"fill": (1, 2, 3)}, {"fit": "letterbox", "resize": 224, "fill": (1, 2, 3)}),
        ({"resize": 224}, {"resize": 224}),
        ({"interpolation": "nearest"}, {"interpolation": "nearest"}),
    ],
)
def test_options(options: dict[str, Any], expected: dict[str, Any]) -> None:
    usual = {"channels": 3, "crop": 224, "resize": 256, "interpolation": "bilinear", "mean": MEAN, "std": STD}
    assert prepared(**options) == Preparation(**{**usual, **expected})


def test_a_picture_for_no_square_may_be_cropped() -> None:
    assert prepared(size=(48, 192), resize=60) == Preparation(3, (48, 192), (60, 240), "bilinear", MEAN, STD)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "stretch", "resize": 256}, r"--resize: means nothing with --fit stretch; expected --fit crop"),
        ({"fit": "crop", "fill": (0, 0, 0)}, r"--fill: means nothing with --fit crop; expected --fit letterbox"),
        ({"resize": 256, "fill": (0, 0, 0)}, r"--resize, --fill: one is of --fit crop"),
        ({"resize": 200}, r"--resize 200: expected from 224, the shorter side of the image of m\.onnx, to 16384"),
        ({"mean": (0.5,)}, r"--mean 0\.5: the image of m\.onnx has 3 channels; expected as many"),
        ({"std": (0.5, 1.0)}, r"--std 0\.5,1: the image of m\.onnx has 3 channels"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        prepared(**options)


@pytest.mark.parametrize("text", ["", "a", "1,2", "1,2,3,4", "256", "-1", "1.5", "nan", "1,,2"])
def test_colours_that_are_none(text: str) -> None:
    with pytest.raises(GraphError, match=r"^--fill .*: expected a grey from 0 to 255"):
        colour_from_text(text)


def test_numbers_and_colours() -> None:
    assert colour_from_text("114") == (114, 114, 114) and colour_from_text("1,2,255") == (1, 2, 255)
    assert numbers_from_text("--mean", "-1,0.5") == (-1.0, 0.5)
    for option, text in (("--mean", "1,x"), ("--std", "0"), ("--std", "inf")):
        with pytest.raises(GraphError, match=f"^{option} {text}: expected numbers"):
            numbers_from_text(option, text)


YOLO = {"author": "Ultralytics", "stride": "32", "imgsz": "[224, 224]", "names": "{0: 'cat', 1: 'dog'}"}
WINDOWS = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}
FILES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "YOLO": ({**YOLO, "task": "detect"}, {"mean": ZERO, "std": ONE, "fit": "letterbox", "fill": (114,) * 3}),
    "YOLO's classifier": ({**YOLO, "task": "classify"}, {"mean": ZERO, "std": ONE, "fit": "crop"}),
    "Windows ML": (WINDOWS, {"channel_order": "bgr", "pixel_range": 255, "mean": ZERO, "std": ONE}),
    "one of its keys": ({"Image.BitmapPixelFormat": "Rgb8"}, {"pixel_range": 255, "mean": ZERO, "std": ONE}),
    "from 0 to 1": ({"Image.NominalPixelRange": "Normalized_0_1"}, {"mean": ZERO, "std": ONE}),
    "from -1 to 1": ({"Image.NominalPixelRange": "Normalized_1_1"}, {"mean": (0.5,) * 3, "std": (0.5,) * 3}),
    "mean and std": (
        {"mean": "[0.5, 0.4, 0.3]", "std": "0.2, 0.2, 0.2"},
        {"mean": (0.5, 0.4, 0.3), "std": (0.2,) * 3, "resize": 256},
    ),
    "of 0 to 255": (
        {"mean": "123.675 116.28 103.53", "std": "(58.395, 57.12, 57.375)"},
        {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375), "pixel_range": 255, "resize": 256},
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_metadata(name: str) -> None:
    texts, expected = FILES[name]
    usual = {"channels": 3, "crop": 224, "resize": 224, "interpolation": "bilinear", "mean": MEAN, "std": STD}
    assert prepared(texts) == Preparation(**{**usual, **expected})


def test_studio_range() -> None:
    found = prepared({"Image.NominalPixelRange": "NominalRange_16_235"})
    ends = [(pixel - found.mean[0]) / found.std[0] for pixel in (0, 255)]
    assert found.pixel_range == 255 and ends == pytest.approx([16, 235])


@pytest.mark.parametrize(
    "texts",
    [
        {"mean": "[0.5, 0.5]", "std": "[1, 1, 1]"},
        {"mean": "none", "std": "1,1,1"},
        {"mean": "[0.5, 0.5, NaN]", "std": "[1, 1, 1]"},
        {"mean": "0,0,0", "std": "0,1,1"},
        {"mean": "0,0,0"},
        {"mean": "[" * 100_000, "std": "1,1,1"},
        {"Image.BitmapPixelFormat": "Gray8"},
        {"Image.NominalPixelRange": "Sideways"},
        {"effgen.mean": "[1, 1, 1]", "effgen.std": "x"},
        {"author": "somebody", "task": "classify"},
    ],
)
def test_metadata_that_makes_no_sense_is_passed_over(texts: dict[str, str]) -> None:
    assert read_metadata(texts, 3, 10) == FileMetadata()


def test_grey_of_metadata() -> None:
    assert prepared({"Image.BitmapPixelFormat": "Gray8"}, channels=1).pixel_range == 255


def test_options_stand_before_metadata() -> None:
    found = prepared({**YOLO, "task": "detect"}, fill=(0, 0, 0), channel_order="bgr")
    assert (found.fill, found.channel_order, found.mean) == ((0, 0, 0), "bgr", ZERO)
    assert prepared({**YOLO, "task": "detect"}, resize=256).fit == "crop"
    found = prepared(WINDOWS, mean=MEAN, std=STD)  # of pixels from 0 to 1, whatever the file's are
    assert (found.pixel_range, found.mean, found.std) == (1, MEAN, STD)
    found = prepared({"mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"}, pixel_range=255)
    assert (found.mean, found.std) == (ZERO, ONE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{0: 'cat', 1: 'tabby \"cat\"', 2: 'dog'}", ("cat", 'tabby "cat"', "dog")),
        ('{"2": "c", "0": "a", "1": "b"}', ("a", "b", "c")),
        ('["a", "b", "c"]', ("a", "b", "c")),
        ("a\nb c\nd\n", ("a", "b c", "d")),
        ("a, b,c", ("a", "b", "c")),
        ("{0: 'a', 1: 'b'}", None),
        ("{1: 'a', 2: 'b', 3: 'c'}", None),
        ("[1, 2, 3]", None),
        ("a,b\x07,c", None),
        ("a", None),
    ],
)
@pytest.mark.parametrize("key", ["names", "classes"])
def test_names_of_classes(key: str, text: str, expected: tuple[str, ...] | None) -> None:
    assert read_metadata({key: text}, 3, 3).labels == expected
    assert read_metadata({key: text}, 3, None).labels is None


def network(path: Path, shape: tuple[int, ...], metadata: dict[str, str]) -> Path:
    constants = {"w": noise((3, shape[1], 3, 3), 1)}
    trunk = [node("Conv", ["x", "w"], "c", strides=[2, 2]), node("GlobalAveragePool", ["c"], "p")]
    save_model(path, [*trunk, node("Flatten", ["p"])], constants, shape)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def test_a_file_of_an_image_that_is_no_square_from_picture_to_label(run: Any, tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx", (1, 3, 24, 40), {**WINDOWS, "names": "{0: 'a', 1: 'b', 2: 'c'}"})
    words = ("--fit", "letterbox", "--fill", "9,60,200", "--interpolation", "nearest")
    status, _, err = run("compile", "--onnx", path, "-o", tmp_path / "b", *words)
    assert status == 0
    assert (
        "pictures: BGR 0..255, fitted into 24x40, bars of 9,60,200, nearest, mean 0,0,0, std 1,1,1 (by options and "
        "Image.BitmapPixelFormat, Image.NominalPixelRange)" in err
    )
    picture = write_picture(tmp_path / "a.png")  # 64 x 48: nearest of half, 32 x 24, and bars of 4
    model = effgen.load(tmp_path / "b")
    inner = np.asarray(Image.open(picture).resize((32, 24), Image.Resampling.NEAREST))
    framed = np.full((24, 40, 3), (9, 60, 200), np.uint8)
    framed[:, 4:36] = inner
    image = framed[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)
    np.testing.assert_array_equal(model.prepare([picture]), image)
    logits = answer(path, image)[0]
    status, out, _ = run("run", tmp_path / "b", picture, "--json", "-", "--top", "3")
    found = json.loads(out)["answers"][0]["predictions"]
    assert [p["label"] for p in found] == ["abc"[index] for index in np.argsort(-logits)]


def test_what_a_bundle_was_made_of_says_it_again(tmp_path: Path, run: Any) -> None:
    """The ONNX file inside a bundle, and that of `effgen export`, carry what was said of pictures."""
    path = network(tmp_path / "m.onnx", (1, 1, 16, 16), {})
    words = ("--mean", "100", "--std", "50", "--resize", "20", "--interpolation", "lanczos")
    assert run("compile", "--onnx", path, "-o", tmp_path / "b", *words)[0] == 0
    expected = Preparation(1, 16, 20, "lanczos", (100.0,), (50.0,), pixel_range=255)
    assert effgen.load(tmp_path / "b").preparation == expected
    again = read_network(OnnxRequest(tmp_path / "b" / "model.onnx"))
    assert again.preparation == expected and again.metadata.source == "effgen"
    assert effgen.load(tmp_path / "b").prepare([np.full((20, 20), 200, np.uint8)]).max() == 2.0


def test_a_spec_says_it_itself(run: Any, tmp_path: Path) -> None:
    for words in (["--fit", "stretch"], ["--pixel-range", "255"], ["--channel-order", "bgr"], ["--resize", "9"]):
        line = one_line(run("compile", "-o", tmp_path / "b", *words))
        assert line == f"{' '.join(words)}: a spec has its own, under [input]; expected --onnx FILE beside it"


SPEC = """
name = "wide"
activation = "relu"
[input]
resolution = 24
width = 40
channel_order = "bgr"
pixel_range = 255
mean = [104.0, 117.0, 123.0]
std = [1.0, 2.0, 3.0]
interpolation = "nearest"
fit = "letterbox"
fill = [9, 60, 200]
[stem]
channels = 8
[[stages]]
block = "mbconv"
kernel = 3
stride = 2
channels = 8
repeats = 1
expand_ratio = 2
squeeze_excite = { ratio = 0.25 }
[classifier]
classes = 5
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wide") / "wide.toml"
    path.write_text(SPEC)
    return path


def test_a_spec_of_an_image_that_is_no_square_from_picture_to_answer(run: Any, wide: Path, tmp_path: Path) -> None:
    assert run("compile", "--spec", wide, "-o", tmp_path / "b", "--emit", "executable")[0] == 0
    assert run("verify", tmp_path / "b")[0] == 0
    picture = write_picture(tmp_path / "a.png")
    framed = np.full((24, 40, 3), (9, 60, 200), np.uint8)
    framed[:, 4:36] = np.asarray(Image.open(picture).resize((32, 24), Image.Resampling.NEAREST))
    pixels = framed[..., ::-1].astype(np.float32)
    mean, std = np.array([[104, 117, 123], [1, 2, 3]], np.float32)
    image = ((pixels - mean) / std).transpose(2, 0, 1)[None]
    model = effgen.load(tmp_path / "b")
    np.testing.assert_allclose(model.prepare([picture]), image, rtol=1e-6)
    logits = answer(tmp_path / "b" / "model.onnx", image)[0]
    found = model.classify(picture)
    assert [p.index for p in found] == list(np.argsort(-logits))
    status, out, _ = run("run", tmp_path / "b", picture, "--json", "-")
    assert status == 0 and json.loads(out)["answers"][0]["predictions"][0]["index"] == found[0].index
    (header,) = (tmp_path / "b").glob("*.h")
    assert "every value (pixel - MEAN[channel]) / STD[channel], pixels from 0 to 255; channel 0 is blue" in (
        header.read_text()
    )


@pytest.mark.parametrize(
    ("resolution", "size"),
    [(None, (24, 40)), ("48", (48, 80)), ("2x", (48, 80)), ("32x48", (32, 48)), ("32x32", (32, 32))],
)
def test_resolution_of_no_square(
    run: Any, wide: Path, tmp_path: Path, resolution: str | None, size: tuple[int, int]
) -> None:
    words = [] if resolution is None else ["--resolution", resolution]
    status, out, _ = run("inspect", "--spec", wide, *words, "--json", "-")
    found = json.loads(out)
    assert status == 0 and (found["resolution"], found["width"]) == size
    assert run("export", "--spec", wide, *words, "-o", tmp_path / "x.onnx")[0] == 0
    again = read_network(OnnxRequest(tmp_path / "x.onnx"))
    assert again.graph.input.shape == (1, 3, *size) and again.preparation.size == size
    assert (again.preparation.fit, again.preparation.fill) == ("letterbox", (9, 60, 200))
    assert (again.preparation.channel_order, again.preparation.pixel_range) == ("bgr", 255)


def test_scaling_keeps_the_shape(run: Any, wide: Path) -> None:
    _, out, _ = run("inspect", "--spec", wide, "--phi", "5", "--json", "-")
    found = json.loads(out)
    assert found["resolution"] == round(24 * 1.15**5) and found["width"] == round(40 * found["resolution"] / 24)
    line = one_line(run("inspect", "--spec", wide, "--resolution", "32x3"))
    assert line.startswith("--resolution 32: 3 pixels wide: expected from 4 (the network's total stride)")
