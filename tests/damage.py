"""Bundles and other files made wrong on purpose."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any


def edit_manifest(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """A manifest that says something else and knows it: its digest is right."""
    path = bundle / "manifest.json"
    data = json.loads(path.read_text())
    edit(data)
    data.pop("digest", None)
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    data["digest"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(data, indent=2))


def seal(bundle: Path) -> None:
    """Let the manifest state the hashes of the files as they are now."""

    def rehash(data: dict[str, Any]) -> None:
        for name in data["files"]:
            if (bundle / name).is_file():
                data["files"][name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()

    edit_manifest(bundle, rehash)


def compile_library(source: str, path: Path) -> None:
    """A shared library of this C code."""
    command = ["cc", "-x", "c", "-shared", "-fPIC", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True)


def flip(path: Path, position: int | None = None) -> None:
    """Change one bit; `position` None: in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if position is None else position] ^= 1
    path.write_bytes(data)


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def listing(folder: Path) -> list[str]:
    """Everything below the folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
