"""Bundles verified and timed on a device behind TVM's RPC, on loopback."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from servers import KEY, Park, free_port, park
from several_outputs import heads, saved

import effgen
from effgen.cli import main
from effgen.deploy.executors import executor_of
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BundleError, TuneError
from effgen.judge.case import golden_pair
from effgen.judge.verify import verify_bundle
from effgen.machines.host import describe_host
from effgen.machines.identity import device_name
from effgen.measure.routes import remote_of_bundle
from effgen.network.file_network import OnnxRequest
from effgen.results.reports import BenchReport, read_report

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def one() -> Iterator[Park]:
    """A tracker and one server."""
    with park(1) as made:
        yield made


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line: exit status, and the last line on standard error."""

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["effgen", *map(str, words)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
        return status, (capsys.readouterr().err.strip().splitlines() or [""])[-1]

    return call


def test_answers_are_those_of_this_process(one: Park, tiny_bundle: Path) -> None:
    executor = executor_of(tiny_bundle, 1, remote=one.remote)
    image, _ = golden_pair(tiny_bundle)
    images = np.concatenate([image, -image, image[:, :, ::-1]])
    model = effgen.load(tiny_bundle, threads=1)
    expected = np.concatenate([model(np.ascontiguousarray(one_image[None])) for one_image in images])
    np.testing.assert_array_equal(executor(images), expected)
    assert device_name() in executor.name
    with pytest.raises(BundleError, match=r"images float32\[1, 3, 2, 2\]: this bundle takes"):
        executor(images[:1, :, :2, :2])


def test_several_outputs(one: Park, tmp_path: Path) -> None:
    bundle = tmp_path / "heads"
    compile_bundle(CompileRequest(OnnxRequest(saved(heads(), tmp_path / "heads.onnx")), bundle))
    executor = executor_of(bundle, 1, remote=one.remote)
    image, _ = golden_pair(bundle)
    model = effgen.load(bundle, threads=1)
    answers = zip(model(image), model(-image), strict=True)
    for found, parts in zip(executor(np.concatenate([image, -image])), answers, strict=True):
        np.testing.assert_array_equal(found, np.concatenate(parts))


def test_verify_says_what_ran_it(one: Park, tiny_bundle: Path) -> None:
    report = verify_bundle(tiny_bundle, 1, remote=one.remote)
    assert report.passed and report.run_by == f"{device_name()}, by RPC"


def test_commands(one: Park, tiny_bundle: Path, tmp_path: Path, run: Run) -> None:
    there = ("--rpc-tracker", one.remote.tracker, "--rpc-key", KEY, "--threads", "1")
    assert run("verify", tiny_bundle, *there)[0] == 0
    assert run("bench", tiny_bundle, *there, "--rounds", "2", "--min-time", "0.05", "--json", tmp_path / "j")[0] == 0
    report = read_report(tmp_path / "j")
    assert isinstance(report, BenchReport) and report.origin.route == "rpc"
    # The server is on this machine and says as much of it as a local run would.
    here = describe_host(sample_s=0.0)
    assert (report.machine.cpu, report.machine.caches, report.machine.system) == (here.cpu, here.caches, here.system)
    (ours,) = report.results
    assert ours.rel_l2 is not None and ours.rel_l2 <= 1e-5 and ours.calls is not None and ours.calls >= 2
    assert ours.min_ms is not None and 0 < ours.min_ms <= ours.median_ms
    assert run("bench", tiny_bundle, *there, "--layers")[0] == 2


def test_wrong_requests_are_one_line(one: Park, tiny_bundle: Path, run: Run) -> None:
    status, line = run("verify", tiny_bundle, "--rpc-key", KEY)
    assert status == 1 and "--rpc-key toy: a tracker knows it: give --rpc-tracker HOST:PORT" in line
    status, line = run("bench", tiny_bundle, "--rpc-tracker", one.remote.tracker)
    assert status == 1 and "its target cpu states no [measure] key: give --rpc-key" in line
    status, line = run("bench", tiny_bundle, "--rpc-tracker", f"127.0.0.1:{free_port()}", "--rpc-key", KEY)
    assert status == 1 and "no tracker answers there" in line
    with pytest.raises(TuneError, match="threads, --target cpu asks for 4096"):
        executor_of(tiny_bundle, 4096, remote=one.remote)


def test_key_is_the_targets_own(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert remote_of_bundle(tiny_bundle, None, None) is None
    with pytest.raises(TuneError, match=r"--rpc-tracker nowhere: expected HOST:PORT"):
        remote_of_bundle(tiny_bundle, "nowhere", KEY)
