"""How pictures become a network's image: as a spec says, or of a file its options, its metadata and custom.

An ONNX file has text by key (`metadata_props`), which several programs use for what a picture needs:

    effgen.mean, ...            effgen export
    Image.BitmapPixelFormat,    ONNX's own convention (docs/MetadataProps.md of onnx), which Windows ML reads;
    Image.NominalPixelRange     where only one is there, Rgb8 and NominalRange_0_255
    author = Ultralytics, task  YOLO: 0 to 1; letterbox with grey bars, but of a classifier the middle
    mean, std                   lists of numbers, of pixels from 0 to 255 where one of them is above 1
    names, labels, ...          the classes' names: a list, a dict by number (also as Python writes them), or lines

What makes no sense there is passed over: it was written for somebody else.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from effgen.errors import GraphError, ImageError
from effgen.files.bounded import UnreadableError, check_tree, value_from_json
from effgen.network.spec import InputSpec, Interpolation
from effgen.runtime.labels import checked_labels
from effgen.runtime.picture import Colour, Preparation
from effgen.words import ChannelOrder, Fit

#: Pixels of a resized picture's shorter side, at most.
_MOST_PIXELS = 2 * 8192

#: A `resize` of metadata that says: to the image itself, whose size the metadata need not know.
_NOTHING_CUT = 0


@dataclass(frozen=True)
class PictureOptions:
    """What a user says of a file's pictures; None: what the file says, else what is usual for ImageNet.

    `resize`: pixels of the shorter side, for the fit "crop"; the others as in `Preparation`.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channel_order: ChannelOrder | None = None
    pixel_range: int | None = None
    fit: Fit | None = None
    fill: Colour | None = None
    interpolation: Interpolation | None = None
    resize: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """Those that say something."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class FileMetadata:
    """What a file says of pictures, by the fields of `PictureOptions`; the classes' names; and who says it."""

    stated: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    source: str = ""


def preparation_from_spec(image: InputSpec, size: tuple[int, int] | None = None) -> Preparation:
    """As bundles of the spec prepare a picture; `size`: to another height and width, of which nothing is cut off."""
    own = Preparation(image.channels, mean=tuple(image.mean), std=tuple(image.std), **image.framing)
    return own if size is None else own.of_size(size)


def preparation_of_file(
    where: str, channels: int, size: tuple[int, int], options: PictureOptions, metadata: FileMetadata
) -> Preparation:
    """Options, then what the file's metadata says, then what is usual: of a square the middle seven eighths (256 ->
    224, 342 -> 299), ImageNet's normalisation where there are three channels.

    A picture for an image that is no square is stretched: nobody's custom says what to cut off. Raises GraphError for
    options that make no sense together, or for an image of `where` of that size (height, width) and those channels.
    """
    asked = options.given
    chosen = {**metadata.stated, **asked}
    fit = _asked_fit(options) or metadata.stated.get("fit") or ("crop" if size[0] == size[1] else "stretch")
    order: ChannelOrder = chosen.get("channel_order", "rgb")
    pixel_range, mean, std = _normalisation(asked, metadata.stated, channels, order)
    _check_counts(where, channels, mean, std)
    resize = _resize(chosen.get("resize"), size, where, "resize" in asked) if fit == "crop" else size
    return Preparation(
        channels=channels,
        crop=_shortest(size),
        resize=_shortest(resize),
        interpolation=chosen.get("interpolation", "bilinear"),
        mean=mean,
        std=std,
        channel_order=order,
        pixel_range=pixel_range,
        fit=fit,
        fill=chosen.get("fill", (0, 0, 0)),
    )


def _shortest(size: tuple[int, int]) -> int | tuple[int, int]:
    return size[0] if size[0] == size[1] else size


def _asked_fit(options: PictureOptions) -> Fit | None:
    """The fit that the options say or mean. Raises GraphError where they contradict each other."""
    for option, value, needed in (("--resize", options.resize, "crop"), ("--fill", options.fill, "letterbox")):
        if value is not None and options.fit not in (None, needed):
            raise GraphError(f"{option}: means nothing with --fit {options.fit}; expected --fit {needed}")
    if options.resize is not None and options.fill is not None:
        raise GraphError("--resize, --fill: one is of --fit crop, the other of letterbox; leave one of them out")
    meant: Fit | None = "crop" if options.resize is not None else "letterbox" if options.fill is not None else None
    return options.fit or meant


