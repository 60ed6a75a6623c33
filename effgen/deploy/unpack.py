"""A pack, as `effgen.deploy.pack` writes it, back as a folder: checked whole before it appears."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effgen.deploy.archive import ArchiveLimits, extract_archive
from effgen.deploy.native.build import PROGRAM
from effgen.deploy.native.libraries import LIBRARY_NAMES, elf_architecture
from effgen.deploy.signature import SIGNATURE, check_signature, read_public_key
from effgen.errors import BundleError
from effgen.files.bounded import UnreadableError, read_json
from effgen.files.staging import FolderKind, staged_directory
from effgen.runtime.elf import why_not_loadable
from effgen.runtime.fields import shown
from effgen.runtime.manifest import GOLDEN, LIBRARY, MANIFEST, PACKED, WEIGHTS, Manifest, check_version, read_manifest
from effgen.words import OnPhase

#: Raised when a reader of the old format could misread a new pack.
FORMAT_VERSION = 1

PACK = "pack.json"
SUMS = "SHA256SUMS"
RUNTIME = "runtime"
VERIFY = "verify"

#: Without any of these a pack neither runs nor checks itself.
NEEDED = (
    VERIFY,
    PACK,
    *(f"{RUNTIME}/{name}" for name in (PROGRAM, *LIBRARY_NAMES)),
    *(f"{PACKED}/{name}" for name in (MANIFEST, LIBRARY, WEIGHTS, GOLDEN)),
)

#: A folder that may be replaced.
UNPACKED = FolderKind(PACK, "an unpacked archive", "-o/--output")

_SUM = re.compile(r"([0-9a-f]{64})  (\S+)")


@dataclass(frozen=True)
class Unpacked:
    """What came out: its folder, processor family as `uname -m` says it, manifest, files and their bytes; whether it is
    signed, and by whose public key that was checked (None: by nobody's)."""

    path: Path
    architecture: str
    manifest: Manifest
    files: int
    bytes: int
    signed: bool = False
    checked_by: Path | None = None


def unpack_archive(
    archive: Path,
    output: Path,
    force: bool = False,
    on_phase: OnPhase = lambda phase: None,
    limits: ArchiveLimits | None = None,
    key: Path | None = None,
) -> Unpacked:
    """Unpack `archive` as the folder `output`, once every file agrees with SHA256SUMS, the bundle with its manifest,
    and each library with the architecture stated.

    `key`: the public key of who must have signed it, which is looked at before any other file of it is.

    Raises BundleError for an archive that is damaged, is not signed by who was asked for, lacks what running needs, or
    is no pack of this format, BuildError for a key that is none and where `output` cannot be written; then nothing is
    left there.
    """
    public = None if key is None else read_public_key(key)
    with staged_directory(output, force, UNPACKED) as staging:
        on_phase("unpack")
        hashes = extract_archive(archive, staging, limits)
        on_phase("check the files")
        try:
            if public is not None and key is not None:
                check_signature(public, staging / SUMS, staging / SIGNATURE, key)
            facts = _read_facts(staging)
            _check_sums(staging, hashes)
            _check_whole(staging, hashes)
            manifest = read_packable(staging / PACKED, with_model=False)
            _check_architecture(staging, facts["architecture"], manifest)
        except BundleError as error:
            raise BundleError(str(error).replace(str(staging), str(archive))) from None
        size = sum((staging / name).stat().st_size for name in hashes)
    return Unpacked(output, facts["architecture"], manifest, len(hashes), size, SIGNATURE in hashes, key)


def read_packable(bundle: Path, with_model: bool) -> Manifest:
    """The manifest of a bundle that can be run and judged without PyTorch, by its golden pair. Raises BundleError."""
    manifest = read_manifest(bundle, whole=with_model)
    if GOLDEN not in manifest.files:
        raise BundleError(f"{bundle / MANIFEST}: files: no hash of {GOLDEN}, which judges it; compile the bundle again")
    return manifest


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / PACK
    if not path.is_file():
        raise BundleError(f"{folder}: holds no {PACK}; expected a file of `effgen pack`")
    try:
        data: dict[str, Any] = read_json(path)
    except UnreadableError as error:
        raise BundleError(f"{path}: cannot be read as JSON: {error}; copy the archive again") from None
    check_version(path, data, FORMAT_VERSION, "pack the bundle again")
    if type(data.get("architecture")) is not str:
        raise BundleError(f"{path}: architecture: missing or no text; pack the bundle again")
    return data


def _check_sums(folder: Path, hashes: dict[str, str]) -> None:
    path = folder / SUMS
    if not path.is_file():
        raise BundleError(f"{folder}: holds no {SUMS}; expected a file of `effgen pack`")
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    sums = [_SUM.fullmatch(line) for line in lines]
    for line, match in zip(lines, sums, strict=True):
        if match is None:
            raise BundleError(
                f"{path}: line {shown(line)}: expected 64 digits, two spaces, a path; pack the bundle again"
            )
    expected = {match[2]: match[1] for match in sums if match is not None}
    for name in sorted(expected.keys() ^ (hashes.keys() - {SUMS, SIGNATURE})):
        found = "listed, but not in the archive" if name in expected else "in the archive, but not listed"
        raise BundleError(f"{path}: {name!r} is {found}; pack the bundle again")
    for name, digest in expected.items():
        if hashes[name] != digest:
            raise BundleError(
                f"{folder / name}: SHA-256 is {hashes[name][:12]}..., {SUMS} says {digest[:12]}...: "
                "the file was changed or damaged; copy the archive again"
            )


def _check_whole(folder: Path, hashes: dict[str, str]) -> None:
    for name in NEEDED:
        if name not in hashes:
            raise BundleError(f"{folder}: holds no {name}, without which it does not run; pack the bundle again")


def _check_architecture(folder: Path, architecture: str, manifest: Manifest) -> None:
    where = folder / PACK
    if manifest.architecture != architecture:
        raise BundleError(
            f"{where}: architecture = {shown(architecture)}: the bundle inside is for {manifest.architecture}; "
            "pack it again"
        )
    for file in [folder / PACKED / LIBRARY, *sorted((folder / RUNTIME).glob("*"))]:
        found = elf_architecture(file)
        if found != architecture:
            raise BundleError(f"{file}: is for {found or 'no machine'}, not for {shown(architecture)}; pack it again")
        if file.suffix == ".so" and (odd := why_not_loadable(file, architecture)):
            raise BundleError(f"{file}: {odd}; pack it again")
