"""Measuring through TVM's RPC, on loopback: devices that die, fall silent, or are not there."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import toy_spaces
from servers import KEY, Park, free_port, park
from toy_spaces import ABORTS, FAST, MACHINE, SLOW, UNBUILDABLE, WORKLOAD, WRONG, many_space_of

from effgen.cli import main
from effgen.errors import TuneError
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.machines.identity import device_name
from effgen.measure.carried.timing import better
from effgen.measure.lanes import DeviceLostError
from effgen.measure.pool import Measurer
from effgen.measure.protocol import Outcome, Remote, Setup
from effgen.measure.routes import measurers
from effgen.measure.tracker import servers_of
from effgen.records.database import RecordFile
from effgen.tuning.search import KernelSearch
from effgen.tuning.tuner import Progress, Tuner

SLOW_DEFAULT = {"mode": SLOW, "salt": 0}


@pytest.fixture(autouse=True)
def toys_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers load `toy_spaces` by name."""
    monkeypatch.setenv("PYTHONPATH", toy_spaces.environment()["PYTHONPATH"])


@pytest.fixture(scope="module")
def one() -> Iterator[Park]:
    """A tracker and one server, for tests that leave it alive."""
    with park(1) as made:
        yield made


def measure(measurer: Measurer, mode: int) -> Outcome:
    return measurer.measure(WORKLOAD, {"mode": mode, "salt": 0}, SLOW_DEFAULT, 1e-3)


def test_candidates_are_judged_as_here_and_a_crash_leaves_the_server_alive(one: Park) -> None:
    with Measurer(Setup(MACHINE, "toy_spaces:bad_space_of", remote=one.remote)) as measurer:
        fast = measure(measurer, FAST)
        assert fast.status == "ok" and fast.timing is not None and better(fast.timing)
        assert fast.device == device_name()
        assert [measure(measurer, mode).status for mode in (WRONG, UNBUILDABLE)] == ["wrong", "build_error"]
        with pytest.raises(DeviceLostError) as lost:
            measure(measurer, ABORTS)
        assert lost.value.status == "crashed"
        measurer.connect()
        assert measure(measurer, FAST).status == "ok"
    assert servers_of(one.remote) == 1 and one.servers[0].poll() is None


def test_session_that_runs_out_is_renewed(one: Park) -> None:
    """Longer and longer limits: what a session has left is less than is asked for."""
    with Measurer(Setup(MACHINE, "toy_spaces:space_of", remote=one.remote)) as measurer:
        for limit_s in (20, 100, 1000):
            measurer._candidate_limit_s = limit_s
            assert measure(measurer, FAST).status == "ok"
        assert measurer.restarts == 0


def test_killed_device_costs_the_run_nothing(tmp_path: Path) -> None:
    workloads = [ChannelScale(1, 8, 8, 16 * (number + 1)) for number in range(4)]
    searches = [KernelSearch(w, 1, space) for w in workloads if (space := many_space_of(w, MACHINE))]
    file, seen = RecordFile(tmp_path / "records.jsonl"), list[Progress]()
    with park(2) as made, ExitStack() as stack:

        def on_progress(progress: Progress) -> None:
            seen.append(progress)
            if len(seen) == 6:
                made.signal(1, signal.SIGKILL)

        lanes = measurers(MACHINE, "toy_spaces:many_space_of", made.remote, None, stack)
        assert len(lanes) == 2
        tuner = Tuner(searches, MACHINE, lanes, file, on_progress=on_progress)
        tuner.run()
    assert tuner.end == "converged" and len(tuner.checked) == len(workloads)
    assert {search.best.decisions["mode"] for search in searches if search.best} == {FAST}
    measured = [(p.kernel, *sorted(p.record.decisions.items())) for p in seen if p.phase != "check"]
    assert len(measured) == len(set(measured)) == tuner.ledger.trials > 8
    assert set(tuner.ledger.outcomes) == {"ok"}
    # A record more than candidates is the best one's, with its time put right.
    recorded = Counter((r.kernel, *sorted(r.decisions.items())) for r in file.load().records)
    assert recorded.keys() == set(measured)
    assert all(record.device == device_name() for record in file.load().records)


def test_silent_device_times_out() -> None:
    with park(1) as made, Measurer(Setup(MACHINE, "toy_spaces:space_of", remote=made.remote)) as measurer:
        assert measure(measurer, FAST).status == "ok"
        made.signal(0, signal.SIGSTOP)
        measurer._candidate_limit_s = 1.0
        with pytest.raises(DeviceLostError, match="no result within") as lost:
            measure(measurer, FAST)
        assert lost.value.status == "timeout" and measurer.pid is None


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    """The last line of `effgen tune` with these words, which fails."""

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["effgen", "tune", "--db", str(tmp_path / "db"), *words])
        with pytest.raises(SystemExit) as stop:
            main()
        err = capsys.readouterr().err
        assert stop.value.code == 1 and "Traceback" not in err, err
        return str(err.splitlines()[-1])

    return call


