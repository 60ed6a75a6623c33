"""The Python half of `effgen-run`: how the process may end, and how the program is built."""

import shutil
from pathlib import Path

import pytest
from damage import edit_manifest
from native_runner import ARM, HERE, script

from effgen.deploy.native import Runner, build_runner, run_bundle
from effgen.errors import BuildError, BundleError


def test_timeout(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"was stopped: expected to end within 0.1 s"):
        run_bundle(script(tmp_path / "slow", "exec sleep 600"), tiny_bundle, timeout_s=0.1)


def test_death_by_signal(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="died of SIGILL"):
        run_bundle(script(tmp_path / "dies", "kill -ILL $$"), tiny_bundle)


def test_status_of_its_own(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="ended with status 255: no such interpreter"):
        run_bundle(script(tmp_path / "odd", "echo no such interpreter >&2; exit 255"), tiny_bundle)


def test_under_an_emulator_features_are_not_looked_at(runner: Runner, broken: Path) -> None:
    edit_manifest(broken, lambda data: data["target"].update(features=["sse9"]))
    assert run_bundle(Runner(runner.program, ("env",)), broken).passed


def test_missing_tools_name_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match=r"no-such-g\+\+: not found: .*apt-get install g-plus-plus$"):
        build_runner(HERE, "no-such-g++", "g-plus-plus")
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if name == "cmake" else real(name, path=path))
    with pytest.raises(BuildError, match=r"cmake: not found: .*pip install cmake"):
        build_runner(HERE, "c++", "g++")


def test_machine_without_a_toolchain_file() -> None:
    with pytest.raises(BuildError, match=rf"cannot be built for riscv64-linux-gnu here: .*known: {ARM}"):
        build_runner("riscv64-linux-gnu", "c++", "g++")


def test_failed_build_leaves_nothing(empty_cache: Path, tmp_path: Path) -> None:
    compiler = script(tmp_path / "bad-c++", 'test "$1" = --version && exec c++ --version; echo error: no >&2; exit 1')
    with pytest.raises(BuildError, match=r"building effgen-run .* failed: .*(error|Error)"):
        build_runner(HERE, str(compiler.program), "g++")
    assert [path.suffix for path in empty_cache.iterdir()] == [".lock"]
