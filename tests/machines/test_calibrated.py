"""Costs that were measured of this computer: kept, found again, refused where nobody could have written them."""

import json
from pathlib import Path

import pytest

from effgen.errors import EffgenError, TargetError
from effgen.machines.calibrated import CalibratedCosts, calibrated_file, load_calibrated, store_calibrated
from effgen.machines.identity import device_name
from effgen.machines.machine import Cpu
from effgen.machines.target import load_target, this_cpu


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


def costs(**values: float) -> CalibratedCosts:
    return CalibratedCosts(
        cpu=device_name(),
        microarchitecture="",
        vector_bytes=this_cpu(calibrated=False).vector_bytes,
        date="2026-11-30T00:00:00+00:00",
        clock_ghz=3.0,
        multiply_add_cycles=0.5,
        other_cpus=None,
        costs={"exponential_apart": 17.0, "chain": 10.0, **values},
    )


def test_kept_costs_are_this_cpus_alone(home: Path, tmp_path: Path) -> None:
    before = this_cpu()
    assert load_calibrated(before.vector_bytes) is None and "calibrate" not in before.costs_of
    file = store_calibrated(costs())
    assert file == calibrated_file(before.vector_bytes) and file.is_relative_to(home)
    after = this_cpu()
    assert (after.costs.exponential_apart, after.costs.chain, after.costs.launch) == (17.0, 10, before.costs.launch)
    assert after.costs_of == "effgen calibrate, 2026-11-30"
    assert this_cpu(calibrated=False) == before
    detected, stated = tmp_path / "mine.toml", tmp_path / "stated.toml"
    detected.write_text('description = "mine"\ndetect = true\ncores = 1\n')
    stated.write_text('description = "mine"\ndetect = true\n[costs]\nexponential_apart = 11\n')
    for name, value in (
        (detected, 17.0),
        (stated, 11.0),
        ("x86-64-v3", load_target("x86-64-v3").costs.exponential_apart),
    ):  # type: ignore[union-attr]
        found = load_target(name)
        assert isinstance(found, Cpu) and found.costs.exponential_apart == value
    assert load_calibrated(before.vector_bytes * 2) is None


def test_another_machines_file_is_not_this_ones() -> None:
    file = store_calibrated(costs())
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "cpu": "another"}))
    assert load_calibrated(this_cpu(calibrated=False).vector_bytes) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"costs": {"exponential_apart": 1e6}}, r"costs\.exponential_apart = 1e\+06: expected from 3 to 60"),
        ({"costs": {"launch": 5.0}}, r"costs\.launch: none that is measured"),
        ({"clock_ghz": -1.0}, r"clock_ghz = -1\.0: expected greater than"),
        ({"costs": {"store": "2"}}, r"costs\.store = '2': expected a valid number"),
        ({"more": 1}, r"more: unknown key"),
    ],
)
def test_wrong_files_are_refused_in_one_line(change: dict[str, object], message: str) -> None:
    file = store_calibrated(costs())
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(TargetError, match=rf"{message}.*; remove it, or run effgen calibrate again") as caught:
        this_cpu()
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    # Calibrating again mends it.
    assert this_cpu(calibrated=False).costs
    store_calibrated(costs())
    assert this_cpu().costs.exponential_apart == 17.0


def test_text_that_is_no_json() -> None:
    file = store_calibrated(costs())
    file.write_text("[" * 100_000)
    with pytest.raises(TargetError, match="remove it"):
        this_cpu()


def test_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(EffgenError, match="cannot be made"):
        store_calibrated(costs())
