"""What a machine can say of a network: estimated, measured here or elsewhere, or not at all and why."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from networks import tiny_spec

from effgen.errors import TargetError, TuneError
from effgen.machines.abilities import Ability
from effgen.method.budget import sites
from effgen.method.budget.limits import OF_A_MACHINE, LimitKind
from effgen.method.budget.sites import Site, SiteOptions, open_sites
from effgen.network import network_from_spec

ALL: frozenset[LimitKind] = frozenset(OF_A_MACHINE)
STILL: frozenset[LimitKind] = frozenset({"memory", "size"})

NATIVE = Ability("rpi4", "", "cortex-a72", builds=True, runs="native", why_not="", route="local")


class Predictor:
    """Every network takes 5 ms."""

    def predict(self, graph: object) -> Any:
        return SimpleNamespace(seconds=0.005)


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Predictors are `Predictor`s; the list says which targets were calibrated."""
    found: list[str] = []
    monkeypatch.setattr(sites, "_open_predictor", lambda target, options: Predictor())
    monkeypatch.setattr(sites, "_calibrate", lambda target, options, on_phase: found.append(target))
    return found


def able(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
    ability = replace(NATIVE, **facts)
    monkeypatch.setattr(sites, "ability_of", lambda machine: ability)
    monkeypatch.setattr(sites, "times_kernels_here", lambda machine: ability.runs == "native")


def open_site(target: str, kinds: frozenset[LimitKind], options: SiteOptions) -> Site:
    (site,) = open_sites({target: kinds}, options)
    return site


@pytest.mark.parametrize(
    ("facts", "options", "measurable", "timing", "why_not"),
    [
        ({}, {}, ALL, "here", ""),
        ({}, {"confirm": False}, frozenset(), "no", "--no-confirm"),
        ({"builds": False, "why_not": "no linker"}, {}, frozenset(), "no", "no linker"),
        ({"runs": "no", "why_not": "lacks avx512f"}, {}, STILL, "no", "lacks avx512f"),
        ({"runs": "emulated", "route": "rpc"}, {}, STILL, "no", "an emulator's times say nothing"),
        ({"runs": "emulated", "route": "rpc"}, {"rpc_tracker": "127.0.0.1:9190"}, ALL, "rpc", ""),
    ],
    ids=["native", "not asked", "no linker", "other cpu", "emulated", "by rpc"],
)
def test_what_is_measured(
    monkeypatch: pytest.MonkeyPatch,
    calibrated: list[str],
    facts: dict[str, Any],
    options: dict[str, Any],
    measurable: frozenset[LimitKind],
    timing: str,
    why_not: str,
) -> None:
    able(monkeypatch, **facts)
    site = open_site("rpi4", ALL, SiteOptions(**options))
    assert (site.measurable, site.timing) == (measurable, timing)
    assert site.why_not.startswith(why_not) and bool(site.why_not) == bool(why_not)
    assert calibrated == (["rpi4"] if timing == "here" else [])
    if timing == "rpc":
        assert site.remote is not None and (site.remote.port, site.remote.key) == (9190, "rpi4")


def test_a_tracker_must_be_of_use(monkeypatch: pytest.MonkeyPatch, calibrated: list[str]) -> None:
    """It is refused before a machine is calibrated, which takes a minute."""
    able(monkeypatch)
    with pytest.raises(TuneError, match=r"--rpc-tracker there:9190: nothing to measure there"):
        open_sites({"rpi4": ALL}, SiteOptions(rpc_tracker="there:9190"))
    assert calibrated == []


def test_targets_without_a_limit_are_not_looked_at(monkeypatch: pytest.MonkeyPatch, calibrated: list[str]) -> None:
    able(monkeypatch)
    assert [site.name for site in open_sites({"rpi4": ALL, "cpu": frozenset()}, SiteOptions())] == ["rpi4"]


def test_estimates(monkeypatch: pytest.MonkeyPatch, calibrated: list[str]) -> None:
    able(monkeypatch)
    site, network = open_site("rpi4", ALL, SiteOptions()), network_from_spec(tiny_spec())
    latency, memory, size = (site.estimate(kind, network) for kind in OF_A_MACHINE)
    assert latency == 0.005
    assert 4 * network.graph.parameter_count < memory < size  # the code of 15 kernels is more than their activations


def test_nothing_is_predicted_where_no_latency_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    able(monkeypatch)
    site = open_site("rpi4", frozenset({"memory"}), SiteOptions())
    assert site.predictor is None and site.measurable == {"memory"} and site.timing == "no"


def test_an_unknown_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    able(monkeypatch, runs="no")
    with pytest.raises(TargetError, match="--target rpi6: expected a name"):
        open_site("rpi6", ALL, SiteOptions())
    with pytest.raises(TuneError, match="--target rpi4: "):
        open_site("rpi4", ALL, SiteOptions(confirm=False))


@pytest.mark.parametrize(
    ("facts", "options", "advice"),
    [
        ({}, {"confirm": False}, True),
        ({"runs": "no"}, {"confirm": False}, False),
        ({"builds": False}, {}, False),
    ],
    ids=["here", "elsewhere", "no linker"],
)
def test_a_machine_that_was_never_calibrated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, facts: dict[str, Any], options: dict[str, Any], advice: bool
) -> None:
    """What calibrates it is said where that is only not done because of `--no-confirm`."""
    able(monkeypatch, **facts)
    with pytest.raises(TuneError, match="--target rpi4: 0 kernels are measured") as caught:
        open_site("rpi4", ALL, SiteOptions(database=tmp_path / "none.jsonl", **options))
    assert str(caught.value).endswith("; or run effgen fit without --no-confirm once here") == advice


