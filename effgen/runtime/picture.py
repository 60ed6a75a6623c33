"""Pictures as the network takes them: decoded by Pillow, turned upright, resized, cropped, normalised.

Pillow is imported when the first picture is read, not before.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BundleError, ImageError
from effgen.files.contents import kind_of_bytes, kind_of_file
from effgen.runtime.manifest import Manifest
from effgen.words import ChannelOrder, Fit

if TYPE_CHECKING:
    from PIL.Image import Image

#: A file's path, a file's bytes, a Pillow image, or pixels `(height, width, channels)` of uint8, RGB or grey.
Picture: TypeAlias = "str | Path | bytes | Image | NDArray[np.uint8]"

#: Pillow's names of the formats read, and their files' suffixes. Not all that Pillow knows: it starts Ghostscript for
#: some, which a stranger's file is not to decide.
FORMATS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)

#: The longer side over the shorter. The shorter is resized to the network's: a thread of 1 x 60000 pixels would become
#: gigabytes.
MOST_ELONGATED = 100

#: Held while the process's warning filters change.
_FILTERS = threading.Lock()

#: Pixels of a resized picture's shorter side, at most.
_MOST_PIXELS = 2 * 8192

#: Pillow's mode for a network's channels.
_MODES = {1: "L", 3: "RGB"}


#: Colour of the bars beside a picture: red, green, blue from 0 to 255.
Colour: TypeAlias = tuple[int, int, int]

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


@dataclass(frozen=True)
class Preparation:
    """From a picture to `(channels, height, width)` float32, as the manifest says.

    `crop` is the image's size and `resize` the size that the picture is resized to cover (`fit` "crop"), to have
    ("stretch") or to fit into ("letterbox", the rest in the colour `fill`); both are pixels of a square's side, or
    (height, width). `mean` and `std`, by the network's channels, are of pixels from 0 to `pixel_range`.
    """

    channels: int
    crop: int | tuple[int, int]
    resize: int | tuple[int, int]
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: ChannelOrder = "rgb"
    pixel_range: int = 1
    fit: Fit = "crop"
    fill: Colour = (0, 0, 0)

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        """`(channels, height, width)`. Raises ImageError where `picture` is none or does not fit."""
        channels = self.pixels(picture)
        prepared = np.empty(channels.shape, np.float32)
        for table, channel, out in zip(self._tables, channels, prepared, strict=True):
            np.take(table, channel, out=out, mode="clip")  # nothing to clip: "raise" would go through a buffer
        return prepared

    def pixels(self, picture: Picture) -> NDArray[np.uint8]:
        """The picture before it is normalised, `(channels, height, width)`. Raises ImageError as a call does."""
        image = read_picture(picture, _MODES[self.channels])
        short, long = sorted(image.size)
        if long > MOST_ELONGATED * short:
            raise ImageError(
                f"{_named(picture)}: {image.width} x {image.height} pixels: expected at most {MOST_ELONGATED} times as "
                f"long as wide"
            )
        framed = np.asarray(self._letterboxed(image) if self.fit == "letterbox" else self._cut(image))
        channels = framed.reshape(*self.size, self.channels).transpose(2, 0, 1)
        return channels[::-1] if self.channel_order == "bgr" else channels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return _sides(self.crop)

    @property
    def covered(self) -> tuple[int, int]:
        """Height and width that the picture is resized to cover, or to have."""
        return _sides(self.resize)

    def of_size(self, size: tuple[int, int]) -> Preparation:
        """The same for an image of another height and width, of which nothing is cut off."""
        return replace(self, crop=size, resize=size)

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest's `input` says of it, plain JSON."""
        fill = {"fill": list(self.fill)} if self.fit == "letterbox" else {}
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "pixel_range": self.pixel_range,
            "channel_order": self.channel_order,
            "resize": self._plain(self.resize),
            "crop": self._plain(self.crop),
            "interpolation": self.interpolation,
            "fit": self.fit,
            **fill,
        }

    def _plain(self, size: int | tuple[int, int]) -> int | list[int]:
        """A square's side where readers of old, who know neither `fit` nor what follows it, prepare pictures rightly,
        else the two sides, which they refuse."""
        height, width = _sides(size)
        as_of_old = (self.channel_order, self.pixel_range, self.fit, height) == ("rgb", 1, "crop", width)
        return height if as_of_old else [height, width]

    def _cut(self, image: Image) -> Image:
        """The picture resized, and of the result the middle."""
        resized = self._resized(image, *(_covering if self.fit == "crop" else _same)(self.resize, image))
        height, width = self.size
        left, top = round((resized.width - width) / 2), round((resized.height - height) / 2)
        return resized.crop((left, top, left + width, top + height))

    def _letterboxed(self, image: Image) -> Image:
        """The whole picture in the middle, between bars; as far up or to the left where the rest is odd."""
        from PIL import Image

        height, width = self.size
        scale = min(height / image.height, width / image.width)
        inner = self._resized(image, *(max(1, round(side * scale)) for side in (image.height, image.width)))
        framed = Image.new("RGB", (width, height), self.fill).convert(image.mode)
        framed.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
        return framed

    def _resized(self, image: Image, height: int, width: int) -> Image:
        from PIL.Image import Resampling

        return image.resize((width, height), Resampling[self.interpolation.upper()])

    @cached_property
    def _tables(self) -> NDArray[np.float32]:
        """What each of the 256 values of a pixel becomes, by channel."""
        values = np.arange(256, dtype=np.float32) / np.float32(255 / self.pixel_range)
        mean, std = (np.array(numbers, np.float32)[:, None] for numbers in (self.mean, self.std))
        tables: NDArray[np.float32] = (values - mean) / std
        return tables


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _covering(size: int | tuple[int, int], image: Image) -> tuple[int, int]:
    """Height and width of the picture, its shape kept, that just covers `size`."""
    height, width = _sides(size)
    if height * image.width >= width * image.height:
        return height, max(width, height * image.width // image.height)
    return max(height, width * image.height // image.width), width


def _same(size: int | tuple[int, int], image: Image) -> tuple[int, int]:
    return _sides(size)


def preparation_of(manifest: Manifest) -> Preparation:
    """How the bundle's pictures are prepared. Raises BundleError where the manifest does not say, or says nonsense."""
    stated, (_, channels, height, width) = manifest.input, manifest.input["shape"]
    missing = [key for key in ("resize", "crop", "interpolation", "mean", "std") if stated.get(key) is None]
    if missing:
        raise BundleError(
            f"{manifest.name}: the manifest does not say how a picture is prepared ({', '.join(missing)}): do it "
            f"yourself and call the model with the float32 array"
        )
    if channels not in _MODES:
        raise BundleError(f"{manifest.name}: takes {channels} channels, pictures have 1 or 3: call it with an array")
    for key, known, usual in _CHOICES:
        if stated.get(key, usual) not in known:
            raise BundleError(f"{manifest.name}: {key} {stated[key]!r} is not known to this effgen")
    crop, resize, mean, std = (stated[key] for key in ("crop", "resize", "mean", "std"))
    fill = stated.get("fill", [0, 0, 0])
    sides, numbers = (crop, resize), (mean, std)
    makes_sense = all(map(_are_sides, sides)) and all(_are_numbers(values, channels) for values in numbers)
    if not (makes_sense and all(std) and _is_colour(fill) and _fit(stated, (height, width))):
        raise BundleError(f"{manifest.name}: the manifest's input makes no sense; compile the bundle again")
    return Preparation(
        channels=channels,
        crop=_as_sides(crop),
        resize=_as_sides(resize),
        interpolation=stated["interpolation"],
        mean=tuple(mean),
        std=tuple(std),
        channel_order=stated.get("channel_order", "rgb"),
        pixel_range=stated.get("pixel_range", 1),
        fit=stated.get("fit", "crop"),
        fill=(fill[0], fill[1], fill[2]),
    )


#: Keys of a manifest's input, the values that are known, and what one that does not say it means.
_CHOICES: tuple[tuple[str, tuple[Any, ...], Any], ...] = (
    ("interpolation", _INTERPOLATIONS, None),
    ("channel_order", get_args(ChannelOrder), "rgb"),
    ("pixel_range", (1, 255), 1),
    ("fit", get_args(Fit), "crop"),
)


def _fit(stated: Mapping[str, Any], size: tuple[int, int]) -> bool:
    """Whether the sizes are those of the image, and of a picture that covers it."""
    crop, resize = (_sides(_as_sides(stated[key])) for key in ("crop", "resize"))
    exact = stated.get("fit", "crop") != "crop"
    covers = resize == crop if exact else all(r >= c for r, c in zip(resize, crop, strict=True))
    return crop == size and covers and max(resize) <= _MOST_PIXELS


def _are_sides(value: Any) -> bool:
    """A side, or a height and a width."""
    sides = value if isinstance(value, list) and len(value) == 2 else [value]
    return all(type(side) is int and side > 0 for side in sides)


def _as_sides(value: Any) -> int | tuple[int, int]:
    """As `Preparation` takes them: one number for a square."""
    height, width = value if isinstance(value, list) else (value, value)
    return height if height == width else (height, width)


def read_picture(picture: Picture, mode: str = "RGB") -> Image:
    """The picture decoded, upright as its EXIF orientation says, and in Pillow's `mode` ("RGB", "L").

    Of an animation the first frame; transparency is dropped. Raises ImageError, one line: missing, not a picture of
    the FORMATS, damaged, too large (what Pillow takes for a decompression bomb), or pixels of more than 16 bits.
    """
    from PIL import ImageOps

    if isinstance(picture, np.ndarray):
        return _image_from_pixels(picture, mode)
    try:
        with _opened(picture) as image:
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
                raise ImageError(f"{_named(picture)}: pixels of 32 bits: expected 8 or 16 bits a channel")
            return image if image.mode == mode else _eight_bits(image).convert(mode)
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them trip over
        raise ImageError(f"{_named(picture)}: {_reason(picture, error)}") from None


def check_header(picture: Path) -> None:
    """Raise ImageError where the file cannot be read or does not begin as a picture does; nothing is decoded."""
    try:
        with _opened(picture):
            pass
    except Exception as error:
        raise ImageError(f"{_named(picture)}: {_reason(picture, error)}") from None


def _opened(picture: str | Path | bytes | Image) -> Image:
    from PIL import Image

    if isinstance(picture, Image.Image):
        image = picture.copy()  # leaving the block closes what it is given
        image.format = picture.format
        return image
    if not isinstance(picture, str | Path | bytes):
        raise ImageError(f"a {type(picture).__name__}: expected a path, bytes, a Pillow image or an array")
    _hush_size_warnings()
    source = io.BytesIO(picture) if isinstance(picture, bytes) else Path(picture)
    return Image.open(source, formats=tuple(FORMATS))


def _hush_size_warnings() -> None:
    """Let Pillow's limit be its error. From half of it on it warns, which would be raw lines on the user's terminal.

    The filters are the process's: `warnings.catch_warnings` would let threads undo each other's. So ours stays, and is
    set again only where another took it away.
    """
    from PIL.Image import DecompressionBombWarning

    with _FILTERS:
        if not any(action == "ignore" and kind is DecompressionBombWarning for action, _, kind, *_ in warnings.filters):
            warnings.simplefilter("ignore", DecompressionBombWarning)


def _eight_bits(image: Image) -> Image:
    """What `convert` takes without loss or a warning: it cuts values of 16 bits off at 255. Of PGM's, Pillow makes "I",
    whatever the file's maximum spread over all 16."""
    from PIL import Image

    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGBA") if image.mode == "P" and "transparency" in image.info else image


def _image_from_pixels(pixels: NDArray[Any], mode: str) -> Image:
    from PIL import Image

    channels = 1 if pixels.ndim == 2 else pixels.shape[-1] if pixels.ndim == 3 else 0
    expected = len(mode) if mode == "RGB" else 1
    if pixels.dtype != np.uint8 or channels != expected or not pixels.size:
        raise ImageError(
            f"{_named(pixels)}: expected uint8 of [height, width, {expected}]; float32 images that are prepared "
            f"already go to the model itself"
        )
    return Image.fromarray(np.ascontiguousarray(pixels if expected == 3 else pixels.reshape(pixels.shape[:2])))


def _reason(picture: Picture, error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        empty = picture == b"" or (isinstance(picture, str | Path) and Path(picture).stat().st_size == 0)
        if empty:
            return "empty"
        kind = kind_of_bytes(picture) if isinstance(picture, bytes) else kind_of_file(Path(str(picture)))
        return f"is {kind}" if kind else f"not a picture; expected {', '.join(FORMATS)}"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too many pixels; make it smaller first"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"damaged: {' '.join(str(error).split()) or type(error).__name__}"


def _named(picture: Picture) -> str:
    """How an error calls it."""
    if isinstance(picture, str | Path):
        return printable(picture)
    if isinstance(picture, np.ndarray):
        return f"array {picture.dtype}{list(picture.shape)}"
    return "image"


def printable(path: str | Path) -> str:
    """The path as text that can be encoded: a file's name may hold any bytes."""
    return str(path).encode(errors="replace").decode()


def _is_colour(values: Any) -> bool:
    whole = isinstance(values, list) and all(type(value) is int and 0 <= value <= 255 for value in values)
    return whole and len(values) == 3


def _are_numbers(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(isinstance(value, int | float) for value in values)
