"""Measuring in a folder, as on a machine that no network reaches: bad candidates, stops, and other machines."""

import ast
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from offline_folders import (
    modes_of,
    plan_of,
    results_of,
    rewrite,
    run_folder,
    runner,
    toy_folder,
    without_what_hangs,
)
from toy_spaces import ABORTS, FAST, HANGS, SLOW, SLOWEST, UNFINISHED, WRONG

import effgen
from effgen.measure.carried.lines import PLAN, RESULTS, is_sealed
from effgen.tuning.offline.folder import carried_files

FATES = {
    SLOW: "ok", FAST: "ok", SLOWEST: "ok",
    WRONG: "wrong", UNFINISHED: "wrong", ABORTS: "crashed",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder nobody has run; tests copy it."""
    folder = tmp_path_factory.mktemp("offline") / "made"
    toy_folder(folder)
    return folder


@pytest.fixture
def with_one_that_hangs(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "folder"))


@pytest.fixture
def folder(with_one_that_hangs: Path) -> Path:
    """None of its candidates hangs."""
    rewrite(with_one_that_hangs, without_what_hangs(plan_of(with_one_that_hangs)))
    return with_one_that_hangs


def test_every_candidate_gets_what_it_deserves(folder: Path) -> None:
    done = run_folder(folder)
    assert done.returncode == 0, done.stderr
    results = results_of(folder)
    assert modes_of(plan_of(folder), results) == FATES
    assert all(is_sealed(line) for line in results)
    by_status = {line["status"]: line["error"] for line in results}
    assert "SIGABRT" in by_status["crashed"]
    assert "6/6" in done.stdout and "send back" in done.stdout and "1 crashed, 3 ok, 2 wrong" in done.stdout
    # The first that works is what the others are timed in turn with.
    first = results[0]
    assert first["incumbent"] is None and first["timing"]["incumbent_seconds"] is None
    assert {line["incumbent"] for line in results if line["status"] == "ok"} == {None, first["candidate"]}
    # Nothing is left of it but the results, and nothing is measured again.
    assert {path.name for path in folder.iterdir()} == {"run.py", PLAN, RESULTS, "data", "effgen", "kernels", "runtime"}
    before = (folder / RESULTS).read_bytes()
    assert "6 known from before" in run_folder(folder).stdout
    assert (folder / RESULTS).read_bytes() == before


def test_candidate_that_hangs_costs_itself_only(with_one_that_hangs: Path) -> None:
    """It is given two seconds; whether the others need more on a busy machine does not matter here."""
    rewrite(with_one_that_hangs, {**plan_of(with_one_that_hangs), "limit_s": 2.0})
    done = run_folder(with_one_that_hangs)
    assert done.returncode == 0 and "7/7" in done.stdout, done.stderr
    plan, results = plan_of(with_one_that_hangs), results_of(with_one_that_hangs)
    fates = modes_of(plan, results)
    assert fates.keys() == {*FATES, HANGS} and fates[HANGS] == "timeout"
    hung = [line["error"] for line in results if line["status"] == "timeout"]
    assert hung and all("no result within 2 s" in error for error in hung)


def test_killed_run_goes_on_and_a_torn_line_is_measured_again(folder: Path) -> None:
    with subprocess.Popen(runner(folder), stdout=subprocess.PIPE, text=True, env={}) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("2/"):
                break
        process.send_signal(signal.SIGKILL)
    known = results_of(folder)
    assert len(known) >= 2
    whole = (folder / RESULTS).read_bytes()
    (folder / RESULTS).write_bytes(whole[:-20])
    assert run_folder(folder).returncode == 0
    lines = (folder / RESULTS).read_text().splitlines()
    torn = [line for line in lines if not line.endswith(("}}", "null}"))]
    assert len(torn) == 1 and lines.index(torn[0]) == len(known) - 1
    lines.remove(torn[0])
    assert modes_of(plan_of(folder), [json.loads(line) for line in lines]) == FATES


def test_child_dies_with_a_killed_runner(with_one_that_hangs: Path) -> None:
    folder = with_one_that_hangs
    rewrite(folder, {**plan_of(folder), "limit_s": 1000.0})
    with subprocess.Popen(runner(folder), stdout=subprocess.PIPE, text=True, env={}) as process:
        assert process.stdout
        process.stdout.readline()
        child = wait_for_child(process.pid)
        process.kill()
    for _ in range(6000):
        if not Path(f"/proc/{child}").exists():
            return
        time.sleep(0.05)
    raise AssertionError("the child lives on")


def wait_for_child(pid: int) -> int:
    for _ in range(6000):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.05)
    raise AssertionError("no child")


def test_other_runtime_and_results_elsewhere(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "runtime", tmp_path / "other")
    assert "no libtvm_ffi.so; expected a folder with" in run_folder(folder).stderr
    done = run_folder(folder, "--runtime", str(tmp_path / "other"), "--results", str(tmp_path / "mine.jsonl"))
    assert done.returncode == 0 and len((tmp_path / "mine.jsonl").read_text().splitlines()) == len(FATES)
    assert not (folder / RESULTS).exists()


def test_libraries_are_found_where_pip_puts_them(folder: Path) -> None:
    site = Path(effgen.runtime.library.package_file("tvm", "lib/libtvm_runtime.so")).parents[2]
    shutil.rmtree(folder / "runtime")
    assert run_folder(folder, "--runtime", str(site)).returncode == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"architecture": "aarch64"},
            "is x86_64; the kernels are built for aarch64; the folder is for --target x86-64-v3",
        ),
        ({"features": ["avx2", "amx_of_tomorrow"]}, "lacks amx_of_tomorrow, which the kernels use; the folder is for"),
        ({"cores": 4096}, "CPUs; the kernels are built for 4096 threads"),
    ],
)
def test_machine_that_the_folder_is_not_for(change: dict[str, object], text: str, folder: Path) -> None:
    rewrite(folder, plan_of(folder) | change)
    done = run_folder(folder)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and text in done.stderr


def test_changed_folder_is_not_measured(folder: Path) -> None:
    library = next((folder / "kernels").glob("0*.so"))
    library.write_bytes(library.read_bytes() + b"x")
    done = run_folder(folder)
    assert done.returncode == 1 and "is not the file that the plan was made with; copy the folder again" in done.stderr
    assert "Traceback" not in done.stderr
    (folder / PLAN).write_text((folder / PLAN).read_text().replace('"limit_s": 1000.0', '"limit_s": 9.0'))
    assert "was changed; copy the folder again" in run_folder(folder).stderr
    (folder / PLAN).unlink()
    assert "cannot be read" in run_folder(folder).stderr


def test_results_that_cannot_be_written(folder: Path) -> None:
    done = run_folder(folder, "--results", str(folder / "absent" / "results.jsonl"))
    assert done.returncode == 1 and "cannot be written: No such file or directory; give --results" in done.stderr


def test_what_is_carried_is_python_3_8() -> None:
    for name in carried_files():
        text = (Path(effgen.__file__).parent / name).read_text()
        ast.parse(text, feature_version=(3, 8))
        # There `Sequence[int]` of collections.abc cannot be evaluated.
        assert "from __future__ import annotations" in text or name.endswith("__init__.py"), name


def test_the_whole_room_is_carried(folder: Path) -> None:
    room = Path(effgen.__file__).parent / "measure" / "carried"
    files = {str(path.relative_to(folder / "effgen")): path.read_text() for path in (folder / "effgen").rglob("*.py")}
    assert files.keys() >= {f"measure/carried/{path.name}" for path in room.glob("*.py")}
    assert [name for name in files if files[name] and name not in carried_files()] == []


def test_runs_with_python_3_8(folder: Path) -> None:
    names = [shutil.which("python3.8"), *map(str, Path.home().glob(".pyenv/versions/3.8.*/bin/python3.8"))]
    found = [name for name in names if name and subprocess.run([name, "-c", ""], capture_output=True).returncode == 0]
    if not found:
        pytest.skip("no Python 3.8 here")
    assert run_folder(folder, python=found[-1]).returncode == 0
