"""What `effgen pack` and `effgen unpack` report."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from effgen.deploy.executors import THIS_PROCESSOR
from effgen.deploy.pack import needed_libraries
from effgen.report.text import bytes_text

if TYPE_CHECKING:
    from effgen.deploy.pack import Pack
    from effgen.deploy.unpack import Unpacked


def table_from_pack(pack: Pack) -> Table:
    """A few lines."""
    unpacked = sum(pack.files.values())
    return _lines(
        {
            "archive": str(pack.path),
            "size": f"{bytes_text(pack.bytes)}, {bytes_text(unpacked)} unpacked, {len(pack.files)} files",
            "SHA-256": pack.sha256,
            "model": pack.manifest.name,
            "target": f"{pack.manifest.target['name']} ({pack.manifest.architecture})",
            "needs": ", ".join(needed_libraries(pack.libraries)) or "no library",
            "verified": _verified(pack),
            "signed": "yes" if pack.signed else "no",
        }
    )


def _verified(pack: Pack) -> str:
    if pack.verified_by is None:
        return "no: nothing here can run it"
    return f"by {pack.verified_by[0] if pack.verified_by else THIS_PROCESSOR}"


def json_from_pack(pack: Pack) -> dict[str, Any]:
    """As a program reads it."""
    data = {key: value for key, value in asdict(pack).items() if key not in ("path", "manifest")}
    return {"archive": str(pack.path), "architecture": pack.manifest.architecture, **data}


def table_from_unpacked(unpacked: Unpacked) -> Table:
    """A few lines, with what to do next."""
    return _lines(
        {
            "folder": str(unpacked.path),
            "files": f"{unpacked.files}, {bytes_text(unpacked.bytes)}, all as SHA256SUMS says",
            "model": unpacked.manifest.name,
            "target": f"{unpacked.manifest.target['name']} ({unpacked.architecture})",
            "signed": _signed(unpacked),
            "run": f"{unpacked.path / 'verify'}",
        }
    )


def _signed(unpacked: Unpacked) -> str:
    if unpacked.checked_by is not None:
        return f"by the key of {unpacked.checked_by}"
    return "yes; by whom was not checked: give --key" if unpacked.signed else "no"


def json_from_unpacked(unpacked: Unpacked) -> dict[str, Any]:
    """As a program reads it."""
    manifest = unpacked.manifest
    return {
        "folder": str(unpacked.path),
        "architecture": unpacked.architecture,
        "model": manifest.name,
        "target": manifest.target["name"],
        "files": unpacked.files,
        "bytes": unpacked.bytes,
        "signed": unpacked.signed,
        "checked_by": None if unpacked.checked_by is None else str(unpacked.checked_by),
    }


def _lines(lines: dict[str, str]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for key, value in lines.items():
        table.add_row(key, Text(value))
    return table
