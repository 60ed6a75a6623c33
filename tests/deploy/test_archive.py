"""Archives: the same bytes each time, and nothing that a stranger may put into one gets out of it."""

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import listing
from hypothesis import given, settings
from hypothesis import strategies as st

from effgen.deploy.archive import ArchiveLimits, extract_archive, write_archive
from effgen.errors import BundleError


def entry(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, size: int | None = None) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "target" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    info.size = len(content) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def link(name: str, target: str, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info.tobuf(tarfile.USTAR_FORMAT)


END = bytes(1024)


def archive(path: Path, *parts: bytes) -> Path:
    path.write_bytes(gzip.compress(b"".join(parts)))
    return path


def wrong_sum(block: bytes) -> bytes:
    return block[:148] + b"0000001\0" + block[156:]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    for name, content in (("b", b"b" * 1000), ("run", b"#!"), ("sub/a", os.urandom(70_000)), ("empty", b"")):
        (folder / name).write_bytes(content)
    return {name: folder / name for name in ("run", "sub/a", "b", "empty")}


def test_written_and_read(files: dict[str, Path], tmp_path: Path) -> None:
    write_archive(tmp_path / "x.tar.gz", "top", files, frozenset({"run"}))
    (tmp_path / "out").mkdir()
    hashes = extract_archive(tmp_path / "x.tar.gz", tmp_path / "out")
    assert hashes.keys() == files.keys() and listing(tmp_path / "out") == ["b", "empty", "run", "sub", "sub/a"]
    for name, source in files.items():
        assert (tmp_path / "out" / name).read_bytes() == source.read_bytes()
        assert (tmp_path / "out" / name).stat().st_mode & 0o7777 == (0o755 if name == "run" else 0o644)
    subprocess.run(["tar", "-xzf", "x.tar.gz"], cwd=tmp_path, check=True)
    assert (tmp_path / "top" / "sub" / "a").read_bytes() == files["sub/a"].read_bytes()


def test_same_bytes_whatever_the_machine_says(files: dict[str, Path], tmp_path: Path) -> None:
    write_archive(tmp_path / "one", "top", files, frozenset())
    for file in files.values():
        os.utime(file, (1, 1))
        file.chmod(0o600)
    moved = shutil.copytree(tmp_path / "source", tmp_path / "elsewhere")
    write_archive(tmp_path / "two.tar.gz", "top", {name: moved / name for name in sorted(files)}, frozenset())
    data = (tmp_path / "one").read_bytes()
    assert data == (tmp_path / "two.tar.gz").read_bytes()
    assert data[:8] == b"\x1f\x8b\x08\0\0\0\0\0"  # no name, no time
    with tarfile.open(tmp_path / "one") as tar:
        found = tar.getmembers()
    assert [member.name for member in found] == ["top/b", "top/empty", "top/run", "top/sub/a"]
    assert {(member.uid, member.gid, member.uname, member.gname, member.mtime) for member in found} == {
        (0, 0, "", "", 0)
    }


NAMES = [
    "/etc/passwd", "../x", "top/../../x", "top/..", "top/./x", "top//x", "top/", "x", "top/a/b/c", "top/.profile",
    "top/-rf", "top/a\nb", "top/\x1b[2J", "top/ü", "~/x", "C:/x", "top\\x/y",
]  # fmt: skip

OTHERS: dict[str, tuple[Callable[[], tuple[bytes, ...]], str]] = {
    "two folders": (lambda: (entry("a/x"), entry("b/x"), END), "expected all files in one folder, which is 'a'"),
    "symbolic link": (lambda: (link("top/x", "/etc/passwd", tarfile.SYMTYPE), END), "a symbolic link: expected files"),
    "link, then through it": (
        lambda: (link("top/x", "..", tarfile.SYMTYPE), entry("top/x/y"), END),
        "a symbolic link: expected files",
    ),
    "hard link": (lambda: (link("top/x", "../../x", tarfile.LNKTYPE), END), "a hard link: expected files"),
    "device": (lambda: (link("top/x", "", tarfile.CHRTYPE), END), "a device: expected files"),
    "pipe": (lambda: (link("top/x", "", tarfile.FIFOTYPE), END), "a pipe: expected files"),
    "folder": (lambda: (link("top/x", "", tarfile.DIRTYPE), END), "a folder: expected files"),
    "long name": (lambda: (entry("top/" + "x" * 200), END), "no plain file: expected files"),
    "extended header": (lambda: (entry("top/x", b"", tarfile.XHDTYPE, 1 << 40), END), "no plain file: expected files"),
    "twice": (lambda: (entry("top/x"), entry("top/x"), END), "'top/x' twice, or as a file and a folder"),
    "file and folder": (lambda: (entry("top/x"), entry("top/x/y"), END), "'top/x/y' twice, or as a file and a folder"),
    "folder and file": (lambda: (entry("top/x/y"), entry("top/x"), END), "'top/x' twice, or as a file and a folder"),
    "huge": (
        lambda: (entry("top/x/y", size=1 << 62), END),
        "of 4611686018427387904 bytes: expected at most 8589934592",
    ),
    "huge text": (lambda: (entry("top/x", size=1 << 30), END), "bytes: expected at most 16777216 more"),
    "negative": (lambda: (entry("top/x/y", size=-5), END), "of -5 bytes: expected at most"),
    "more than is there": (lambda: (entry("top/x/y", size=5_000), END), "is truncated"),
    "many files": (lambda: (*(entry(f"top/{index}") for index in range(100)), END), "holds more than 64 files"),
    "none": (lambda: (END,), "holds no files"),
    "nothing": (lambda: (), "is truncated"),
    "no end": (lambda: (entry("top/x"),), "is truncated"),
    "half a block": (lambda: (entry("top/x"), b"x"), "is truncated"),
    "no archive": (lambda: (os.urandom(2048),), "is damaged: .*; copy it again"),
    "wrong sum": (lambda: (wrong_sum(entry("top/x")), END), "is damaged: bad checksum"),
    "something after it": (lambda: (entry("top/x"), END, b"x"), "goes on after its end"),
    "zeros after it": (lambda: (entry("top/x"), END, bytes(1 << 20)), "goes on after its end"),
}


def refused(path: Path, message: str, limits: ArchiveLimits | None = None) -> None:
    """One clear line, and nothing outside the folder."""
    before = listing(path.parent)
    destination = path.parent / "deep" / "out"
    destination.mkdir(parents=True)
    with pytest.raises(BundleError, match=message) as caught:
        extract_archive(path, destination, limits)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    shutil.rmtree(destination)
    destination.parent.rmdir()
    assert listing(path.parent) == before


@pytest.mark.parametrize("name", NAMES)
def test_names_that_escape_or_deceive(name: str, tmp_path: Path) -> None:
    refused(archive(tmp_path / "x", entry(name), END), "inside the folder$")


@pytest.mark.parametrize("case", OTHERS)
def test_what_no_archive_of_ours_holds(case: str, tmp_path: Path) -> None:
    parts, message = OTHERS[case]
    refused(archive(tmp_path / "x", *parts()), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no .tar.gz, it is empty"),
        (b"PK\x03\x04 a zip", r"is no .tar.gz, it begins with b'PK'"),
        (b"\x1f\x8b", "is truncated"),
        (b"\x1f\x8b\x07" + bytes(100), "is damaged: Unknown compression method"),
        (b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 100, "is damaged: .*invalid"),
        (gzip.compress(entry("top/x") + END) + b"surplus", "is damaged: Not a gzipped file"),
    ],
    ids=["empty", "zip", "two bytes", "method", "body", "surplus"],  # bytes would make another name each time
)
def test_no_gzip(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    refused(tmp_path / "x", message)


def test_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "cannot be read: No such file")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "cannot be read: Is a directory")