def _normalisation(
    asked: Mapping[str, Any], stated: Mapping[str, Any], channels: int, order: ChannelOrder
) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """The range of pixels, mean and std; those that nobody says are ImageNet's of pixels from 0 to 1, 0 and 1 of
    others."""
    of_user = "mean" in asked or "std" in asked
    implied = (_range_of(asked) or 1) if of_user else stated.get("pixel_range", 1)
    pixel_range = int(asked.get("pixel_range", implied))
    usual = InputSpec(resolution=1)
    numbers: dict[str, tuple[float, ...]] = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    if channels == len(usual.mean) and pixel_range == 1:
        step = 1 if order == "rgb" else -1
        numbers = {"mean": tuple(usual.mean[::step]), "std": tuple(usual.std[::step])}
    if pixel_range == stated.get("pixel_range", 1):  # the file's are of the file's range
        numbers |= {key: stated[key] for key in numbers if key in stated}
    numbers |= {key: asked[key] for key in numbers if key in asked}
    return pixel_range, numbers["mean"], numbers["std"]


def _range_of(stated: Mapping[str, Any]) -> int | None:
    """255 where mean and std can only be of such pixels; None where they may be of either range."""
    numbers = [abs(value) for key in ("mean", "std") for value in stated.get(key, ())]
    return 255 if any(value > 1 for value in numbers) else None


