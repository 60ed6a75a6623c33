"""Offline folders for GPUs: written here, measured by the driver alone (an emulated one), and read back."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cuda_emulator
import pytest
from offline_folders import results_of, runner

import effgen.tuning.request
from effgen.cli import main
from effgen.errors import BuildError
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.machines.target import load_target
from effgen.machines.toolchain import cuda_program
from effgen.measure.carried.lines import RESULTS
from effgen.records.choice import KernelChoices
from effgen.records.database import RecordFile
from effgen.tuning.offline import code

WORKLOADS = Counter(
    {Conv2d(1, 7, 7, 24, 40, activation="silu", gated=True): 2, SqueezeExcite(1, 7, 7, 40, 8, "silu", "sigmoid"): 1}
)


@pytest.fixture(scope="module", autouse=True)
def nvcc() -> None:
    try:
        cuda_program("nvcc")
    except BuildError as error:
        pytest.skip(str(error))


def effgen_tune(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """`effgen tune` for a GPU on two small kernels; its exit status."""
    monkeypatch.setattr(effgen.tuning.request, "calls_of_network", lambda network, kernels=None: WORKLOADS)
    monkeypatch.setattr(sys, "argv", ["effgen", "tune", "--target", "cuda-sm90", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[str] = []
    compile_fatbin = code.compile_fatbin

    def keep(source: str, gpu: object) -> bytes:
        sources.append(source)
        return compile_fatbin(source, gpu)  # type: ignore[arg-type]

    monkeypatch.setattr(code, "compile_fatbin", keep)
    folder, database = tmp_path / "folder", tmp_path / "db"
    assert effgen_tune(monkeypatch, "--db", database, "--offline-out", folder, "--trials", 8) == 0
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["device"] == {"kind": "cuda", "arch": "sm_90"} and plan["mcpu"] == "sm_90"
    assert not (folder / "runtime").exists()
    driver = cuda_emulator.build_driver(tmp_path / "driver")
    kernels = [
        cuda_emulator.build_kernels(source, tmp_path / f"kernels{number}.so") for number, source in enumerate(sources)
    ]
    environment = cuda_emulator.environment(driver, *kernels)
    done = subprocess.run(runner(folder), capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    results = results_of(folder)
    assert {line["status"] for line in results} == {"ok"} and {line["device"] for line in results} == {"emulated GPU"}
    assert effgen_tune(monkeypatch, "--db", database, "--offline-in", folder / RESULTS) == 0
    # What beat the rule's default is chosen, and nothing else is.
    chosen, records = KernelChoices(load_target("cuda-sm90"), database), RecordFile(database).load().records
    for workload in WORKLOADS:
        best = min((r for r in records if r.kernel == workload.name and r.leads), key=lambda record: record.time_s)
        assert chosen.choice(workload).decisions == best.decisions
        assert (chosen.choice(workload).source == "record:database") == best.kept


def test_folder_says_why_it_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    assert effgen_tune(monkeypatch, "--db", tmp_path / "db", "--offline-out", folder, "--trials", 2) == 0
    done = subprocess.run(runner(folder), capture_output=True, text=True, env={}, check=False)
    assert done.returncode == 1 and "no GPU can be used: libcuda.so.1 cannot be loaded" in done.stderr
    environment = cuda_emulator.environment(cuda_emulator.build_driver(tmp_path / "driver"), sm=80)
    done = subprocess.run(runner(folder), capture_output=True, text=True, env=environment, check=False)
    assert "this GPU (emulated GPU) is sm_80; the kernels are built for sm_90" in done.stderr


def test_gpus_are_measured_offline_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert effgen_tune(monkeypatch, "--measure", "local") == 1
    assert "kernels of GPUs are measured from a folder" in capsys.readouterr().err
