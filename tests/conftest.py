"""Fixtures shared by the whole suite: a network small enough to compile in seconds, and its bundle."""

from pathlib import Path

import pytest
from hypothesis import settings

# A shared or emulated machine is slow now and then; that is no failure of a property.
settings.register_profile("effgen", deadline=None)
settings.load_profile("effgen")

TINY_SPEC = """
name = "tiny"
activation = "silu"

[input]
resolution = 32

[stem]
channels = 8

[[stages]]
block = "mbconv"
expand_ratio = 1
kernel = 3
stride = 1
channels = 8
repeats = 2
squeeze_excite = { ratio = 0.25 }

[[stages]]
block = "mbconv"
expand_ratio = 6
kernel = 5
stride = 2
channels = 24
repeats = 2
squeeze_excite = { ratio = 0.25 }

[head]
channels = 40

[classifier]
classes = 10
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="rewrite tests/goldens with what is found")


@pytest.fixture(scope="session")
def tiny_spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec file: stem, a stage without and one with expansion, both kinds of skip, squeeze-excite."""
    path = tmp_path_factory.mktemp("spec") / "tiny.toml"
    path.write_text(TINY_SPEC)
    return path


@pytest.fixture(scope="session")
def tiny_bundle(tiny_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network compiled for this machine. Tests that change a bundle copy it first."""
    from effgen.driver import CompileRequest, compile_bundle
    from effgen.network import NetworkRequest

    output = tmp_path_factory.mktemp("bundle") / "tiny"
    compile_bundle(CompileRequest(NetworkRequest(spec=str(tiny_spec)), output))
    return output