def test_tracker_that_is_not_there(tune) -> None:  # type: ignore[no-untyped-def]
    line = tune("--target", "x86-64-v3", "--rpc-tracker", f"127.0.0.1:{free_port()}", "--rpc-key", KEY)
    assert "no tracker answers there: Connection refused; start one: effgen device tracker" in line


def test_tracker_that_is_something_else(tune) -> None:  # type: ignore[no-untyped-def]
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"

        def answer() -> None:
            peer, _ = other.accept()
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n")
            peer.close()

        thread = threading.Thread(target=answer)
        thread.start()
        line = tune("--target", "x86-64-v3", "--rpc-tracker", address, "--rpc-key", KEY)
        thread.join()
    assert "is no TVM RPC tracker" in line


def test_key_that_no_server_has(one: Park, tune) -> None:  # type: ignore[no-untyped-def]
    line = tune("--target", "x86-64-v3", "--rpc-tracker", one.remote.tracker, "--rpc-key", "rpi4")
    assert f"lists no server of that key; it lists {KEY}; start one on the device: effgen device serve" in line


def test_device_of_another_kind(one: Park) -> None:
    machine = replace(MACHINE, features=(*MACHINE.features, "amx_of_tomorrow"))
    with (
        Measurer(Setup(machine, "toy_spaces:space_of", remote=one.remote)) as measurer,
        pytest.raises(TuneError, match="lacks amx_of_tomorrow, which the kernels use; give another --target or key"),
    ):
        measure(measurer, FAST)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--measure", "rpc"], "give --rpc-tracker HOST:PORT"),
        (["--target", "rpi4"], "--target rpi4: measured through RPC: give --rpc-tracker"),
        (["--measure", "rpc", "--rpc-tracker", "here:1"], "states no [measure] key: give --rpc-key"),
        (["--rpc-tracker", "9190", "--rpc-key", "k"], "--rpc-tracker 9190: expected HOST:PORT"),
        (["--rpc-tracker", "here:1", "--rpc-key", "k", "--rpc-devices", "0"], "--rpc-devices 0: expected 1 or more"),
        (["--measure", "local", "--rpc-key", "k"], "--rpc-key: belongs to --measure rpc"),
        (["--rpc-key", "k", "--offline-out", "x"], "--rpc-key: belongs to --measure rpc"),
        (["--measure", "offline"], "give --offline-out DIR to write a folder"),
        (["--force"], "--force: replaces the folder of --offline-out, which is not given"),
        (
            ["--target", "rpi4", "--rpc-tracker", "a:1", "--threads", "5"],
            "--threads 5: expected from 1 to 4, the cores",
        ),
    ],
)
def test_mixes_that_make_no_sense(words: list[str], text: str, tune) -> None:  # type: ignore[no-untyped-def]
    assert text in tune(*words)


def test_server_warns_and_says_what_is_in_its_way() -> None:
    command = [sys.executable, "-c", "from effgen.cli import main; main()", "device"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([*command, "serve", "--key", "k", "--port", port], capture_output=True, text=True)
        assert done.returncode == 1 and "no authentication" in done.stderr
        assert "Address already in use; give another --port" in done.stderr.splitlines()[-1]
    done = subprocess.run([*command, "tracker", "--host", "192.0.2.1"], capture_output=True, text=True)
    assert "ANYONE who reaches 192.0.2.1 can run any code here" in done.stderr
    assert "expected an address of this machine" in done.stderr.splitlines()[-1]
    environment = {**os.environ, "PYTHONPATH": ""}
    hide = "import sys; sys.modules['tornado'] = None; from importlib import util; old = util.find_spec; "
    hide += "util.find_spec = lambda name, *more: None if name == 'tornado' else old(name, *more); "
    done = subprocess.run(
        [sys.executable, "-c", f"{hide}{command[2]}", "device", "tracker"],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert "error: tornado: not installed: TVM's RPC needs it; pip install 'effgen[rpc]'" in done.stderr


def test_interrupted_server_ends_at_once() -> None:
    with park(1) as made:
        made.servers[0].send_signal(signal.SIGINT)
        assert made.servers[0].wait(timeout=600) == 130


def test_remote_says_its_address() -> None:
    assert Remote("pi", 9190, "k").tracker == "pi:9190"
