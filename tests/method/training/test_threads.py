"""How many threads a training gets: what the user says, else a share of the machine that its layers can use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from learning import quick, small_spec, striped_data

from effgen.machines.processor import usable_cpus
from effgen.method.training import threads
from effgen.method.training.threads import TrainingThreads, stated_threads, training_threads
from effgen.method.training.trainer import train
from effgen.network.lowering.network import lower
from effgen.network.spec import load_spec


@pytest.fixture(autouse=True)
def nothing_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(threads, "default_threads", lambda: 8)
    monkeypatch.setattr(threads, "usable_cpus", lambda: range(16))


@pytest.mark.parametrize(("workers", "share"), [(1, 8), (2, 4), (3, 2), (8, 1), (100, 1)])
def test_workers_share_the_cores(workers: int, share: int) -> None:
    assert training_threads(None, workers) == TrainingThreads(share)
    assert training_threads(1, workers) == TrainingThreads(1, exact=True)
    several = training_threads(16, workers)
    assert several == TrainingThreads(16 if workers == 1 else share, exact=True)


def test_the_users_environment_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    assert training_threads(None, 4) == TrainingThreads(3, exact=True)
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert training_threads(None, 4) == TrainingThreads(5, exact=True)
    assert training_threads(1, 4) == TrainingThreads(1, exact=True)  # an option is nearer than the environment
    monkeypatch.setenv("OMP_NUM_THREADS", "1000")
    assert training_threads(None, 4).most == 16


@pytest.mark.parametrize("text", ["", "0", "-1", "many", ","])
def test_an_environment_that_says_nothing(text: str) -> None:
    assert stated_threads({"OMP_NUM_THREADS": text}) is None
    assert stated_threads({"OMP_NUM_THREADS": text, "MKL_NUM_THREADS": "2"}) == 2


def test_layers_that_are_too_small_to_be_divided_are_not() -> None:
    small, large = lower(load_spec("examples/digits.toml")), lower(load_spec("efficientnet"))
    assert TrainingThreads(8).of(small, 64) == 1
    assert TrainingThreads(8, exact=True).of(small, 64) == 8
    assert TrainingThreads(8).of(large, 64) == 8
    counts = [TrainingThreads(64).of(large, batch) for batch in (1, 2, 4, 8)]
    assert counts == sorted(counts) and 1 < counts[0] < counts[-1]


def test_what_was_used_is_told(tmp_path: Path) -> None:
    data = striped_data(tmp_path / "d")
    recipe = quick(epochs=1, warmup_epochs=0)
    assert train(small_spec(data), data, recipe, threads=1).threads == 1
    before = torch.get_num_threads()
    assert train(small_spec(data), data, recipe).threads == before


_WAITS = "import os; from effgen.method.training.threads import wait_asleep; wait_asleep(); print(dict(os.environ))"


@pytest.mark.parametrize("key", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", None])
def test_threads_wait_asleep_unless_the_user_said_how(key: str | None) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in threads._WAITING}
    stated = {} if key is None else {key: "ACTIVE" if key.startswith("OMP") else "7"}
    command = [sys.executable, "-c", _WAITS]
    out = subprocess.run(command, env={**kept, **stated}, capture_output=True, text=True, check=True).stdout
    found = {name: value for name, value in eval(out).items() if name in threads._WAITING}
    assert found == (stated or {"OMP_WAIT_POLICY": "PASSIVE"})


def test_default_is_within_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    two = training_threads(None, 2)
    assert 1 <= two.most <= len(usable_cpus()) and (len(usable_cpus()) < 2 or 2 * two.most <= len(usable_cpus()))
