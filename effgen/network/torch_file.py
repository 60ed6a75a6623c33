"""What torch.save wrote, read without PyTorch: nothing in the file can run (`pickles.py`).

Both layouts are read: the zip archive of PyTorch 1.6 and later, and the sequence of pickles before it.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from typing import Any

import numpy as np

from effgen.files.contents import MOST_MEMBERS
from effgen.network.pickles import Instructions, Named, Unpickler, UnsafeFileError
from effgen.network.stored_tensor import STORED_DTYPES, NotTorchError, Storage

#: The first two numbers of a file of the old layout.
_LEGACY = (0x1950A86A20F9469CFC6C, 1001)
_LEGACY_BEGINNING = re.compile(rb"\x80[\x02-\x05](\x95.{8})?\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", re.DOTALL)


def content_of_torch_file(data: bytes) -> Any:
    """What was saved: dictionaries, lists, numbers, texts, `StoredTensor`s and `StandIn`s.

    Raises NotTorchError for other bytes, UnsafeFileError for a file that names functions of the system.
    """
    try:
        if data.startswith(b"PK\x03\x04"):
            return _content_of_zip(data)
        if _LEGACY_BEGINNING.match(data):
            return _content_of_pickles(data)
    except (NotTorchError, UnsafeFileError):
        raise
    # A damaged pickle makes its reader trip over anything: KeyError, IndexError, UnicodeError, MemoryError, ... What
    # it says may hold whatever the file does, endlessly.
    except Exception as error:
        raise NotTorchError(type(error).__name__) from None
    raise NotTorchError("it does not begin as one")


def _content_of_zip(data: bytes) -> Any:
    if data.count(b"PK\x01\x02") > MOST_MEMBERS:
        raise NotTorchError(f"it has more than {MOST_MEMBERS:,} members")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise NotTorchError("it holds no data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    if folder + "constants.pkl" in members:
        raise NotTorchError("a TorchScript archive")
    order = members.get(folder + "byteorder")
    if order is not None and bytes(_member(data, order)) != b"little":
        raise NotTorchError("big-endian numbers")
    storages: dict[str, Storage] = {}

    def storage(kind: Named, key: str, location: str, elements: int) -> Storage:
        if not isinstance(key, str) or not isinstance(elements, int):
            raise NotTorchError("a storage of an unknown kind")
        if key not in storages:
            raw = _member(data, members[f"{folder}data/{key}"])
            storages[key] = Storage(kind.dtype, elements, raw)
        return storages[key]

    return Unpickler(Instructions(_member(data, members[pickles[0]])), storage).load()


def _member(data: bytes, info: zipfile.ZipInfo) -> memoryview:
    """A member's bytes where they lie. torch.save compresses nothing; it may be told to leave out the checksums."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise NotTorchError("its members are compressed")
    header = data[info.header_offset : info.header_offset + 30]
    start = info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    raw = memoryview(data)[start : start + info.file_size]
    if len(raw) != info.file_size or (info.CRC and zlib.crc32(raw) != info.CRC):
        raise NotTorchError(f"{info.filename} is damaged")
    return raw


def _content_of_pickles(data: bytes) -> Any:
    """Before PyTorch 1.6: three pickles of numbers, the content, the storages' keys, then each one's elements."""
    file = Instructions(data)
    storages: dict[str, Storage] = {}

    def storage(kind: Named, key: str, location: str, elements: int, view: Any = None) -> Storage:
        if not isinstance(key, str) or not isinstance(elements, int):
            raise NotTorchError("a storage of an unknown kind")
        if view is not None:
            raise NotTorchError("views of storages, as PyTorch 0.3 wrote")
        return storages.setdefault(key, Storage(kind.dtype, elements))

    def load() -> Any:
        return Unpickler(file, storage).load()

    if (load(), load()) != _LEGACY:
        raise NotTorchError("it does not begin as one")
    if not load().get("little_endian"):
        raise NotTorchError("big-endian numbers")
    content = load()
    for key in load():
        found = storages[key]
        width = np.dtype(STORED_DTYPES[found.dtype]).itemsize
        (elements,) = np.frombuffer(file.read(8), "<i8")
        if elements != found.elements:
            raise NotTorchError(f"storage {key} has another size")
        found.raw = memoryview(data)[file.tell() : file.tell() + int(elements) * width]
        if len(found.raw) != elements * width:
            raise NotTorchError("cut short")
        file.seek(len(found.raw), io.SEEK_CUR)
    return content
