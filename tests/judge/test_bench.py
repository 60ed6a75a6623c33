"""Measuring: warm-up, interleaving, what is counted, and peers that are missing, broken or wrong."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from reports import bench_report, written

from effgen.errors import BundleError, EffgenError
from effgen.judge import bench as bench_module
from effgen.judge import peers
from effgen.judge.bench import Backend, bench_bundle, burst, measure, prepare_peer, warm_up
from effgen.judge.peers import DEFAULT_PEERS, PEERS, Peer, PeerJob, peers_from_text
from effgen.machines import host
from effgen.machines.host import watch_other_work
from effgen.machines.load import busy_processes
from effgen.report.bench import notes_from_bench, table_from_bench, title_from_report, warning_from_bench
from effgen.results.reports import BenchReport, LeftOut, Plan, read_report
from effgen.results.rows import setting_of
from effgen.runtime import read_manifest

Logits = np.ndarray

ANSWER = np.zeros((1, 10), np.float32)
QUICK = Plan(rounds=2, min_time_s=0.02)


@dataclass
class Clock:
    """Stands for `time` in `effgen.judge.bench`; backends move it on."""

    now: float = 0.0
    called: list[str] = field(default_factory=list)

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def backend(self, name: str, *seconds: float) -> Backend:
        """Takes each of `seconds` in turn, the last one for ever."""
        left = list(seconds)

        def run() -> Logits:
            self.called.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return np.zeros((1, 10), np.float32)

        return Backend(name, "1", run)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(bench_module, "time", clock)
    return clock


def test_every_backend_runs_in_every_round_and_the_order_turns(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "WAKE_S", 0.0)
    monkeypatch.setattr(bench_module, "warm_up", lambda run: 0.001)
    backends = [clock.backend(name, seconds) for name, seconds in (("a", 0.001), ("b", 0.002), ("c", 0.003))]
    samples = measure(backends, Plan(rounds=3, min_time_s=0.0))
    assert "".join(clock.called) == "abc" + "bca" + "cab"
    for name, seconds in (("a", 0.001), ("b", 0.002), ("c", 0.003)):
        assert samples[name] == pytest.approx([seconds] * 3)


def test_burst_fills_its_time_and_does_not_count_waking_up(clock: Clock) -> None:
    samples = burst(clock.backend("a", 0.002).run, time_s=0.009, wake_s=0.005)
    assert samples == pytest.approx([0.002] * 5)
    assert len(clock.called) == 3 + 5


def test_burst_times_a_slow_call_once(clock: Clock) -> None:
    assert len(burst(clock.backend("a", 0.01).run, time_s=0.0, wake_s=0.0)) == len(clock.called) == 1


def test_warm_up_waits_until_times_settle(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "_WINDOW_S", 0.0)
    assert warm_up(clock.backend("a", 0.03, 0.02, 0.01, 0.01, 99.0).run) == pytest.approx(0.01)
    assert len(clock.called) == 4


def test_peer_names() -> None:
    assert peers_from_text("", "") == list(DEFAULT_PEERS)
    assert peers_from_text("openvino, onnxruntime", "torch.compile,pytorch") == [
        "pytorch-channels-last",
        "openvino",
        "onnxruntime",
    ]
    with pytest.raises(EffgenError, match=r"--peers onnxruntim: unknown peer; did you mean onnxruntime\? known: "):
        peers_from_text("onnxruntim", "")
    with pytest.raises(EffgenError, match="--skip x: unknown peer"):
        peers_from_text("", "x")


def job(folder: Path) -> PeerJob:
    return PeerJob(folder / "model.onnx", np.zeros((1, 3, 8, 8), np.float32), 1)


def fake(monkeypatch: pytest.MonkeyPatch, prepare: Callable[[PeerJob], peers.Run], distribution: str = "numpy") -> None:
    monkeypatch.setattr(peers, "PEERS", {**PEERS, "fake": Peer(distribution, "peers", prepare)})
    monkeypatch.setattr(bench_module, "PEERS", peers.PEERS)


def test_peer_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake(monkeypatch, lambda job: lambda: np.zeros((1, 10), np.float32), distribution="no-such-distribution")
    assert prepare_peer("fake", job(tmp_path), ANSWER) == LeftOut("fake", "not installed: pip install 'effgen[peers]'")


def test_peer_that_breaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(job: PeerJob) -> peers.Run:
        raise RuntimeError("no compiler\nand a long trace")

    fake(monkeypatch, broken)
    assert prepare_peer("fake", job(tmp_path), ANSWER) == LeftOut(
        "fake", "cannot run the model: RuntimeError: no compiler"
    )


def test_bench_of_a_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    phases: list[str] = []
    report = bench_bundle(tiny_bundle, ["pytorch", "pytorch-channels-last"], 1, QUICK, phases.append)
    assert [result.backend for result in report.results] == ["effgen", "pytorch", "pytorch-channels-last"]
    ours = report.results[0]
    assert (ours.ratio, report.threads, report.model.batch) == (1.0, 1, 1)
    for result in report.results:
        low, high, least, mad = result.p10_ms, result.p90_ms, result.min_ms, result.mad_ms
        assert low is not None and high is not None and least is not None and mad is not None
        assert 0 < least <= low <= result.median_ms <= high and 0 <= mad <= result.median_ms
        assert result.mean_ms is not None and result.mean_ms >= least
        assert result.spread == pytest.approx((high - low) / result.median_ms)
        assert result.images_per_second == pytest.approx(1e3 / result.median_ms)
        assert result.rel_l2 is not None and result.rel_l2 < 1e-5
    assert phases[-2:] == ["warm up", "measure 2 rounds of 3 backends"]
    assert read_report(written(report, tmp_path / "x.json")) == report


def test_report_says_what_it_is_of(tiny_bundle: Path) -> None:
    report = bench_bundle(tiny_bundle, [], 1, QUICK)
    manifest = read_manifest(tiny_bundle)
    model = report.model
    assert (model.name, model.family, model.phi, model.law) == (manifest.name, "tiny", 0.0, "formula")
    assert (model.macs, model.parameters, model.resolution) == (manifest.macs, manifest.parameters, (32, 32))
    assert model.bundle_bytes == sum((tiny_bundle / name).stat().st_size for name in ("lib.so", "weights.bin"))
    assert report.origin.versions.keys() == {"python", "effgen", "tvm", "tvm_ffi", "numpy"}
    assert report.origin.compiled_by == manifest.versions and "LLVM" in manifest.versions["compiler"]
    assert report.origin.route == "local"


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_optional_peer(name: str, tiny_bundle: Path) -> None:
    pytest.importorskip(name)
    report = bench_bundle(tiny_bundle, [name], 1, QUICK)
    assert [result.backend for result in report.results] == ["effgen", name], report.left_out


@pytest.mark.slow
def test_inductor(tiny_bundle: Path) -> None:
    report = bench_bundle(tiny_bundle, ["torch.compile"], 1, QUICK)
    assert [result.backend for result in report.results] == ["effgen", "torch.compile"], report.left_out


def test_wrong_answer_gets_no_time(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, lambda job: lambda: np.ones((1, 10), np.float32))
    report = bench_bundle(tiny_bundle, ["fake"], 1, QUICK)
    assert [result.backend for result in report.results] == ["effgen"]
    assert report.left_out[0].reason.startswith("wrong answer: relative L2 ")


def test_unknown_peer_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(EffgenError, match="unknown peer"):
        bench_bundle(tmp_path / "absent", ["x"])
    with pytest.raises(BundleError):
        bench_bundle(tmp_path / "absent", [])


def test_other_work_is_reported() -> None:
    report = bench_report(other_cpus=0.9)
    assert report.disturbed and "0.9 CPUs busy" in warning_from_bench(report)
    assert "0.90 CPUs of other work" in notes_from_bench(report)[-1]
    calm = replace(report, other_cpus=0.05)
    assert not calm.disturbed and warning_from_bench(calm) == ""


def test_own_work_is_not_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three seconds' work in two seconds one and a half are this process's own."""
    a_second = os.sysconf("SC_CLK_TCK")
    for name, readings in (("_busy_ticks", (100, 100 + 3 * a_second)), ("_own_seconds", (7.0, 8.5))):
        monkeypatch.setattr(host, name, partial(next, iter(readings)))
    monkeypatch.setattr(host, "time", SimpleNamespace(perf_counter=partial(next, iter((50.0, 52.0)))))
    with watch_other_work() as work:
        pass
    assert work.cpus == pytest.approx(0.75)


