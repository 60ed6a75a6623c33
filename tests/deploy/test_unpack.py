"""`effgen unpack`: an archive becomes a folder when all of it is right, and leaves nothing when it is not."""

import hashlib
import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import one_line
from damage import edit_manifest, flip, listing, seal, truncate
from hypothesis import given, settings
from hypothesis import strategies as st

import effgen
from effgen.deploy.archive import ArchiveLimits, write_archive
from effgen.deploy.pack import _carried, _fill
from effgen.deploy.unpack import unpack_archive
from effgen.errors import BuildError, BundleError
from effgen.runtime import read_manifest

HERE = platform.machine()
MACHINES = {"x86_64": 62, "aarch64": 183}
EXECUTABLE = frozenset({"verify", "runtime/effgen-run"})


def elf(architecture: str) -> bytes:
    return b"\x7fELF".ljust(18, b"\0") + MACHINES[architecture].to_bytes(2, "little")


@pytest.fixture(scope="session")
def small(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack's folder as it is before it is an archive, its program of a few bytes, other libraries in the place of
    TVM's; tests that change it copy it."""
    runtime = tmp_path_factory.mktemp("runtime")
    (runtime / "effgen-run").write_bytes(elf(HERE) + b"effgen-run")
    for name in ("libtvm_ffi.so", "libtvm_runtime.so"):
        shutil.copyfile(tiny_bundle / "lib.so", runtime / name)
    folder = tmp_path_factory.mktemp("small") / "pack"
    _fill(folder, tiny_bundle, _carried(read_manifest(tiny_bundle), False), runtime / "effgen-run")
    return folder


@pytest.fixture
def folder(small: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small, tmp_path / "source")


def archive_of(folder: Path, path: Path) -> Path:
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    write_archive(path, "top", files, EXECUTABLE)
    return path


def sum_up(folder: Path) -> None:
    """SHA256SUMS of the files as they are now."""
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    files.pop("SHA256SUMS", None)
    lines = [f"{hashlib.sha256(files[name].read_bytes()).hexdigest()}  {name}\n" for name in sorted(files)]
    (folder / "SHA256SUMS").write_text("".join(lines))


def refused(folder: Path, message: str) -> None:
    """One line that begins with the archive's path, and nothing left."""
    place = folder.parent / "place"
    place.mkdir()
    archive = archive_of(folder, place / "x.tar.gz")
    with pytest.raises(BundleError, match=message) as caught:
        unpack_archive(archive, place / "deep" / "out")
    assert str(caught.value).startswith(str(archive)) and "\n" not in str(caught.value)
    assert ".tmp" not in str(caught.value)
    assert listing(place) == ["x.tar.gz"]


@pytest.mark.parametrize("name", ["bundle/lib.so", "runtime/libtvm_ffi.so", "runtime/libtvm_runtime.so"])
def test_library_that_is_cut_short_though_all_hashes_are_right(folder: Path, name: str) -> None:
    truncate(folder / name, 2000)
    seal(folder / "bundle")
    sum_up(folder)
    refused(folder, rf"{name}: truncated; pack it again")


# What comes out.


def test_unpacked(small: Path, tmp_path: Path, run: Any) -> None:
    archive_of(small, tmp_path / "x.tar.gz")
    code, out, _ = run("unpack", tmp_path / "x.tar.gz", "-o", tmp_path / "deep" / "out")
    assert code == 0 and f"run     {tmp_path / 'deep' / 'out' / 'verify'}" in out and "all as SHA256SUMS says" in out
    unpacked = tmp_path / "deep" / "out"
    assert listing(unpacked) == listing(small) and unpacked.stat().st_mode & 0o777 == 0o755
    for name in listing(small):
        if (small / name).is_file():
            assert (unpacked / name).read_bytes() == (small / name).read_bytes()
            assert (unpacked / name).stat().st_mode & 0o7777 == (0o755 if name in EXECUTABLE else 0o644)
    assert effgen.load(unpacked / "bundle").manifest.name == "tiny phi=0"
    data = json.loads(run("unpack", tmp_path / "x.tar.gz", "-o", unpacked, "--force", "--json", "-")[1])
    assert (data["architecture"], data["model"], data["target"]) == (HERE, "tiny phi=0", "cpu")
    assert listing(tmp_path) == ["deep", "deep/out", *(f"deep/out/{name}" for name in listing(small)), "x.tar.gz"]


def test_force_replaces_unpacked_archives_only(small: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    archive = archive_of(small, tmp_path / "x.tar.gz")
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    with pytest.raises(BuildError, match="bundle: exists already"):
        unpack_archive(archive, bundle)
    with pytest.raises(BuildError, match="bundle: exists and is not an unpacked archive"):
        unpack_archive(archive, bundle, force=True)
    assert listing(bundle) == listing(tiny_bundle)
    unpack_archive(archive, tmp_path / "out")
    flip(tmp_path / "x.tar.gz")
    with pytest.raises(BundleError):
        unpack_archive(archive, tmp_path / "out", force=True)
    assert listing(tmp_path / "out") == listing(small)


@pytest.mark.parametrize("words", [["verify"], ["bench"], ["bench", "--layers"], ["pack"]])
def test_archive_in_place_of_a_bundle(words: list[str], small: Path, tmp_path: Path, run: Any) -> None:
    archive = archive_of(small, tmp_path / "x.tar.gz")
    message = f"{archive}: is a file, expected a bundle's directory; of an archive, `effgen unpack {archive} -o DIR`"
    assert message in one_line(run(words[0], archive, *words[1:]))
    with pytest.raises(BundleError, match="is a file, expected a bundle's directory"):
        effgen.load(archive)
    assert "no .tar.gz, it begins with b'a" in one_line(run("unpack", text(tmp_path), "-o", tmp_path / "out"))


def text(folder: Path) -> Path:
    (folder / "text").write_text("a text")
    return folder / "text"


# What does not.


@pytest.mark.parametrize(
    "name",
    [
        "bundle/lib.so", "bundle/weights.bin", "bundle/golden.npz", "bundle/manifest.json", "runtime/effgen-run",
        "runtime/libtvm_ffi.so", "runtime/libtvm_runtime.so", "README.txt", "verify",
    ],
)  # fmt: skip
def test_changed_file(name: str, folder: Path) -> None:
    flip(folder / name)
    refused(folder, f"x.tar.gz/{name}: SHA-256 is .*, SHA256SUMS says .*: the file was changed or damaged")


@pytest.mark.parametrize("name", ["bundle/lib.so", "runtime/libtvm_ffi.so", "README.txt"])
def test_missing_file(name: str, folder: Path) -> None:
    (folder / name).unlink()
    refused(folder, f"SHA256SUMS: '{name}' is listed, but not in the archive")


@pytest.mark.parametrize(
    "name",
    [
        "verify", "pack.json", "runtime/effgen-run", "runtime/libtvm_ffi.so", "runtime/libtvm_runtime.so",
        "bundle/manifest.json", "bundle/lib.so", "bundle/weights.bin", "bundle/golden.npz",
    ],
)  # fmt: skip
def test_missing_file_that_is_not_listed(name: str, folder: Path) -> None:
    (folder / name).unlink()
    sum_up(folder)
    refused(folder, f"x.tar.gz: holds no {name}[,;]")


@pytest.mark.parametrize("name", ["bundle/x", "runtime/libstdc++.so.6", "x"])
def test_file_too_many(name: str, folder: Path) -> None:
    (folder / name).write_text("surplus")
    refused(folder, "SHA256SUMS: .* is in the archive, but not listed")


def set_pack(folder: Path, **changes: Any) -> None:
    """Other facts, and the right sums."""
    data = json.loads((folder / "pack.json").read_text()) | changes
    (folder / "pack.json").write_text(json.dumps(data))
    sum_up(folder)


def of_manifest(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        edit_manifest(folder / "bundle", edit)
        sum_up(folder)

    return change


def of_another_machine(name: str) -> Callable[[Path], None]:
    other = next(machine for machine in MACHINES if machine != HERE)

    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:18] + MACHINES[other].to_bytes(2, "little") + data[20:])
        if name.startswith("bundle"):
            seal(folder / "bundle")
        sum_up(folder)

    return change


OTHER = next(machine for machine in MACHINES if machine != HERE)

CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "newer archive": (
        lambda f: set_pack(f, format_version=2),
        r"x.tar.gz/pack.json: format_version = 2: written by a newer effgen, this one reads 1; upgrade effgen",
    ),
    "older archive": (lambda f: set_pack(f, format_version=0), "format_version = 0: .*; pack the bundle again"),
    "version of another type": (lambda f: set_pack(f, format_version="1"), "format_version = '1': this effgen reads 1"),
    "truth is no version": (lambda f: set_pack(f, format_version=True), "format_version = True: this effgen reads 1"),
    "another architecture": (lambda f: set_pack(f, architecture=OTHER), f"'{OTHER}': the bundle inside is for {HERE}"),
    "architecture of another type": (lambda f: set_pack(f, architecture=1), "architecture: missing or no text"),
    "facts that are no JSON": (lambda f: (f / "pack.json").write_text("{"), "pack.json: cannot be read as JSON"),
    "facts that are deep": (lambda f: (f / "pack.json").write_text("[" * 100_000), "pack.json: cannot be read as JSON"),
    "facts that are a list": (lambda f: (f / "pack.json").write_text("[]"), "pack.json: format_version = None"),
    "no facts": (lambda f: (f / "pack.json").unlink(), "holds no pack.json; expected a file of `effgen pack`"),
    "no sums": (lambda f: (f / "SHA256SUMS").unlink(), "holds no SHA256SUMS; expected a file of `effgen pack`"),
    "sums that are none": (lambda f: (f / "SHA256SUMS").write_text("x\x1b[2J\n"), r"line 'x\\x1b\[2J': expected 64"),
    "no bundle": (lambda f: (shutil.rmtree(f / "bundle"), sum_up(f)), "x.tar.gz: holds no bundle/manifest.json, w"),
    "golden pair that the manifest does not vouch for": (
        of_manifest(lambda data: data["files"].pop("golden.npz")),
        "x.tar.gz/bundle/manifest.json: files: no hash of golden.npz, which judges it",
    ),
    "newer bundle": (
        of_manifest(lambda data: data.update(format_version=99)),
        r"x.tar.gz/bundle/manifest.json: format_version = 99: written by a newer effgen, .*; upgrade effgen",
    ),
    "older bundle": (of_manifest(lambda data: data.update(format_version=1)), r"= 1: .*; compile it again"),
    "bundle that reaches out": (
        of_manifest(lambda data: data["files"].update({"../pack.json": "0" * 64})),
        r"files\['../pack.json'\]: expected a plain file name inside the bundle",
    ),
    "absolute path": (
        of_manifest(lambda data: data["files"].update({"/etc/passwd": "0" * 64})),
        r"files\['/etc/passwd'\]: expected a plain file name inside the bundle",
    ),
    "library of another machine": (of_another_machine("bundle/lib.so"), f"bundle/lib.so: is for {OTHER}, not for"),
    "runtime of another machine": (
        of_another_machine("runtime/libtvm_ffi.so"),
        f"runtime/libtvm_ffi.so: is for {OTHER}, not for",
    ),
    "runtime that is none": (
        lambda f: ((f / "runtime" / "effgen-run").write_text("#!/bin/sh"), sum_up(f)),
        "runtime/effgen-run: is for no machine",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_archive_that_makes_no_sense(case: str, folder: Path) -> None:
    change, message = CHANGES[case]
    change(folder)
    refused(folder, message)


def test_limits(small: Path, tmp_path: Path) -> None:
    archive = archive_of(small, tmp_path / "x.tar.gz")
    with pytest.raises(BundleError, match="holds more than 3 files"):
        unpack_archive(archive, tmp_path / "out", limits=ArchiveLimits(files=3))
    with pytest.raises(BundleError, match="expected at most"):
        unpack_archive(archive, tmp_path / "out", limits=ArchiveLimits(total=10_000))
    assert listing(tmp_path) == ["x.tar.gz"]


def test_full_disk(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(small, tmp_path / "x.tar.gz")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 10))
    with pytest.raises(BundleError, match=r"bytes, 10 are free in "):
        unpack_archive(archive, tmp_path / "out")
    assert listing(tmp_path) == ["x.tar.gz"]


@pytest.fixture(scope="session")
def sample(small: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return archive_of(small, tmp_path_factory.mktemp("sample") / "x").read_bytes()


@settings(max_examples=60)
@given(where=st.floats(0, 1, exclude_max=True))
def test_cut_anywhere(sample: bytes, tmp_path_factory: pytest.TempPathFactory, where: float) -> None:
    folder = tmp_path_factory.mktemp("cut")
    (folder / "x").write_bytes(sample[: int(where * len(sample))])
    with pytest.raises(BundleError, match=r"is truncated|is empty|begins with") as caught:
        unpack_archive(folder / "x", folder / "out")
    assert "\n" not in str(caught.value) and listing(folder) == ["x"]


@settings(max_examples=100)
@given(where=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_any_byte_changed(
    sample: bytes, small: Path, tmp_path_factory: pytest.TempPathFactory, where: float, mask: int
) -> None:
    """It is told, or all that comes out is the same."""
    folder = tmp_path_factory.mktemp("flip")
    data = bytearray(sample)
    data[int(where * len(data))] ^= mask
    (folder / "x").write_bytes(data)
    try:
        unpack_archive(folder / "x", folder / "out")
    except BundleError as error:
        assert "\n" not in str(error) and listing(folder) == ["x"]
    else:
        for name in listing(small):
            assert (small / name).is_dir() or (folder / "out" / name).read_bytes() == (small / name).read_bytes()
