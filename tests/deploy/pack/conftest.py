"""The tiny bundle's archive, and that unpacked."""

import subprocess
from pathlib import Path

import pytest
from packing import TOP
from sharing import made_once

from effgen.deploy.pack import PackRequest, pack_bundle


@pytest.fixture(autouse=True)
def cache(runner_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(runner_cache))


@pytest.fixture(scope="session")
def packed(tiny_bundle: Path, runner_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle's archive."""

    def make(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(runner_cache))
            assert pack_bundle(PackRequest(tiny_bundle, output=folder / "tiny.tar.gz")).verified_by == ()

    return made_once(tmp_path_factory, "packed", make) / "tiny.tar.gz"


@pytest.fixture
def folder(packed: Path, tmp_path: Path) -> Path:
    """The archive unpacked by tar, in a path with a space."""
    place = tmp_path / "a board"
    place.mkdir()
    subprocess.run(["tar", "-xzf", packed, "-C", place], check=True)
    return place / TOP
