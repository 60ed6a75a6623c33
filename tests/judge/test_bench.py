"""Measuring: warm-up, interleaving, what is counted, and peers that are missing, broken or wrong."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from reports import bench_report, written

import effgen
from effgen.errors import BundleError, EffgenError
from effgen.judge import bench as bench_module
from effgen.judge import entering, peers, race, timing
from effgen.judge.bench import bench_bundle
from effgen.judge.job import PeerJob, Run
from effgen.judge.messages import Entered, Entry
from effgen.judge.peers import DEFAULT_PEERS, PEERS, Peer, peers_from_text
from effgen.judge.race import Contender, Here, LostError, run_race
from effgen.judge.timing import burst, warm_up
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
    """Stands for `time` in `effgen.judge.timing` and `race`; backends move it on."""

    now: float = 0.0
    called: list[str] = field(default_factory=list)

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, name: str, *seconds: float) -> Callable[[], Logits]:
        """Takes each of `seconds` in turn, the last one for ever."""
        left = list(seconds)

        def run() -> Logits:
            self.called.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return np.zeros((1, 10), np.float32)

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (timing, race):
        monkeypatch.setattr(module, "time", clock)
    return clock


SECONDS = {"a": 0.001, "b": 0.002, "c": 0.003}


def test_every_backend_runs_in_every_round_and_the_order_turns(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "WAKE_S", 0.0)
    monkeypatch.setattr(race, "warm_up", lambda run: 0.001)
    racers = {name: Here(clock.run(name, seconds)) for name, seconds in SECONDS.items()}
    ran = run_race(racers, Plan(rounds=3, min_time_s=0.0))
    assert "".join(clock.called) == "abc" + "bca" + "cab" and not ran.lost
    for name, seconds in SECONDS.items():
        assert ran.samples[name] == pytest.approx([seconds] * 3)


class Lost(Here):
    """Its process ends at its third burst, or while it warms up."""

    left = 2

    def burst(self, time_s: float, wake_s: float) -> list[float]:
        Lost.left -= 1
        if Lost.left < 0:
            raise LostError("signal SIGSEGV")
        return super().burst(time_s, wake_s)


class NeverWarm(Here):
    """Ends while it warms up."""

    def warm_up(self) -> float:
        raise LostError("signal SIGKILL")


def test_those_that_are_lost_are_out_and_the_others_go_on(clock: Clock) -> None:
    racers = {name: Here(clock.run(name, seconds)) for name, seconds in SECONDS.items()}
    racers["b"], racers["d"] = Lost(clock.run("b", 0.002)), NeverWarm(clock.run("d", 0.001))
    ran = run_race(racers, Plan(rounds=4, min_time_s=0.0))
    assert ran.lost == {"b": "signal SIGSEGV", "d": "signal SIGKILL"}
    assert {name: len(found) for name, found in ran.samples.items()} == {"a": 4, "c": 4}


def test_burst_fills_its_time_and_does_not_count_waking_up(clock: Clock) -> None:
    samples = burst(clock.run("a", 0.002), time_s=0.009, wake_s=0.005)
    assert samples == pytest.approx([0.002] * 5)
    assert len(clock.called) == 3 + 5


def test_burst_times_a_slow_call_once(clock: Clock) -> None:
    assert len(burst(clock.run("a", 0.01), time_s=0.0, wake_s=0.0)) == len(clock.called) == 1


def test_flow_goes_on_after_what_counts(clock: Clock) -> None:
    assert timing.flow(clock.run("a", 0.001, 0.004, 0.002), time_s=0.007, wake_s=0.001) == (3, pytest.approx(0.008))
    assert len(clock.called) == 1 + 3 + 2


def test_warm_up_waits_until_times_settle(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_WINDOW_S", 0.0)
    assert warm_up(clock.run("a", 0.03, 0.02, 0.01, 0.01, 99.0)) == pytest.approx(0.01)
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


def fake(monkeypatch: pytest.MonkeyPatch, prepare: Callable[[PeerJob], Run], distribution: str = "numpy") -> None:
    for module in (peers, bench_module, entering):
        monkeypatch.setattr(module, "PEERS", {**PEERS, "fake": Peer(distribution, "peers", prepare)})


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contenders enter in this process, where a test may put a peer of its own."""

    class EntersHere:
        def __init__(self, entry: Entry) -> None:
            run, self.told = entering.enter(entry, 0)
            racer = Here(run or (lambda: ANSWER))
            self.warm_up, self.burst = racer.warm_up, racer.burst

        def __enter__(self) -> "EntersHere":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def close(self) -> None:
            pass

    monkeypatch.setattr(bench_module, "Contender", EntersHere)


def test_peer_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, here: None, tiny_bundle: Path) -> None:
    fake(monkeypatch, lambda job: lambda: np.zeros((1, 10), np.float32), distribution="no-such-distribution")
    report = bench_bundle(tiny_bundle, ["fake"], 1, QUICK)
    assert report.left_out == (LeftOut("fake", "not installed: pip install 'effgen[peers]'"),)