def test_limits_hold_over_all_files(tmp_path: Path) -> None:
    path = archive(tmp_path / "x", *(entry(f"top/sub/{index}", bytes(1000)) for index in range(3)), END)
    refused(path, "of 1000 bytes: expected at most 500 more", ArchiveLimits(total=2500))
    refused(path, "holds more than 2 files", ArchiveLimits(files=2))


def test_full_disk_is_told_before_it_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 10))
    refused(archive(tmp_path / "x", entry("top/sub/x", bytes(11)), END), "of 11 bytes, 10 are free in ")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """A gigabyte in a megabyte, beyond what is allowed: told from the header."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:
        stream.write(entry("top/sub/x", b"", size=64 << 20))
        for _ in range(64):
            stream.write(bytes(1 << 20))
    (tmp_path / "x").write_bytes(packed.getvalue())
    refused(tmp_path / "x", "expected at most 1048576 more", ArchiveLimits(total=1 << 20))


SAMPLE = gzip.compress(entry("top/pack.json", b"{}") + entry("top/bundle/x", bytes(range(256)) * 8) + END, mtime=0)


@given(st.integers(0, len(SAMPLE) - 1))
def test_cut_anywhere(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "x"
    path.write_bytes(SAMPLE[:size])
    refused(path, "is truncated|is empty|begins with")


@settings(max_examples=300)
@given(st.integers(0, len(SAMPLE) - 1), st.integers(1, 255))
def test_any_byte_changed(tmp_path_factory: pytest.TempPathFactory, position: int, mask: int) -> None:
    """It is told, or the content is the same: of a time in gzip's header, or a copy of zeros from elsewhere."""
    folder = tmp_path_factory.mktemp("flip")
    data = bytearray(SAMPLE)
    data[position] ^= mask
    (folder / "x").write_bytes(data)
    (folder / "out").mkdir()
    try:
        extract_archive(folder / "x", folder / "out")
    except BundleError as error:
        assert "\n" not in str(error)
    else:
        assert (folder / "out" / "bundle" / "x").read_bytes() == bytes(range(256)) * 8
    assert {name.split("/")[0] for name in listing(folder)} == {"x", "out"}
