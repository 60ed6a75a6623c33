"""Bundles that `effgen-run` is given, and a cache in which nothing is yet."""

import shutil
from pathlib import Path

import pytest
from sharing import made_once

from effgen.driver import CompileRequest, compile_bundle
from effgen.network import NetworkRequest


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "effgen"


@pytest.fixture(scope="session")
def pair_bundle(tiny_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network for two images a call."""

    def make(output: Path) -> None:
        compile_bundle(CompileRequest(NetworkRequest(spec=str(tiny_spec), batch=2), output))

    return made_once(tmp_path_factory, "pair", make)


@pytest.fixture
def broken(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be damaged."""
    return shutil.copytree(tiny_bundle, tmp_path / "broken")
