"""What a measurement is of and comes from: the bundle's network and sizes, versions, effgen's commit, the date."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which
from typing import Literal

from effgen.results.reports import ModelFacts, Origin
from effgen.runtime import Manifest
from effgen.runtime.manifest import MODEL, WEIGHTS

#: Where effgen is imported from: the checkout's top, or a folder of installed packages.
_ROOT = Path(__file__).resolve().parents[2]

_GIT_LIMIT_S = 10.0

#: What has a hand in a run, by the distribution's name.
_DISTRIBUTIONS = {"effgen": "effgen", "tvm": "apache-tvm", "tvm_ffi": "apache-tvm-ffi", "numpy": "numpy"}


def origin_of(manifest: Manifest, route: Literal["local", "rpc"] = "local") -> Origin:
    """What a measurement made now, by this process, comes from."""
    return Origin(
        date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        revision=revision(),
        versions={"python": platform.python_version(), **versions_of(_DISTRIBUTIONS)},
        compiled_by=dict(manifest.versions),
        route=route,
    )


def versions_of(distributions: dict[str, str]) -> dict[str, str]:
    """The installed version by key; those that are not installed are left out."""
    found = {}
    for key, name in distributions.items():
        try:
            found[key] = version(name)
        except PackageNotFoundError:
            continue
    return found


def revision(root: Path = _ROOT) -> str | None:
    """The commit of the checkout at `root`, `+dirty` where tracked files were changed; None where there is none.

    An installed effgen has no `.git` beside it and asks nobody.
    """
    git = which("git")
    if git is None or not (root / ".git").exists():
        return None
    commit = _git_says(git, root, "rev-parse", "--short=12", "HEAD")
    changes = _git_says(git, root, "status", "--porcelain", "--untracked-files=no")
    if not commit or changes is None:
        return None
    return f"{commit}+dirty" if changes else commit


def _git_says(git: str, root: Path, *words: str) -> str | None:
    """Git's answer; None where it fails: a broken checkout, or one of another user."""
    try:
        done = subprocess.run(
            [git, "-C", str(root), *words], capture_output=True, text=True, check=False, timeout=_GIT_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def facts_of(manifest: Manifest, bundle: Path) -> ModelFacts:
    """The network in the bundle directory, and what its files take. One that was made from ONNX has no family."""
    batch, _, height, width = (int(extent) for extent in manifest.input["shape"])
    spec, phi, law = (manifest.network.get(key) for key in ("spec", "phi", "law"))
    return ModelFacts(
        name=manifest.name,
        family=str(spec["name"]) if spec else None,
        phi=None if phi is None else float(phi),
        law=None if law is None else str(law),
        resolution=(height, width),
        batch=batch,
        dtype=manifest.dtype,
        macs=manifest.macs,
        parameters=manifest.parameters,
        code_bytes=_size(bundle / manifest.device_kind.code),
        weights_bytes=_size(bundle / WEIGHTS),
        onnx_bytes=_size(bundle / MODEL),
    )


def _size(path: Path) -> int | None:
    """Bytes of a file; None where it is not there, or holds nothing."""
    return (path.stat().st_size or None) if path.is_file() else None
