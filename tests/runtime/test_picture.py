"""A picture becomes the image that torchvision and timm would make of it, or one clear line."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import tiny_spec
from pictures import encoded, pixels, write_picture
from PIL import Image
from zoo import external_module

from effgen.errors import BundleError, ImageError
from effgen.network import NetworkRequest, build_network
from effgen.runtime import read_manifest
from effgen.runtime.picture import MOST_ELONGATED, Preparation, preparation_of, read_picture

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = Preparation(channels=3, crop=32, resize=48, interpolation="bicubic", mean=MEAN, std=STD)


def judged(image: Image.Image, preparation: Preparation) -> np.ndarray:
    """What torchvision's transforms make of it."""
    transforms = external_module("torchvision.transforms")
    steps = [
        transforms.Resize(preparation.resize, transforms.InterpolationMode(preparation.interpolation), antialias=True),
        transforms.CenterCrop(preparation.crop),
        transforms.ToTensor(),
        transforms.Normalize(preparation.mean, preparation.std),
    ]
    return transforms.Compose(steps)(image).numpy()


@pytest.mark.parametrize("size", [(640, 480), (333, 500), (48, 48), (20, 31), (37, 501), (256, 255), (49, 48)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_as_torchvision(size: tuple[int, int], interpolation: str) -> None:
    image = Image.fromarray(pixels(*size))
    for resize, crop in ((48, 32), (37, 32), (32, 32)):
        preparation = dataclasses.replace(SMALL, resize=resize, crop=crop, interpolation=interpolation)
        np.testing.assert_allclose(preparation(image), judged(image, preparation), rtol=1e-6, atol=1e-6)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64), st.integers(0, 40))
def test_any_size_as_torchvision(width: int, height: int, crop: int, padding: int) -> None:
    if max(width, height) > MOST_ELONGATED * min(width, height):
        return
    image = Image.fromarray(pixels(width, height))
    preparation = dataclasses.replace(SMALL, crop=crop, resize=crop + padding)
    np.testing.assert_allclose(preparation(image), judged(image, preparation), rtol=1e-6, atol=1e-6)