def _check_counts(where: str, channels: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    for option, values in (("--mean", mean), ("--std", std)):
        if len(values) != channels:
            text = ",".join(f"{value:g}" for value in values)
            raise GraphError(f"{option} {text}: the image of {where} has {channels} channels; expected as many")


def _resize(stated: int | None, size: tuple[int, int], where: str, asked: bool) -> tuple[int, int]:
    """Height and width that a picture is to cover: `stated` of the shorter side, or eight sevenths."""
    shorter = min(size)
    side = round(shorter * 8 / 7) if stated is None else stated
    if not shorter <= side <= _MOST_PIXELS:
        if asked:
            low = f"{shorter}, the shorter side of the image of {where}"
            raise GraphError(f"--resize {side}: expected from {low}, to {_MOST_PIXELS} pixels")
        side = shorter
    height, width = (round(extent * side / shorter) for extent in size)
    return height, width


def numbers_from_text(option: str, text: str) -> tuple[float, ...]:
    """`0.485,0.456,0.406` -> the numbers. Raises GraphError for what is none; --std must be above 0."""
    numbers = _numbers(text)
    if numbers is None or (option == "--std" and min(numbers) <= 0):
        above = " above 0" if option == "--std" else ""
        raise GraphError(f"{option} {text}: expected numbers{above} with commas between, one a channel")
    return numbers


def colour_from_text(text: str) -> Colour:
    """`114`, a grey, or `255,255,0`, red, green and blue. Raises GraphError for what is none."""
    numbers = _numbers(text) or ()
    parts = tuple(int(number) for number in numbers if number == int(number) and 0 <= number <= 255)
    if len(parts) != len(numbers) or len(parts) not in (1, 3):
        raise GraphError(f"--fill {text}: expected a grey from 0 to 255, or red, green and blue with commas between")
    return (parts[0], parts[0], parts[0]) if len(parts) == 1 else (parts[0], parts[1], parts[2])


def _numbers(text: str) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def read_metadata(texts: Mapping[str, str], channels: int, classes: int | None) -> FileMetadata:
    """What the metadata of a file with so many channels and classes (None: it is no classifier) says."""
    labels = None if classes is None else _labels(texts, classes)
    for source, reader in _READERS:
        stated = {key: value for key, value in reader(texts, channels).items() if value is not None}
        if stated:
            return FileMetadata(stated, labels, source)
    return FileMetadata({}, labels, "")


def _of_effgen(texts: Mapping[str, str], channels: int) -> dict[str, Any]:
    """What `effgen export` writes; the size that pictures are resized to is stated in pixels of the shorter side."""
    found = {key: _value(texts.get(f"effgen.{key}")) for key in ("mean", "std", "resize", "pixel_range", "fill")}
    resize = found["resize"]
    words = {
        "channel_order": _one_of(texts.get("effgen.channel_order"), ("rgb", "bgr")),
        "fit": _one_of(texts.get("effgen.fit"), ("crop", "stretch", "letterbox")),
        "interpolation": _one_of(texts.get("effgen.interpolation"), ("nearest", "bilinear", "bicubic", "lanczos")),
    }
    if not _are_numbers(found["mean"], channels) or not _are_numbers(found["std"], channels):
        return {}
    if min(found["std"]) <= 0:
        return {}
    sides = resize if isinstance(resize, list) else [resize]
    return {
        "mean": tuple(found["mean"]),
        "std": tuple(found["std"]),
        "resize": min(sides) if sides and all(type(side) is int for side in sides) else None,
        "pixel_range": found["pixel_range"] if found["pixel_range"] in (1, 255) else None,
        "fill": tuple(found["fill"]) if _is_colour(found["fill"]) else None,
        **words,
        "fit": words["fit"] or "crop",
    }


#: Values of `Image.NominalPixelRange`: the range of pixels, and the mean and std that make of it what is asked for.
_NOMINAL_RANGES = {
    "NominalRange_0_255": (255, 0.0, 1.0),
    "Normalized_0_1": (1, 0.0, 1.0),
    "Normalized_1_1": (1, 0.5, 0.5),
    "NominalRange_16_235": (255, -16 * 255 / 219, 255 / 219),
}

_PIXEL_FORMATS: dict[str, tuple[ChannelOrder, int]] = {"Rgb8": ("rgb", 3), "Bgr8": ("bgr", 3), "Gray8": ("rgb", 1)}


def _of_windows_ml(texts: Mapping[str, str], channels: int) -> dict[str, Any]:
    pixel_format, nominal = texts.get("Image.BitmapPixelFormat"), texts.get("Image.NominalPixelRange")
    if pixel_format is None and nominal is None:
        return {}
    order, count = _PIXEL_FORMATS.get(pixel_format or ("Rgb8" if channels == 3 else "Gray8"), ("rgb", 0))
    if count != channels:
        return {}
    pixel_range, mean, std = _NOMINAL_RANGES.get(nominal or "NominalRange_0_255", (0, 0.0, 0.0))
    if not pixel_range:
        return {}
    numbers = {"mean": (mean,) * channels, "std": (std,) * channels}
    return {"channel_order": order, "pixel_range": pixel_range, "fit": "crop", "resize": _NOTHING_CUT, **numbers}


def _of_ultralytics(texts: Mapping[str, str], channels: int) -> dict[str, Any]:
    """YOLO's own preprocessing: Pillow's bilinear of a classifier, OpenCV's of the others."""
    if texts.get("author") != "Ultralytics":
        return {}
    numbers = {"pixel_range": 1, "mean": (0.0,) * channels, "std": (1.0,) * channels, "channel_order": "rgb"}
    if texts.get("task") == "classify":
        return {**numbers, "fit": "crop", "resize": _NOTHING_CUT}
    return {**numbers, "fit": "letterbox", "fill": (114, 114, 114)}


def _of_mean_and_std(texts: Mapping[str, str], channels: int) -> dict[str, Any]:
    found = {key: _list_of_numbers(texts.get(key, ""), channels) for key in ("mean", "std")}
    if not found["mean"] or not found["std"] or min(found["std"]) <= 0:
        return {}
    return {**found, "pixel_range": _range_of(found) or 1}


#: Who is asked first.
_READERS = (
    ("effgen", _of_effgen),
    ("Ultralytics", _of_ultralytics),
    ("Image.BitmapPixelFormat, Image.NominalPixelRange", _of_windows_ml),
    ("mean, std", _of_mean_and_std),
)

#: Characters of a constant as Python writes it: a thousand classes' names have 30,000.
_MOST_LITERAL = 2**18

_NAMES = ("names", "labels", "classes", "class_names")


def _labels(texts: Mapping[str, str], classes: int) -> tuple[str, ...] | None:
    for key in _NAMES:
        value = _value(texts.get(key))
        if isinstance(value, dict):
            by_number = {str(number): name for number, name in value.items()}
            value = [by_number.get(str(number)) for number in range(classes)] if len(value) == classes else None
        if value is None and key in texts:
            text = texts[key].strip("\n")
            value = text.split("\n" if "\n" in text else ",")
        if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
            try:
                return checked_labels(list(value), classes, key)
            except ImageError:
                continue
    return None


def _list_of_numbers(text: str, count: int) -> tuple[float, ...] | None:
    value = _value(text)
    if not isinstance(value, list | tuple):
        value = _numbers(text.replace(" ", ",") if "," not in text else text)
    return tuple(map(float, value)) if _are_numbers(list(value or ()), count) else None


def _value(text: str | None) -> Any:
    """JSON, or a constant as Python writes it; None for anything else."""
    if text is None:
        return None
    try:
        return value_from_json(text)
    except UnreadableError:
        pass
    try:
        value = ast.literal_eval(text) if len(text) <= _MOST_LITERAL else None
        check_tree(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError, UnreadableError):
        return None
    return value


def _one_of(text: str | None, known: tuple[str, ...]) -> str | None:
    return text if text in known else None


def _are_numbers(values: Any, count: int) -> bool:
    numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    return numbers and len(values) == count and all(map(math.isfinite, values))


def _is_colour(values: Any) -> bool:
    return isinstance(values, list) and len(values) == 3 and all(type(v) is int and 0 <= v <= 255 for v in values)
