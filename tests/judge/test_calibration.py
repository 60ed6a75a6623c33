"""Costs of a machine: what given times come to, what is rejected, and that the probes run. No test judges a speed."""

import json
import math
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from commands import one_line

from effgen.judge import calibration
from effgen.judge.calibration import (
    Calibration,
    TileTime,
    calibrate,
    calibration_from_times,
    operand_from_tiles,
    probed_tiles,
    quartiles,
)
from effgen.machines.calibrated import PLAUSIBLE, load_calibrated
from effgen.machines.machine import Cpu
from effgen.machines.target import load_target, this_cpu
from effgen.report.calibrate import toml_from_calibration

CLOCK_S = 0.25e-9


def machine() -> Cpu:
    found = load_target("x86-64-v3")
    assert isinstance(found, Cpu)
    return found


def given(**cycles: float) -> dict[str, float]:
    """Seconds by probe of a machine with vectors of 32 bytes at 4 GHz, two multiply-adds a cycle: 4 cycles until a
    result, tiles as the formula has them with operand 0.2. `cycles` says otherwise."""
    found = {
        "clock": 1.0,
        "multiply_add": 0.5,
        "half_product": 0.5,
        "latency": 4.0,
        "exponential_apart": 6.0,
        "half_exponential": 5.4,
        "store": 1.0,
        "copy_first": 1.5,
        "copy_second": 2.0,
        "copy_beyond": 4.0,
        "stream": 4.0,
        "gate": 1.25,
    }
    for rows, vectors in probed_tiles(machine()):
        loads, products = rows + vectors, rows * vectors
        waiting = max(0.0, machine().costs.tile_loads * loads - products)
        found[f"tile_{rows}x{vectors}"] = 0.5 * (max(products, 8) + 0.2 * loads + waiting)
    return {name: CLOCK_S * value for name, value in (found | cycles).items()}


def calibrated(other_cpus: float | None = 0.0, **cycles: float) -> Calibration:
    return calibration_from_times(given(**cycles), machine(), other_cpus, 12.0)


def test_costs_of_given_times() -> None:
    found = calibrated()
    assert (found.found.clock_ghz, found.found.multiply_add_cycles) == pytest.approx((4.0, 0.5))
    assert found.measured == pytest.approx(
        {
            "stream_bytes": 4.0,  # 32 bytes in 4 cycles, which are 8 units
            "chain": 8,
            "half_product": 1.0,
            "half_store": 0.9,
            "operand": 0.2,
            "exponential_apart": 12.0,
            "store": 2.0,
            "copy_first": 3.0,
            "copy_second": 4.0,
            "copy_beyond": 8.0,
            "gate": 2.5,
        }
    )
    assert found.measured.keys() == PLAUSIBLE.keys() and not found.rejected
    # What is not measured is as it was.
    before, after = found.inherited.model_dump(), found.table.model_dump()
    assert {name for name in after if after[name] != before[name]} <= PLAUSIBLE.keys()
    assert after["launch"] == before["launch"] and after["exponential_apart"] == 12.0


def test_a_unit_of_whole_registers_that_start_at_half_the_rate_of_half_ones() -> None:
    """As Zen 4's with 64 bytes: a chain keeps the units busy that start half vectors twice as fast."""
    found = calibrated(multiply_add=1.0)
    assert (found.measured["half_product"], found.measured["chain"]) == pytest.approx((0.5, 8))


def test_what_no_processor_has_is_rejected() -> None:
    found = calibrated(store=400.0, latency=0.1, copy_first=3.0)
    assert found.rejected.keys() == {"store", "chain"}
    assert found.table.store == found.inherited.store and found.table.chain == found.inherited.chain
    # A level is never cheaper than a nearer one.
    assert (found.table.copy_first, found.table.copy_second, found.table.copy_beyond) == (6.0, 6.0, 8.0)