SIZES = [(640, 480), (333, 500), (20, 31), (37, 501), (256, 255), (3, 200)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("image_size", [(32, 48), (48, 20)])
def test_stretched_as_torchvision(size: tuple[int, int], image_size: tuple[int, int]) -> None:
    transforms = external_module("torchvision.transforms")
    image = Image.fromarray(pixels(*size))
    preparation = dataclasses.replace(SMALL, crop=image_size, resize=image_size, fit="stretch")
    steps = [transforms.Resize(image_size, transforms.InterpolationMode("bicubic"), antialias=True)]
    steps += [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    expected = transforms.Compose(steps)(image).numpy()
    np.testing.assert_allclose(preparation(image), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("image_size", [(32, 48), (48, 20)])
def test_the_middle_of_no_square_as_timm(size: tuple[int, int], image_size: tuple[int, int]) -> None:
    """timm's ResizeKeepRatio, but for its rounding: the longer side is cut to whole pixels, as torchvision's."""
    image = Image.fromarray(pixels(*size))
    preparation = dataclasses.replace(SMALL, crop=image_size, resize=tuple(side + 8 for side in image_size))
    ratio = max((image_size[0] + 8) / size[1], (image_size[1] + 8) / size[0])
    least = (image_size[1] + 8, image_size[0] + 8)
    sides = [max(floor, int(side * ratio + 1e-9)) for side, floor in zip(size, least, strict=True)]
    transforms = external_module("torchvision.transforms")
    steps = [transforms.CenterCrop(image_size), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    expected = transforms.Compose(steps)(image.resize(sides, Image.Resampling.BICUBIC)).numpy()
    np.testing.assert_allclose(preparation(image), expected, rtol=1e-6, atol=1e-6)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_letterbox(width: int, height: int, image_height: int, image_width: int) -> None:
    """The whole picture, its shape kept to half a pixel, in the middle; nothing but bars around it."""
    bar = (7, 200, 90)
    image = Image.new("RGB", (width, height), (250, 30, 140))
    preparation = dataclasses.replace(
        SMALL, crop=(image_height, image_width), resize=(image_height, image_width), fit="letterbox", fill=bar
    )
    found = preparation.pixels(image).transpose(1, 2, 0)
    assert found.shape == (image_height, image_width, 3)
    inside = (found == (250, 30, 140)).all(2)
    assert ((found == bar).all(2) | inside).all()
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    scale = min(image_height / height, image_width / width)
    for seen, side, whole in ((rows, height, image_height), (columns, width, image_width)):
        assert abs(len(seen) - max(1, side * scale)) <= 0.5
        assert 0 <= (whole - 1 - seen[-1]) - seen[0] <= 1
    assert len(rows) == image_height or len(columns) == image_width


def test_order_and_range_of_channels() -> None:
    picture = pixels()
    rgb = dataclasses.replace(SMALL, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    bgr = dataclasses.replace(rgb, channel_order="bgr", mean=(3.0, 2.0, 1.0), std=(8.0, 4.0, 2.0))
    np.testing.assert_array_equal(bgr(picture), rgb(picture)[::-1])
    plain = dataclasses.replace(SMALL, mean=(0.0,) * 3, std=(1.0,) * 3, pixel_range=255)
    np.testing.assert_array_equal(plain(picture), SMALL.pixels(picture).astype(np.float32))
    scaled = dataclasses.replace(
        SMALL, pixel_range=255, mean=tuple(255 * v for v in MEAN), std=tuple(255 * v for v in STD)
    )
    np.testing.assert_allclose(scaled(picture), SMALL(picture), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "preparation",
    [
        SMALL,
        dataclasses.replace(SMALL, channel_order="bgr"),
        dataclasses.replace(SMALL, pixel_range=255, crop=(24, 40), resize=(30, 50)),
        dataclasses.replace(SMALL, crop=40, resize=40, fit="letterbox", fill=(1, 2, 255)),
        dataclasses.replace(SMALL, channels=1, mean=(0.0,), std=(1.0,), crop=(1, 9), resize=(1, 9), fit="stretch"),
    ],
)
def test_manifests_say_it_and_are_understood(preparation: Preparation, tiny_bundle: Path) -> None:
    shape = [1, preparation.channels, *preparation.size]
    stated = {"shape": shape, **json.loads(json.dumps(preparation.facts))}
    manifest = dataclasses.replace(read_manifest(tiny_bundle), input=stated)
    assert preparation_of(manifest) == preparation
    of_old = preparation == SMALL  # what readers of old, who know neither fit nor order nor range, may prepare
    assert isinstance(stated["crop"], int) == isinstance(stated["resize"], int) == of_old


@pytest.mark.parametrize(("phi", "fraction"), [("0", 0.875), ("1", 0.882), ("2", 0.890), ("4", 0.922), ("7", 0.949)])
def test_published_networks_as_timm(phi: str, fraction: float) -> None:
    """timm states the share of the side that is kept; its B3 (0.904) comes to 331 where 32 pixels more are 332."""
    spec = build_network(NetworkRequest(phi=phi)).spec.input
    create_transform = external_module("timm.data").create_transform
    expected = create_transform(
        (3, spec.resolution, spec.resolution), interpolation="bicubic", crop_pct=fraction, mean=MEAN, std=STD
    )
    found = Preparation(channels=3, mean=MEAN, std=STD, **spec.framing)
    image = Image.fromarray(pixels(500, 375))
    np.testing.assert_allclose(found(image), expected(image).numpy(), rtol=1e-6, atol=1e-6)


def test_crop_of_the_published_networks() -> None:
    sides = [build_network(NetworkRequest(phi=str(phi))).spec.input.framing["resize"] for phi in range(8)]
    assert sides == [256, 272, 292, 332, 412, 488, 560, 632]


def test_a_spec_of_ones_own_is_not_padded() -> None:
    assert tiny_spec().input.framing == {"resize": 32, "crop": 32, "interpolation": "bicubic"}


def test_all_kinds_of_pictures_are_one(tmp_path: Path) -> None:
    array = pixels()
    image = Image.fromarray(array)
    expected = SMALL(array)
    path = tmp_path / "a.png"
    image.save(path)
    for same in (path, str(path), path.read_bytes(), image, Image.open(path), np.asfortranarray(array)):
        np.testing.assert_array_equal(SMALL(same), expected)
    assert expected.dtype == np.float32 and expected.shape == (3, 32, 32) and expected.flags.c_contiguous


def test_the_callers_image_is_left_as_it_was(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png")
    opened = Image.open(path)
    SMALL(opened)
    assert np.asarray(opened).shape == (48, 64, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_formats(format: str) -> None:
    data = encoded(pixels(), format)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(read_picture(data)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    """Stored turned or mirrored, shown upright: what the eight values mean, spelt out."""
    upright = pixels(24, 16)
    turned = [
        upright, upright[:, ::-1], upright[::-1, ::-1], upright[::-1],
        upright.transpose(1, 0, 2), np.rot90(upright), upright[::-1, ::-1].transpose(1, 0, 2), np.rot90(upright, -1),
    ]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(np.ascontiguousarray(turned[orientation - 1]), "PNG", exif=exif)
    np.testing.assert_array_equal(np.asarray(read_picture(data)), upright)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = Image.fromarray(pixels()).convert(mode)
    np.testing.assert_array_equal(np.asarray(read_picture(image)), np.asarray(image.convert("RGB")))


def test_palette_with_transparency_is_quiet() -> None:
    """Pillow warns of it, which would be a line on the user's terminal."""
    image = Image.fromarray(pixels()).quantize(16)
    data = encoded(image, "PNG", transparency=bytes(range(16)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(np.asarray(read_picture(data)), np.asarray(image.convert("RGB")))


def test_sixteen_bits_keep_their_upper_half() -> None:
    grey = np.random.default_rng(0).integers(0, 65536, (40, 50)).astype(np.uint16)
    found = np.asarray(read_picture(encoded(Image.fromarray(grey), "PNG")))
    np.testing.assert_array_equal(found, np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize("most", [65535, 4095, 256])
def test_pgm_of_sixteen_bits(most: int) -> None:
    grey = np.random.default_rng(0).integers(0, most + 1, (40, 50))
    data = f"P5\n50 40\n{most}\n".encode() + grey.astype(">u2").tobytes()
    upper = (np.round(grey / most * 65535).astype(np.uint16) >> 8).astype(np.uint8)
    for picture in (data, Image.open(io.BytesIO(data))):
        found = np.asarray(read_picture(picture))
        np.testing.assert_array_equal(found, np.repeat(upper[..., None], 3, axis=2))


def test_pixels_of_32_bits() -> None:
    for mode in ("I", "F"):
        with pytest.raises(ImageError, match="image: pixels of 32 bits: expected 8 or 16 bits a channel"):
            read_picture(encoded(Image.new(mode, (8, 8)), "TIFF"))


def test_grey_networks() -> None:
    preparation = dataclasses.replace(SMALL, channels=1, mean=(0.5,), std=(0.25,))
    image = Image.fromarray(pixels()).convert("L")
    np.testing.assert_allclose(preparation(image), judged(image, preparation), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(preparation(np.asarray(image)), preparation(image))
    np.testing.assert_array_equal(preparation(np.asarray(image)[..., None]), preparation(image))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (b"", "image: empty"),
        (b"hello, I am no picture at all", "image: not a picture; expected JPEG, PNG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "image: is a Git LFS pointer, not the"),
        (b"<html><body>Not found</body></html>", "image: is an HTML page: download the file itself"),
        (encoded(pixels())[:2000], "image: damaged: "),
        (encoded(pixels(), "JPEG")[:700], "image: damaged: "),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "image: not a picture"),
        (np.zeros((4, 4, 4), np.uint8), r"array uint8\[4, 4, 4\]: expected uint8 of \[height, width, 3\]"),
        (np.zeros((4, 4, 3), np.float32), r"array float32\[4, 4, 3\]: expected uint8"),
        (np.zeros((4, 4), np.uint8), "expected uint8"),
        (np.zeros((0, 4, 3), np.uint8), "expected uint8"),
        (np.zeros((2, 4, 4, 3), np.uint8), "expected uint8"),
        (np.zeros((1, 101, 3), np.uint8), "101 x 1 pixels: expected at most 100 times"),
        (Image.new("F", (8, 8)), "image: pixels of 32 bits"),
        (3.5, "a float: expected a path, bytes, a Pillow image or an array"),
        (None, "a NoneType: expected a path"),
    ],
)
def test_what_is_no_picture(picture: object, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        SMALL(picture)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    for name, message in (("none.png", "No such file"), ("empty.png", "empty"), ("text.png", "not a picture")):
        with pytest.raises(ImageError, match=rf"{name}: .*{message}"):
            SMALL(tmp_path / name)
    with pytest.raises(ImageError, match="Is a directory"):
        SMALL(tmp_path)


def test_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(pixels())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="image: too many pixels"):
        SMALL(data)


def test_large_pictures_are_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """From half of its limit on Pillow warns, in whichever thread, also where others change the filters meanwhile."""
    data, small = encoded(pixels(40, 40)), encoded(pixels(20, 20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)

    def read(turn: int) -> int:
        return read_picture(data if turn % 2 else small).width

    with warnings.catch_warnings(record=True) as said:
        for _ in range(3):
            warnings.resetwarnings()
            warnings.simplefilter("always")
            with ThreadPoolExecutor(4) as threads:
                assert set(threads.map(read, range(200))) == {20, 40}
    assert said == []


def test_large_picture_in_a_process_of_its_own(tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_000)).save(tmp_path / "x.png")  # 90 million pixels
    code = "import sys; from effgen.runtime.picture import read_picture; print(read_picture(sys.argv[1], 'L').size)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x.png"], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(10000, 9000)\n", "")


def test_every_cut_is_an_error_or_a_picture() -> None:
    """Whatever Pillow's decoders trip over stays one kind of error."""
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        data = encoded(pixels(16, 16), format)
        for end in range(0, len(data), 7):
            flipped = bytearray(data)
            flipped[end] ^= 0xFF
            for damaged in (data[:end], bytes(flipped)):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Pillow's own, of odd TIFF tags
                    try:
                        assert SMALL(damaged).shape == (3, 32, 32)
                    except ImageError as error:
                        assert "\n" not in str(error)


def test_manifest_that_does_not_say_how(tiny_bundle: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    assert preparation_of(manifest).crop == 32
    for change, message in (
        ({"resize": None}, r"does not say how a picture is prepared \(resize\)"),
        ({"resize": 31}, "makes no sense"),
        ({"mean": [0.5]}, "makes no sense"),
        ({"std": [0.0, 1.0, 1.0]}, "makes no sense"),
        ({"interpolation": "magic"}, "interpolation 'magic' is not known"),
        ({"shape": [1, 4, 32, 32]}, "takes 4 channels"),
        ({"shape": [1, 3, 32, 16]}, "makes no sense"),
        ({"crop": [32, 32, 32]}, "makes no sense"),
        ({"crop": [32, 16]}, "makes no sense"),
        ({"resize": [32, 31]}, "makes no sense"),
        ({"resize": True}, "makes no sense"),
        ({"fit": "stretch", "resize": 40}, "makes no sense"),
        ({"fit": "letterbox", "fill": [0, 0, 256]}, "makes no sense"),
        ({"fit": "squeeze"}, "fit 'squeeze' is not known"),
        ({"channel_order": "gbr"}, "channel_order 'gbr' is not known"),
        ({"pixel_range": 100}, "pixel_range 100 is not known"),
    ):
        with pytest.raises(BundleError, match=message):
            preparation_of(dataclasses.replace(manifest, input={**manifest.input, **change}))
