"""A packed folder runs nothing that was changed: files, links and the list of sums itself."""

from pathlib import Path

import pytest
from damage import flip, truncate
from packing import refused, verify

FILES = [
    "bundle/lib.so", "bundle/weights.bin", "bundle/manifest.json", "bundle/golden.npz", "runtime/effgen-run",
    "runtime/libtvm_ffi.so", "runtime/libtvm_runtime.so", "pack.json", "README.txt", "verify",
]  # fmt: skip


def set_trap(folder: Path) -> None:
    """A runtime that tells by its output that it was run."""
    (folder / "runtime" / "effgen-run").write_text("#!/bin/sh\necho ran\n")


@pytest.mark.parametrize("name", FILES)
def test_flipped_byte_is_told_before_anything_runs(folder: Path, name: str) -> None:
    position = -2 if name == "verify" else None  # the script runs until it checks itself
    flip(folder / name, position)
    refused(folder, f"{name}: changed, damaged or missing")


@pytest.mark.parametrize("name", ["bundle/lib.so", "runtime/libtvm_ffi.so"])
def test_truncated_or_missing_file(folder: Path, name: str) -> None:
    truncate(folder / name, 100)
    refused(folder, f"{name}: changed, damaged or missing")
    (folder / name).unlink()
    refused(folder, f"{name}: changed, damaged or missing")


def test_program_in_its_place(folder: Path) -> None:
    set_trap(folder)
    refused(folder, "runtime/effgen-run: changed, damaged or missing")


@pytest.mark.parametrize("name", ["runtime/libstdc++.so.6", "bundle/x", "runtime/sub/x", "runtime/line\nfeed"])
def test_file_too_many(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("surplus")
    refused(folder, f"{name.splitlines()[0]}: not listed in SHA256SUMS")


def test_what_a_user_writes_beside_is_no_harm(folder: Path) -> None:
    (folder / "report.json").write_text("{}")
    assert verify(folder, "--runs", 0).returncode == 0


@pytest.mark.parametrize("name", ["bundle/lib.so", "runtime/libtvm_ffi.so"])
def test_link_in_place_of_a_file(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "moved")
    (folder / name).symlink_to(tmp_path / "moved")
    refused(folder, f"{name}: is a link or a device, expected a file")


def test_link_in_place_of_a_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "runtime").rename(tmp_path / "moved")
    (folder / "runtime").symlink_to(tmp_path / "moved")
    refused(folder, "runtime: no such folder")


def edit_sums(folder: Path, old: str, new: str) -> None:
    text = (folder / "SHA256SUMS").read_text()
    assert old in text
    (folder / "SHA256SUMS").write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  bundle/lib.so", " *bundle/lib.so", "SHA256SUMS: damaged"),
        ("  bundle/lib.so", "  ../bundle/lib.so", "SHA256SUMS: damaged"),
        ("  pack.json", "  pack.jsom", "SHA256SUMS: does not list pack.json"),
        ("\n", "\r\n", "SHA256SUMS: damaged"),
        ("\n", "", "SHA256SUMS: damaged"),
        ("a", "g", "SHA256SUMS: damaged"),
    ],
)
def test_sums_that_are_none(folder: Path, old: str, new: str, message: str) -> None:
    edit_sums(folder, old, new)
    refused(folder, message)


def test_sums_that_leave_out_a_file(folder: Path) -> None:
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    for name in ("bundle/lib.so", "runtime/libtvm_ffi.so"):
        kept = [line for line in lines if not line.endswith(f"{name}\n")]
        (folder / "SHA256SUMS").write_text("".join(kept))
        refused(folder, f"{name}: not listed in SHA256SUMS")
    for content in ("", "".join(lines[:4])):
        (folder / "SHA256SUMS").write_text(content)
        refused(folder, "SHA256SUMS: ")
    (folder / "SHA256SUMS").unlink()
    refused(folder, "SHA256SUMS: missing or empty")