@pytest.mark.parametrize("name", PLAUSIBLE)
def test_bounds_hold_what_is_inherited(name: str) -> None:
    low, high = PLAUSIBLE[name]
    for target in ("x86-64-v3", "x86-64-v4", "rpi4"):
        inherited = load_target(target)
        assert isinstance(inherited, Cpu) and low <= getattr(inherited.costs, name) <= high


def test_one_tile_that_is_compiled_badly_leads_nothing_astray() -> None:
    shapes = probed_tiles(machine())
    found = [TileTime(rows, vectors, max(rows * vectors, 8) + 0.1 * (rows + vectors)) for rows, vectors in shapes]
    assert operand_from_tiles(found, 8, 0.0) == pytest.approx(0.1)
    assert operand_from_tiles([replace(found[2], step=50.0), *found[:2], *found[3:]], 8, 0.0) == pytest.approx(0.1)


def test_lower_quartiles() -> None:
    assert quartiles([{"a": value} for value in (5.0, 1.0, 2.0, 9.0, 3.0)]) == {"a": 2.0}


def test_the_table_can_be_pasted_into_a_target(tmp_path: Path) -> None:
    found = calibrated(0.3)
    shipped = (Path(__file__).parents[2] / "targets" / "x86-64-v3.toml").read_text()
    file = tmp_path / "mine.toml"
    file.write_text(f"{shipped[: shipped.index('[costs]')]}\n{toml_from_calibration(found)}")
    pasted = load_target(file)
    assert isinstance(pasted, Cpu)
    assert {name: getattr(pasted.costs, name) for name in PLAUSIBLE} == pytest.approx(dict(found.measured))
    named = replace(found, found=found.found.model_copy(update={"cpu": "a\nb = 1"}))
    assert tomllib.loads(toml_from_calibration(named))["costs"].keys() == PLAUSIBLE.keys()


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("other", "words", "kept"), [(0.0, (), True), (1.5, (), False), (1.5, ("--force",), True), (None, (), True)]
)
def test_disturbed_costs_are_not_kept(
    home: Path,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    other: float | None,
    words: tuple[str, ...],
    kept: bool,
) -> None:
    here = this_cpu(calibrated=False)
    times = given()
    for rows, vectors in probed_tiles(here):
        times.setdefault(f"tile_{rows}x{vectors}", 0.5 * CLOCK_S * max(rows * vectors, 8))
    found = calibration_from_times(times, here, other, 1.0)
    monkeypatch.setattr(calibration, "calibrate", lambda *told: found)
    status, out, err = run("calibrate", *words, "--json", home / "report.json", "-o", home / "costs.toml")
    assert status == 0, err
    report = json.loads((home / "report.json").read_text())
    assert (report["stored"] is not None) == kept and report["disturbed"] == (other == 1.5)
    assert report["sources"]["exponential_apart"] == "measured" and report["sources"]["launch"] == "inherited"
    assert (load_calibrated(here.vector_bytes) is not None) == kept
    assert (this_cpu().costs.exponential_apart == report["costs"]["exponential_apart"]) == kept
    assert "[costs]" in (home / "costs.toml").read_text()
    if other == 1.5:
        assert "1.5 CPUs of other work" in out
        assert ("kept all the same" if kept else "not kept; run it on a quiet machine") in err


def test_a_file_that_cannot_be_written_is_told_before_the_work(
    home: Path, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "calibrate", lambda *told: pytest.fail("measured"))
    assert one_line(run("calibrate", "-o", home / "none" / "costs.toml")).startswith("--output ")


def test_the_probes_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "ROUNDS", 2)
    monkeypatch.setattr(calibration, "RUN_S", 1e-5)
    phases: list[str] = []
    found = calibrate(phases.append)
    assert found.measured.keys() | found.rejected.keys() == PLAUSIBLE.keys()
    for value in (*found.measured.values(), *found.rejected.values(), found.found.clock_ghz):
        assert math.isfinite(value) and value >= 0
    assert all(math.isfinite(tile.step) and tile.step > 0 for tile in found.tiles)
    assert any("probes" in phase for phase in phases)
