"""`verify` of a packed folder: from anywhere, on a small system, on another machine."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import edit_manifest, flip
from networks import noise
from packing import HERE, refused, verify

from effgen.deploy.executors import InProcess
from effgen.runtime import load


def test_verify_from_anywhere(folder: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    for file in [*folder.rglob("*"), folder]:
        file.chmod(file.stat().st_mode & 0o555)
    clean = {"PATH": os.defpath}
    for command, place in (
        ([folder / "verify"], "/"),
        (["./verify"], folder),
        (["sh", "verify"], folder),
        (["verify"], tmp_path),
    ):
        environment = clean if command != ["verify"] else {"PATH": f"{folder}:{os.defpath}"}
        command = [*command, "--runs", "3", "--min-time", "0"]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done
        lines = [line.split()[0] for line in done.stdout.splitlines()]
        assert (
            lines == ["model", "target", "golden", "time"] and ": pass\n" in done.stdout and "(3 runs)" in done.stdout
        )
    for file in [folder, *folder.rglob("*")]:
        file.chmod(file.stat().st_mode | 0o200)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_verify_by_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder / "verify")
    done = subprocess.run([tmp_path / "link", "--runs", "1", "--min-time", "0"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_names_that_command_the_terminal(folder: Path) -> None:
    (folder / "bundle" / "a\x1b[31m\u009b").touch()
    refused(folder, "bundle/a?[31m??: not listed in SHA256SUMS")


def test_options_are_handed_on(folder: Path, tmp_path: Path) -> None:
    report = json.loads(verify(folder, "--threads", 1, "--runs", 2, "--min-time", 0, "--json").stdout)
    assert report["threads"] == 1 and len(report["runs_ms"]) == 2 and report["passed"]
    np.save(tmp_path / "x.npy", noise((2, 3, 32, 32)))
    done = verify(folder, "--input", "x.npy", "--output", "y.npy", cwd=tmp_path)  # paths as they are meant here
    assert (done.returncode, done.stderr) == (0, "")
    model = InProcess(load(folder / "bundle"))
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model(noise((2, 3, 32, 32))))
    assert verify(folder, "--nonsense").returncode == 2


def test_under_an_emulator_it_runs_once_and_looks_at_no_features(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "emulator").write_text('#!/bin/sh\nprintf "%s\\n" "$*" >&2\nshift\nexec "$@"\n')
    (tmp_path / "emulator").chmod(0o755)
    emulated = {**os.environ, "PATH": f"{tmp_path}:{os.defpath}", "EFFGEN_EMULATOR": "emulator -L"}
    done = verify(folder, env=emulated)
    assert done.returncode == 0 and "(1 runs)" in done.stdout
    assert done.stderr.startswith("-L ") and "--skip-features --runs 1 --min-time 0\n" in done.stderr
    assert "(4 runs)" in verify(folder, "--runs", 4, env=emulated).stdout
    np.save(tmp_path / "x.npy", noise((1, 3, 32, 32)))
    assert verify(folder, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy", env=emulated).returncode == 0
    refused(folder, "EFFGEN_EMULATOR: no-such: not found", env={**emulated, "EFFGEN_EMULATOR": "no-such -x"})


def test_checked_libraries_come_before_others(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "libtvm_ffi.so").write_text("no library")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    assert verify(folder, "--runs", 0, env=environment).returncode == 0


def tools(place: Path, without: str = "", **scripts: str) -> dict[str, str]:
    """An environment with what a small system has, a program left out or replaced."""
    place.mkdir()
    for name in ("sh", "find", "sort", "sed", "grep", "head", "uname", "sha256sum"):
        if name in scripts:
            (place / name).write_text(f"#!/bin/sh\n{scripts[name]}\n")
            (place / name).chmod(0o755)
        elif name != without:
            (place / name).symlink_to(str(shutil.which(name)))
    return {"PATH": str(place)}


def test_small_system(folder: Path, tmp_path: Path) -> None:
    assert verify(folder, "--runs", 0, env=tools(tmp_path / "bin")).returncode == 0
    refused(folder, "sha256sum: not found: it checks the files", env=tools(tmp_path / "less", without="sha256sum"))


@pytest.mark.skipif(not shutil.which("busybox"), reason="needs busybox")
def test_busybox(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("sh", "find", "sed", "grep", "head", "uname", "sha256sum"):
        (place / name).symlink_to(str(shutil.which("busybox")))
    how: dict[str, Any] = {"env": {"PATH": str(place)}, "capture_output": True, "text": True}
    done = subprocess.run([place / "sh", folder / "verify", "--runs", "0"], **how)
    assert (done.returncode, done.stderr) == (0, ""), done
    flip(folder / "bundle" / "lib.so")
    done = subprocess.run([place / "sh", folder / "verify", "--runs", "0"], **how)
    assert done.returncode == 1 and "bundle/lib.so: changed, damaged or missing" in done.stderr


def test_another_machine(folder: Path, tmp_path: Path) -> None:
    refused(folder, f"made for {HERE}, this machine is s390x", env=tools(tmp_path / "bin", uname="echo s390x"))


def test_program_that_may_not_run(folder: Path) -> None:
    (folder / "runtime" / "effgen-run").chmod(0o644)
    refused(folder, "runtime/effgen-run: not executable; run chmod +x on it")


def test_program_that_does_not_start(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "emulator").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "emulator").chmod(0o755)
    environment = {"PATH": os.defpath, "EFFGEN_EMULATOR": str(tmp_path / "emulator")}
    refused(folder, "does not start here (status 127); README.txt", env=environment)


def test_answer_that_is_missed_is_status_three(folder: Path) -> None:
    edit_manifest(folder / "bundle", lambda data: data.update(tolerance={"rel_l2": 0.0}))
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    done = subprocess.run(["sha256sum", "bundle/manifest.json"], cwd=folder, capture_output=True, text=True, check=True)
    kept = [line for line in lines if not line.endswith("manifest.json")]
    (folder / "SHA256SUMS").write_text("\n".join([*kept, done.stdout]))
    done = verify(folder, "--runs", 0)
    assert done.returncode == 3 and "expected at most 0" in done.stderr
