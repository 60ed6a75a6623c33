"""What a file is by its first bytes, where it is not what it should be: a message that names it tells the way out."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from effgen.files.bounded import MOST_WEIGHTS_BYTES, UnreadableError, read_bytes

#: How many bytes of a file's beginning tell its kind; a pointer of Git LFS is shorter.
HEAD_BYTES = 1024

#: Members of a zip archive that is looked into.
MOST_MEMBERS = 100_000

#: How many names of an archive a message lists.
_LISTED = 3


@dataclass(frozen=True)
class Kind:
    """What a file is, with its article ("a gzip archive"), and what to do about it."""

    what: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.what}: {self.way_out}"


#: What `--weights` takes and `--onnx` does not, and the other way round.
PYTORCH = Kind("a PyTorch checkpoint", "give it as --weights, beside --spec and --phi")
ONNX = Kind("an ONNX model", "give it as --onnx, without --spec and --phi")

_LFS = Kind("a Git LFS pointer, not the file itself", "fetch that with `git lfs pull` (or download it again by hand)")
_PAGE = "download the file itself: the link leads to a page, or wants a login"
_ANOTHER = "give the file that is meant"
_UNPACK = "unpack it and give the file inside"
_KERAS = "export the model to ONNX (tf2onnx, keras' model.export) and give that as --onnx"

#: How files begin that no reader here takes; longer beginnings first where two are alike.
_BEGINNINGS: tuple[tuple[bytes, Kind], ...] = (
    (b"version https://git-lfs.github.com/spec/", _LFS),
    (b"version https://hawser.github.com/spec/", _LFS),
    (b"\x1f\x8b", Kind("a gzip archive", "gunzip it and give the file inside")),
    (b"BZh", Kind("a bzip2 archive", _UNPACK)),
    (b"\xfd7zXZ\x00", Kind("an xz archive", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", Kind("a zstd archive", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", Kind("a rar archive", _UNPACK)),
    (b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file, as Keras writes", _KERAS)),
    (b"\x93NUMPY", Kind("a NumPy array", _ANOTHER)),
    (b"\x89PNG\r\n\x1a\n", Kind("a PNG picture", _ANOTHER)),
    (b"\xff\xd8\xff", Kind("a JPEG picture", _ANOTHER)),
    (b"GIF8", Kind("a GIF picture", _ANOTHER)),
    (b"%PDF-", Kind("a PDF document", _ANOTHER)),
    (b"GGUF", Kind("a GGUF file of a language model", "convolutional networks come as .onnx, .pth or .safetensors")),
    (b"\x7fELF", Kind("a program or library", _ANOTHER)),
)

#: TFLite's mark stands behind an offset; tar's at the end of its first header.
_TFLITE_AT, _TAR_AT = 4, 257


def kind_of_bytes(data: bytes) -> Kind | None:
    """The kind of a file that begins with `data` (whole, or its first HEAD_BYTES), None where nothing is recognised.

    To be asked when a reader has failed: what a well-formed file of safetensors or protobuf begins with is arbitrary.
    """
    if not data:
        return Kind("an empty file", "its download or its writing was cut short: get it again")
    for beginning, kind in _BEGINNINGS:
        if data.startswith(beginning):
            return kind
    if re.match(rb"\x08[\x01-\x20][\x12\x1a\x22\x2a\x32\x3a]", data):  # ir_version, then a text or the graph
        return ONNX
    if data[_TFLITE_AT : _TFLITE_AT + 4] == b"TFL3":
        return Kind("a TensorFlow Lite model", "give its source model as ONNX (tf2onnx --tflite converts it)")
    if data[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return Kind("a tar archive", "unpack it (tar -xf) and give the file inside")
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(data)
    return _text_kind(data[:HEAD_BYTES])


def kind_of_file(path: Path) -> Kind | None:
    """The same of a file on disk, of which the beginning is read (of a zip its list); None where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        return kind_of_bytes(read_bytes(path, MOST_WEIGHTS_BYTES) if head.startswith(b"PK\x03\x04") else head)
    except (OSError, ValueError, UnreadableError):
        return None


def _zip_kind(data: bytes) -> Kind | None:
    """None for a zip that is cut short, about which its readers know more."""
    if data.count(b"PK\x01\x02") > MOST_MEMBERS:
        return Kind(f"a zip archive of more than {MOST_MEMBERS:,} files", _UNPACK)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError):
        return None
    for belongs, kind in _ZIPS:
        if belongs(names):
            return kind
    listed = ", ".join(ascii(name)[1:-1] for name in names[:_LISTED]) or "nothing"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return Kind(f"a zip archive of {listed}{more}", _UNPACK)


def _has(*ends: str) -> Callable[[list[str]], bool]:
    return lambda names: any(name == end or name.endswith(f"/{end}") for name in names for end in ends)


_ZIPS: tuple[tuple[Callable[[list[str]], bool], Kind], ...] = (
    (
        _has("constants.pkl"),
        Kind("a TorchScript archive, which is a program", "save model.state_dict() with torch.save instead"),
    ),
    (
        _has("archive_format", "serialized_exported_program.json"),
        Kind("an exported program of torch.export", "export the model as ONNX, or save model.state_dict()"),
    ),
    (_has("data.pkl"), PYTORCH),
    (_has("model.weights.h5"), Kind("a Keras archive", _KERAS)),
    (
        lambda names: bool(names) and all(name.endswith(".npy") for name in names),
        Kind("NumPy's archive of arrays (.npz)", "save them with safetensors.numpy.save_file under the layers' names"),
    ),
)


def _text_kind(head: bytes) -> Kind | None:
    """Pages, error messages and other text where a model should be."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return Kind("an HTML page", _PAGE)
    if start.startswith(b"<?xml") and (b"<error>" in start or b"accessdenied" in start or b"html" in start):
        return Kind("an error page of a server (XML)", _PAGE)
    if re.match(rb'\{\s*["}]', start):
        return Kind("JSON text", "give the file that it speaks of")
    if start.startswith((b"<?xml", b"<net ")):
        return Kind("an XML file (OpenVINO's models are of two)", "give the ONNX file that it was made from")
    return None
