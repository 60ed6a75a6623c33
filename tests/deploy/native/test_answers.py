"""`effgen-run` computes what the Python runtime computes, wherever the bundle lies."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from damage import edit_manifest, seal
from native_runner import run
from networks import noise

import effgen
from effgen.deploy.executors import InProcess
from effgen.deploy.native import Runner, run_bundle, run_images
from effgen.judge.case import golden_pair, relative_l2
from effgen.machines.cpu import usable_cpus
from effgen.runtime import read_manifest


def test_golden_pair(runner: Runner, tiny_bundle: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    image, expected = golden_pair(tiny_bundle)
    report = run_bundle(runner, tiny_bundle, runs=3, layers=True)
    assert report.passed and report.tolerance == manifest.tolerance["rel_l2"]
    assert report.rel_l2 == pytest.approx(relative_l2(effgen.load(tiny_bundle)(image), expected), rel=1e-6)
    assert (report.model, report.target, report.threads) == (manifest.name, "cpu", manifest.threads)
    assert len(report.runs_ms) == 3 and len(report.steps_ms) == len(manifest.steps)


def test_no_timing_unless_asked_for(runner: Runner, tiny_bundle: Path) -> None:
    report = run_bundle(runner, tiny_bundle, layers=True)
    assert report.passed and (report.runs_ms, report.steps_ms) == ((), ())


@pytest.mark.parametrize("threads", [1, len(usable_cpus())])
def test_images_of_ones_own_as_in_python(runner: Runner, pair_bundle: Path, threads: int) -> None:
    images = noise((6, 3, 32, 32))
    logits = run_images(runner, pair_bundle, images, threads)
    np.testing.assert_array_equal(logits, InProcess(effgen.load(pair_bundle, threads))(images))


def test_text_for_people(runner: Runner, tiny_bundle: Path) -> None:
    done = run(runner, tiny_bundle, "--threads", 1, "--runs", 2, "--min-time", 0)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split()[0] for line in done.stdout.splitlines()]
    assert lines == ["model", "target", "golden", "time"] and "1 thread\n" in done.stdout and "pass" in done.stdout


def test_folder_runs_wherever_it_is_copied(runner: Runner, tiny_bundle: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(runner.program.parent, tmp_path / "copied") / "effgen-run"
    nested = shutil.copytree(runner.program.parent, tmp_path / "nested")
    (nested / "lib").mkdir()
    for library in nested.glob("*.so"):
        library.rename(nested / "lib" / library.name)
    for program in (copied, nested / "effgen-run"):
        done = run(Runner(program), os.path.relpath(tiny_bundle, "/"), "--runs", 0, cwd="/", env={})
        assert (done.returncode, done.stderr) == (0, "")


def test_corrupted_golden_pair_is_missed(runner: Runner, broken: Path) -> None:
    image, expected = golden_pair(broken)
    np.savez(broken / "golden.npz", input=image, output=expected + np.float32(1e-3))
    seal(broken)
    done = run(runner, broken, "--json", "--runs", 0)
    assert done.returncode == 3 and done.stderr.count("\n") == 1 and "expected at most 1e-05" in done.stderr
    report = run_bundle(runner, broken)
    assert not report.passed and report.rel_l2 == json.loads(done.stdout)["rel_l2"] > report.tolerance


def test_nan_never_passes(runner: Runner, broken: Path) -> None:
    weights = np.fromfile(broken / "weights.bin", "<f4")
    np.full_like(weights, np.nan).tofile(broken / "weights.bin")
    seal(broken)
    edit_manifest(broken, lambda data: data.update(tolerance={"rel_l2": 1e300}))
    report = run_bundle(runner, broken)
    assert not report.passed and report.rel_l2 == float("inf")
    assert "the output is not finite" in run(runner, broken, "--runs", 0).stderr
