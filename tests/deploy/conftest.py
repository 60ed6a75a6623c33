"""Bundles with a standalone library, which several files test and none changes."""

from pathlib import Path

import pytest
from sharing import made_once
from standalone_bundles import SMALL_B0, Made, made, made_in

from effgen.network import NetworkRequest


@pytest.fixture(scope="session")
def tiny(tiny_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The tiny network with everything that can be emitted."""
    request = NetworkRequest(spec=str(tiny_spec))
    return made_in(made_once(tmp_path_factory, "standalone_tiny", lambda folder: made(folder, request)))


@pytest.fixture(scope="session")
def small_b0(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A fraction of B0 with a library of B0's name."""

    def make(folder: Path) -> None:
        made(folder, SMALL_B0, ("bundle", "standalone"), name="efficientnet_b0")

    return made_in(made_once(tmp_path_factory, "standalone_b0", make))
