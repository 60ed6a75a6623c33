"""Fixtures shared by the whole suite: a network small enough to compile in seconds, and its bundle."""

import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from networks import KINDS, TINY
from sharing import made_once

# Tests run beside each other on all cores: threads that wait for work leave these to others. PyTorch and TVM read this
# when they are loaded, in this process and in those that it starts.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", "0")

# A shared or emulated machine is slow now and then; that is no failure of a property.
settings.register_profile("effgen", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("effgen")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="rewrite tests/goldens with what is found")


#: Marks of tests that take long.
LONG = ("slow", "wheel", "arm", "browser", "postgres")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first, so that no worker is left with one of them when the others have ended."""
    long = {item.path for item in items if any(item.get_closest_marker(mark) for mark in LONG)}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture
def check_golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of this name in tests/goldens; `pytest --update-goldens` records it there."""

    def check(name: str, text: str) -> None:
        file = Path(__file__).parent / "goldens" / name
        if request.config.getoption("--update-goldens"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_works() -> Iterator[None]:
    """A shell without job control starts background jobs with SIGINT ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def no_records_of_mine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither use nor change what the developer has tuned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data_home")))
        yield


@pytest.fixture(scope="session")
def emulated_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the emulated CUDA driver. Tests that use it need g++ and nvcc (`cuda_calls.needs`)."""
    import cuda_emulator

    return made_once(tmp_path_factory, "cuda_driver", cuda_emulator.build_driver)


@pytest.fixture(scope="session")
def runner_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds `effgen-run` for this machine, built anew and without a warning."""
    from effgen.deploy.native import build_runner

    def build(cache: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(cache))
            patch.setenv("CXXFLAGS", "-Werror")
            build_runner(f"{platform.machine()}-linux-gnu", "c++", "g++")

    return made_once(tmp_path_factory, "cache", build)


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """What networks of a few channels need; more threads than free cores make them many times as slow."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def runner(runner_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The `Runner` of this machine."""
    from effgen.deploy.native import Runner

    return Runner(next(runner_cache.glob(f"effgen/runner-{platform.machine()}-*/effgen-run")))


@pytest.fixture(scope="session")
def tiny_spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`networks.TINY` as a file."""
    path = tmp_path_factory.mktemp("spec") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def kinds_spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`networks.KINDS` as a file."""
    path = tmp_path_factory.mktemp("spec") / "kinds.toml"
    path.write_text(KINDS)
    return path


@pytest.fixture(scope="session")
def tiny_bundle(tiny_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network compiled for this machine. Tests that change a bundle copy it first."""
    from effgen.driver import CompileRequest, compile_bundle
    from effgen.network import NetworkRequest

    def compile_tiny(output: Path) -> None:
        compile_bundle(CompileRequest(NetworkRequest(spec=str(tiny_spec)), output))

    return made_once(tmp_path_factory, "tiny", compile_tiny)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process: exit status, standard output, standard error."""

    from effgen.cli import main

    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["effgen", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call