def test_what_may_be_refused_is_opened_before_anything_is_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    calibrated: list[str] = []
    monkeypatch.setattr(sites, "_calibrate", lambda target, options, on_phase: calibrated.append(target))
    monkeypatch.setattr(
        sites, "ability_of", lambda machine: replace(NATIVE, runs="no" if machine.name == "rpi4" else "native")
    )
    monkeypatch.setattr(sites, "times_kernels_here", lambda machine: machine.name != "rpi4")
    with pytest.raises(TuneError, match="--target rpi4: "):
        open_sites({"cpu": ALL, "rpi4": ALL}, SiteOptions())
    assert calibrated == []


def test_a_bundle_is_measured_as_it_is(tiny_bundle: Path, tmp_path: Path, calibrated: list[str]) -> None:
    """Compiled here: its files' bytes, its planned memory, and a time."""
    from effgen.results.reports import Plan

    kinds: list[str] = []
    site = open_site("cpu", ALL, SiteOptions(plan=Plan(1, 0.01)))
    found = site.measure(network_from_spec(tiny_spec()), kinds.append)
    size = sum((tiny_bundle / name).stat().st_size for name in ("lib.so", "weights.bin"))
    assert found.values["size"] == pytest.approx(size, rel=0.01)
    assert found.values["memory"] == site.estimate("memory", network_from_spec(tiny_spec()))
    assert found.values["latency"] > 0
    assert kinds == ["compile tiny phi=0 for cpu", "measure tiny phi=0 on cpu"]


def test_disturbed_times_are_taken_again(monkeypatch: pytest.MonkeyPatch, calibrated: list[str]) -> None:
    able(monkeypatch)
    site = open_site("rpi4", ALL, SiteOptions())
    timed = iter([(3.0, True), (1.5, True), (2.0, True), (9.0, False), (5.0, True), (4.0, False)])

    class Made:
        def time(self, plan: object, remote: object) -> Any:
            median, disturbed = next(timed)
            return SimpleNamespace(disturbed=disturbed, results=[SimpleNamespace(median_ms=median)])

    found = [site._quietest(Made()) for _ in range(3)]  # type: ignore[arg-type]
    assert [(report.results[0].median_ms, report.disturbed) for report in found] == [
        (2.0, True),
        (9.0, False),
        (4.0, False),
    ]