def test_other_work_of_this_machine_can_be_told() -> None:
    with watch_other_work() as work:
        pass
    assert work.cpus is not None and work.cpus >= 0


def processes_below(pid: int) -> set[int]:
    """Of this process, at any depth."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    found = {int(word) for word in listed.read_text().split()} if listed.exists() else set()
    return found.union(*(processes_below(child) for child in found))


def cpu_ticks(pid: int) -> int:
    """Of the user's time that a process has had."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


def runs(pid: int) -> bool:
    """Whether the process is there and has not ended; where nobody waits for it, it stays listed."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def test_busy_processes_are_busy_and_end() -> None:
    before = processes_below(os.getpid())
    with busy_processes(2):
        while len(started := processes_below(os.getpid()) - before) < 4:  # each has a guard
            time.sleep(0.01)
        while sum(cpu_ticks(pid) > 20 for pid in started) < 2:  # more than starting takes
            time.sleep(0.01)
    while any(runs(pid) for pid in started):
        time.sleep(0.01)


def test_report_beside_busy_processes(tiny_bundle: Path) -> None:
    report = bench_bundle(tiny_bundle, ("onnxruntime",), 1, replace(QUICK, load=1))
    assert report.load == 1 and all(result.p99_ms is not None for result in report.results)
    assert title_from_report(report).endswith("1 thread, float32, beside 1 busy process")
    assert setting_of(report) != setting_of(replace(report, plan=QUICK))
    assert setting_of(report).title.endswith("beside 1 busy process")


def test_disturbed_ratios_are_marked() -> None:
    def ratios(report: BenchReport) -> list[str]:
        (column,) = (each for each in table_from_bench(report).columns if each.header == "vs effgen")
        return [str(cell) for cell in column.cells]

    quiet = bench_report(onnxruntime=7.5)
    assert ratios(quiet) == ["1.00x", "1.50x"]
    assert ratios(replace(quiet, other_cpus=0.9)) == ["1.00x?", "1.50x?"]
