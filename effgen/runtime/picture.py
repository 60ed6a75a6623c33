"""Pictures as the network takes them: decoded by Pillow, turned upright, resized, cropped, normalised.

Pillow is imported when the first picture is read, not before.
"""

from __future__ import annotations

import io
import threading
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from effgen.errors import BundleError, ImageError
from effgen.files.contents import kind_of_bytes, kind_of_file
from effgen.runtime.manifest import Manifest

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

#: Pillow's mode for a network's channels.
_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Preparation:
    """From a picture to `(channels, height, width)` float32, as the manifest says."""

    channels: int
    crop: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        """`(channels, crop, crop)`. Raises ImageError where `picture` is none or does not fit."""
        channels = self.pixels(picture)
        prepared = np.empty(channels.shape, np.float32)
        for table, channel, out in zip(self._tables, channels, prepared, strict=True):
            np.take(table, channel, out=out, mode="clip")  # nothing to clip: "raise" would go through a buffer
        return prepared

    def pixels(self, picture: Picture) -> NDArray[np.uint8]:
        """The picture's middle before it is normalised, `(channels, crop, crop)`. Raises ImageError as a call does."""
        from PIL.Image import Resampling

        image = read_picture(picture, _MODES[self.channels])
        short, long = sorted(image.size)
        if long > MOST_ELONGATED * short:
            raise ImageError(
                f"{_named(picture)}: {image.width} x {image.height} pixels: expected at most {MOST_ELONGATED} times as "
                f"long as wide"
            )
        sides = {short: self.resize, long: self.resize * long // short} if long > short else {short: self.resize}
        resized = image.resize((sides[image.width], sides[image.height]), Resampling[self.interpolation.upper()])
        left, top = (round((side - self.crop) / 2) for side in resized.size)
        middle = np.asarray(resized.crop((left, top, left + self.crop, top + self.crop)))
        return middle.reshape(self.crop, self.crop, self.channels).transpose(2, 0, 1)

    @cached_property
    def _tables(self) -> NDArray[np.float32]:
        """What each of the 256 values of a pixel becomes, by channel."""
        values = np.arange(256, dtype=np.float32) / np.float32(255)
        mean, std = (np.array(numbers, np.float32)[:, None] for numbers in (self.mean, self.std))
        tables: NDArray[np.float32] = (values - mean) / std
        return tables


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
    crop, resize, mean, std = (stated[key] for key in ("crop", "resize", "mean", "std"))
    fits = crop == height == width and isinstance(resize, int) and crop <= resize <= 2 * 8192
    if not (fits and _are_numbers(mean, channels) and _are_numbers(std, channels) and all(std)):
        raise BundleError(f"{manifest.name}: the manifest's input makes no sense; compile the bundle again")
    if stated["interpolation"] not in ("nearest", "bilinear", "bicubic", "lanczos"):
        raise BundleError(f"{manifest.name}: interpolation {stated['interpolation']!r} is not known to this effgen")
    return Preparation(channels, crop, resize, stated["interpolation"], tuple(mean), tuple(std))


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


def _are_numbers(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(isinstance(value, int | float) for value in values)
