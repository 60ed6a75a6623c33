"""Several networks compiled and timed in one run: all at once, nothing left behind."""

from pathlib import Path
from typing import Any

import pytest

from effgen.errors import TargetError
from effgen.method.latency import measured
from effgen.method.latency.interleaved import check_timed_here, measure_networks
from effgen.network import Network, NetworkRequest, build_network
from effgen.network.scaling import Overrides
from effgen.results.reports import OURS, Plan

QUICK = Plan(rounds=2, min_time_s=0.02)


@pytest.fixture
def pair(tiny_spec: Path) -> dict[str, Network]:
    small = build_network(NetworkRequest(str(tiny_spec)))
    large = build_network(NetworkRequest(str(tiny_spec), overrides=Overrides(resolution_factor=2.0)))
    return {"small": small, "large": large}


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_report_for_each_network_of_one_run(pair: dict[str, Network], folders: Path) -> None:
    phases: list[str] = []
    reports = measure_networks(pair, threads=1, plan=QUICK, on_phase=phases.append)
    assert list(reports) == ["small", "large"]
    for name, report in reports.items():
        (result,) = report.results
        assert (result.backend, result.ratio, report.threads, report.target) == (OURS, 1.0, 1, "cpu")
        assert result.calls is not None and result.calls >= QUICK.rounds
        assert (report.model.macs, report.plan) == (pair[name].graph.macs, QUICK)
    assert reports["small"].machine == reports["large"].machine
    assert reports["large"].model.resolution == (64, 64)
    assert phases[:2] == ["compile small", "compile large"]
    assert phases[-1] == "measure 2 rounds of 2 backends"
    assert list(folders.glob("*/*")) == []


def test_ctrl_c_leaves_nothing(pair: dict[str, Network], folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(request: Any, *rest: Any) -> None:
        request.output.mkdir()
        assert list(folders.glob("*/*")) != []
        raise KeyboardInterrupt

    monkeypatch.setattr(measured, "compile_bundle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure_networks(pair, plan=QUICK)
    assert list(folders.glob("*/*")) == []


def test_what_does_not_run_here_at_its_own_speed() -> None:
    check_timed_here("cpu", 1)
    with pytest.raises(TargetError, match=r"^--target aarch64: cannot be timed here: "):
        check_timed_here("aarch64")
    for threads in (0, 4096):
        with pytest.raises(TargetError, match=f"^--threads {threads}: expected from 1 to "):
            check_timed_here("cpu", threads)
