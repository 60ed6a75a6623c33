"""The scripts in benchmarks/ that keep what they made: what they reuse, and what they refuse to."""

import argparse
import importlib.util
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BuildError
from effgen.network.file_network import OnnxRequest
from effgen.runtime.manifest import MODEL

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

#: Compiles to a manifest, measures to a file, and notes what it was asked for.
EFFGEN = """#!/usr/bin/env bash
while [ $# -gt 0 ]; do
    case $1 in
        compile | bench | compare) command=$1; first=$2 ;;
        --layers) command=layers ;;
        -o | --json) made=$2 ;;
    esac
    shift
done
echo "$command ${first##*/}" >>"$LOG"
if [ "$command" = compile ]; then mkdir -p "$made" && made=$made/manifest.json; fi
echo x >"$made"
"""


@pytest.fixture(scope="module")
def table4() -> ModuleType:
    found = importlib.util.spec_from_file_location("table4", BENCHMARKS / "table4.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kept(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network's ONNX file and the bundle `resnet152` compiled from it for one thread."""
    folder = tmp_path_factory.mktemp("table4")
    shutil.copy(tiny_bundle / MODEL, folder / "mine.onnx")
    compile_bundle(CompileRequest(OnnxRequest(folder / "mine.onnx"), folder / "resnet152", threads=1))
    return folder


def test_kept_bundle_has_to_be_of_the_file(table4: ModuleType, kept: Path, tmp_path: Path) -> None:
    options = argparse.Namespace(resnet152=kept / "mine.onnx")
    assert table4.bundle_of("resnet152", kept, options) == kept / "resnet152"
    assert table4.bundle_of("resnet152", kept, argparse.Namespace(resnet152=None)) == kept / "resnet152"
    other = tmp_path / "other.onnx"
    other.write_bytes(b"another network")
    with pytest.raises(
        BuildError, match=r"compiled from a file of SHA-256 \w{12}, --resnet152 .*other.onnx has \w{12}"
    ):
        table4.bundle_of("resnet152", kept, argparse.Namespace(resnet152=other))
    with pytest.raises(BuildError, match=r"--resnet152 .*absent.onnx: no such file"):
        table4.bundle_of("resnet152", kept, argparse.Namespace(resnet152=tmp_path / "absent.onnx"))


def test_kept_bundle_has_to_be_for_one_thread(table4: ModuleType, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = replace(table4.read_manifest(kept / "resnet152"), threads=2)
    monkeypatch.setattr(table4, "read_manifest", lambda bundle: manifest)
    with pytest.raises(BuildError, match="compiled for 2 threads: expected 1; remove it"):
        table4.bundle_of("resnet152", kept, argparse.Namespace(resnet152=None))


@pytest.mark.parametrize(("without_b7", "names"), [(True, ["resnet152", "b1"]), (False, ["resnet152", "b1", "b7"])])
def test_networks_of_the_paper(table4: ModuleType, without_b7: bool, names: list[str]) -> None:
    assert table4.networks(argparse.Namespace(without_b7=without_b7)) == names


class Report:
    """benchmarks/report.sh with an effgen that only notes how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._effgen = folder / "effgen"
        self._effgen.write_text(EFFGEN)
        self._effgen.chmod(0o755)

    def __call__(self, *phis: int, bundles: str = "") -> tuple[subprocess.CompletedProcess[str], list[str]]:
        log = self.folder / "log"
        log.write_text("")
        environment = {**os.environ, "EFFGEN": str(self._effgen), "LOG": str(log), "BUNDLES": bundles, "THREADS": "1"}
        words = ["bash", str(BENCHMARKS / "report.sh"), str(self.folder / "report"), *map(str, phis)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        return done, [line for line in log.read_text().splitlines() if not line.startswith("compare")]


def test_report_measures_a_recompiled_bundle_again(tmp_path: Path) -> None:
    report = Report(tmp_path)
    done, asked = report(0, 1)
    assert done.returncode == 0, done.stderr
    names = [f"phi{phi}-batch1-threads1" for phi in (0, 1)]
    measure = [[f"bench {name}", f"layers {name}"] for name in names]
    assert asked[2:] == [*measure[0], *measure[1]] and asked[0].startswith("compile")
    assert report(0, 1)[1] == []
    manifest = report.folder / "report" / "bundles" / names[1] / "manifest.json"
    later = manifest.stat().st_mtime + 60
    os.utime(manifest, (later, later))
    assert report(0, 1)[1] == measure[1]


def test_report_refuses_two_bundles_of_a_name(tmp_path: Path) -> None:
    report = Report(tmp_path)
    done, asked = report(0, bundles="a/net b/net")
    assert done.returncode == 1 and asked == []
    assert done.stderr == "error: two bundles are named net, and their results would be one file; rename one\n"
