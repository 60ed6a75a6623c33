"""`effgen compile`, `export`, `verify`, `bench` and `doctor` as a user runs them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import one_line

from effgen.judge.case import golden_pair
from effgen.runtime import read_manifest
from effgen.runtime.manifest import GOLDEN, sha256_of


def test_compile_reports(run: Any, tiny_spec: Path, tmp_path: Path) -> None:
    code, out, err = run("compile", "--spec", tiny_spec, "-o", tmp_path / "out", "--threads", "1", "--json", "-")
    data = json.loads(out)
    assert code == 0 and data["bundle"] == str(tmp_path / "out") and data["seconds"] > 0
    assert data["threads"] == 1 and data["kernels"] and data["target"]["name"] == "cpu"
    assert "target cpu, 1 thread\n" in err
    assert any(line.endswith(" s  export ONNX") for line in err.splitlines())
    assert "kernel " not in err


def test_export_writes_folded_and_unfolded(run: Any, tiny_spec: Path, tmp_path: Path) -> None:
    import onnx

    for name, option in (("folded.onnx", "--fold"), ("unfolded.onnx", "--no-fold")):
        code, out, _ = run("export", "--spec", tiny_spec, "-o", tmp_path / name, option)
        assert (code, out) == (0, f"{tmp_path / name}\n")
    operators = [{node.op_type for node in onnx.load(path).graph.node} for path in sorted(tmp_path.iterdir())]
    assert ["BatchNormalization" in each for each in operators] == [False, True]
    assert "--force" in one_line(run("export", "--spec", tiny_spec, "-o", tmp_path / "folded.onnx"))


def test_verify_passes(run: Any, tiny_bundle: Path) -> None:
    code, out, _ = run("verify", tiny_bundle)
    assert code == 0 and "passed: tolerance relative L2 <= 1e-05" in out
    code, out, _ = run("verify", tiny_bundle, "--json", "-", "--threads", "1")
    data = json.loads(out)
    assert code == 0 and data["passed"] is True and data["max_abs"] < 1e-3 and data["rel_l2"] < 1e-5


def test_verify_miss_is_status_three(run: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    """A golden pair of other weights: PyTorch's own answer is stable, and another one."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "b")
    manifest = read_manifest(bundle)
    image, output = golden_pair(bundle)
    np.savez(bundle / GOLDEN, input=image, output=output * np.float32(1.01))
    files = {**manifest.files, GOLDEN: sha256_of(bundle / GOLDEN)}
    (bundle / "manifest.json").write_text(replace(manifest, files=files).to_json())
    code, out, err = run("verify", bundle, "--json", "-", "-q")
    assert code == 3 and json.loads(out)["passed"] is False
    assert err.count("\n") == 1 and err.startswith(f"error: {bundle}: FAILED: ") and "needed" in err


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_flipped_byte_is_found(command: str, run: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "b")
    library = bytearray((bundle / "lib.so").read_bytes())
    library[len(library) // 2] ^= 1
    (bundle / "lib.so").write_bytes(library)
    assert "lib.so: SHA-256 is" in one_line(run(command, bundle))
    assert "no bundle here" in one_line(run(command, tmp_path / "absent"))


def test_bench_reports(run: Any, tiny_bundle: Path) -> None:
    words = ("--skip", "torch.compile,pytorch", "--rounds", "2", "--min-time", "0.02", "--threads", "1")
    code, out, _ = run("bench", tiny_bundle, *words)
    assert code == 0 and "median ms" in out and "pytorch-channels-last" in out and "2 interleaved rounds" in out
    code, out, _ = run("bench", tiny_bundle, *words, "--json", "-")
    data = json.loads(out)
    assert code == 0 and [row["backend"] for row in data["results"]] == ["effgen", "pytorch-channels-last"]
    assert "unknown peer" in one_line(run("bench", tiny_bundle, "--peers", "x"))


def test_bench_of_layers(run: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    words = ("--layers", "--rounds", "2", "--min-time", "0.02", "--threads", "1")
    code, out, _ = run("bench", tiny_bundle, *words)
    assert code == 0 and "of roofline" in out and "outside the kernels" in out and "2 interleaved rounds" in out
    assert ".txt: expected a file that ends in" in one_line(run("bench", tiny_bundle, *words, "--plot", "x.txt"))
    assert run("bench", tiny_bundle, "--plot", tmp_path / "x.png")[0] == 2
    assert run("bench", tiny_bundle, "--layers", "--peers", "onnxruntime")[0] == 2


def test_doctor(run: Any) -> None:
    code, out, _ = run("doctor", "--json", "-")
    data = json.loads(out)
    assert (code == 0) is data["healthy"]
    assert {"name", "status", "found", "fix"} == data["checks"][0].keys()