def test_peer_that_breaks(monkeypatch: pytest.MonkeyPatch, here: None, tiny_bundle: Path) -> None:
    def broken(job: PeerJob) -> Run:
        raise RuntimeError("no compiler\nand a long trace")

    fake(monkeypatch, broken)
    report = bench_bundle(tiny_bundle, ["fake"], 1, QUICK)
    assert report.left_out == (LeftOut("fake", "cannot run the model: RuntimeError: no compiler"),)


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_wrong_answer_gets_no_time(
    value: float, tiny_bundle: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, lambda job: lambda: np.full((1, 10), value, np.float32))
    report = bench_bundle(tiny_bundle, ["fake"], 1, QUICK)
    assert [result.backend for result in report.results] == ["effgen"]
    assert report.left_out[0].reason.startswith("wrong answer: relative L2 ")


def test_process_of_a_backend_that_is_killed(tiny_bundle: Path) -> None:
    """Before it is set up, and in the race."""
    with Contender(Entry("effgen", tiny_bundle, 1)) as ours, Contender(Entry("onnxruntime", tiny_bundle, 1)) as peer:
        assert isinstance(ours.told, Entered) and isinstance(peer.told, Entered)
        np.testing.assert_allclose(ours.told.answer, peer.told.answer, atol=1e-4)
        assert ours.told.memory is not None and 1e5 < ours.told.memory < 1e9
        os.kill(peer.pid, signal.SIGKILL)
        ran = run_race({"effgen": ours, "onnxruntime": peer}, QUICK)
        assert list(ran.samples) == ["effgen"] and ran.lost == {"onnxruntime": "its process ended: signal SIGKILL"}


def test_processes_end_with_the_race(tiny_bundle: Path) -> None:
    before = processes_below(os.getpid())
    bench_bundle(tiny_bundle, ["onnxruntime"], 1, QUICK)
    assert not {pid for pid in processes_below(os.getpid()) - before if runs(pid)}


def test_bundle_that_cannot_be_loaded_says_so(tiny_bundle: Path, tmp_path: Path) -> None:
    """As loading it in this process does, through the pipe."""
    broken = tmp_path / "broken"
    shutil.copytree(tiny_bundle, broken)
    (broken / "weights.bin").write_bytes(b"short")
    with pytest.raises(BundleError) as here:
        effgen.load(broken, threads=1)
    with pytest.raises(BundleError) as there:
        bench_bundle(broken, [], 1, QUICK)
    assert str(there.value) == str(here.value)


def test_bench_of_a_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    phases: list[str] = []
    report = bench_bundle(tiny_bundle, ["pytorch", "pytorch-channels-last"], 1, QUICK, phases.append)
    assert [result.backend for result in report.results] == ["effgen", "pytorch", "pytorch-channels-last"]
    ours = report.results[0]
    assert (ours.ratio, report.threads, report.model.batch) == (1.0, 1, 1)
    for result in report.results:
        low, high, least, mad = result.p10_ms, result.p90_ms, result.min_ms, result.mad_ms
        assert low is not None and high is not None and least is not None and mad is not None
        assert result.p25_ms is not None and result.memory_bytes is not None and result.memory_bytes > 1e5
        assert 0 < least <= low <= result.p25_ms <= result.median_ms <= high and 0 <= mad <= result.median_ms
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


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "executorch", "iree", "litert", "mnn", "ncnn", "tvm"])
def test_optional_peer(name: str, tiny_bundle: Path) -> None:
    if peers.peer_version(name) is None:
        pytest.skip(f"needs {PEERS[name].distribution}")
    report = bench_bundle(tiny_bundle, [name], 1, QUICK)
    assert [result.backend for result in report.results] == ["effgen", name], report.left_out


@pytest.mark.slow
def test_inductor(tiny_bundle: Path) -> None:
    report = bench_bundle(tiny_bundle, ["torch.compile"], 1, QUICK)
    assert [result.backend for result in report.results] == ["effgen", "torch.compile"], report.left_out


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


def test_work_of_processes_that_were_started_is_own_work() -> None:
    """At any depth: each of these has a guard above it."""
    before = host._own_seconds()
    with busy_processes(1):
        while host._own_seconds() < before + 0.3:
            time.sleep(0.01)


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


def test_onnxruntime_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its telemetry would, on being imported; a user who has switched it on keeps it."""
    code = (
        "import os; from effgen.judge.onnx_runtime import onnxruntime_module; onnxruntime_module(); "
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    folders = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    kept = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", code], env={**kept, **folders}, capture_output=True, text=True)
    assert (done.stdout, done.stderr, list(tmp_path.rglob("*"))) == ("1\n", "", [])
    chosen = {**kept, **folders, "ORT_DISABLE_TELEMETRY": "0"}
    assert subprocess.run([sys.executable, "-c", code], env=chosen, capture_output=True, text=True).stdout == "0\n"
