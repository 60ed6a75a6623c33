"""The records that ship: none is stale, and every kernel that they make is right."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from effgen.kernels.kinds import workload_from_name
from effgen.kernels.workload import Workload
from effgen.machines.machine import Machine
from effgen.machines.processor import missing_features
from effgen.machines.target import load_target
from effgen.measure.case import TOLERANCE, KernelCase
from effgen.measure.kernels import LocalBench
from effgen.network import NetworkRequest, build_network
from effgen.records.record import Record
from effgen.records.shipped import shipped_microarchitectures, shipped_records
from effgen.schedules import space_of
from effgen.tuning.request import calls_of_network

SETS = ["x86-64-v3", "x86-64-v4"]
FAMILY = [str(phi) for phi in range(8)]


def workload_of(record: Record) -> Workload:
    """What the record's name says."""
    workload = workload_from_name(record.kernel)
    assert workload is not None, record.kernel
    return workload


@cache
def records(name: str) -> tuple[Record, ...]:
    loaded = [shipped_records(name, each) for each in shipped_microarchitectures(name)]
    assert not any(each.ignored for each in loaded)
    return tuple(record for each in loaded for record in each.records)


def check(record: Record, name: str) -> None:
    machine = machine_of(record, name)
    bench = LocalBench(KernelCase(workload_of(record), machine, space_of), lambda: None)
    error = bench.error_after(bench.kernel(record.decisions))
    assert error <= TOLERANCE, f"{name}: {record.kernel} {dict(record.decisions)}: relative L2 {error:.1e}"


def machine_of(record: Record, name: str) -> Machine:
    return replace(load_target(name), cores=record.cores)


@pytest.fixture(params=SETS)
def set_here(request: pytest.FixtureRequest) -> str:
    """A set of records whose kernels this processor can run."""
    if missing := missing_features(load_target(request.param).features):
        pytest.skip(f"this machine lacks {', '.join(missing)}")
    return str(request.param)


@pytest.mark.parametrize("name", SETS)
def test_no_record_is_stale(name: str) -> None:
    for record in records(name):
        space = space_of(workload_of(record), machine_of(record, name))
        assert space is not None and record.rule == space.rule, record.kernel
        assert record.status == "ok" and record.kept
        assert space.contains(record.decisions), f"{record.kernel}: {dict(record.decisions)}"


def test_they_are_of_the_family_and_cover_it() -> None:
    networks = (build_network(NetworkRequest(phi=phi)) for phi in FAMILY)
    family = {workload.without_ahead for network in networks for workload in calls_of_network(network)}
    for name in SETS:
        assert {workload_of(record) for record in records(name)} == family


def test_a_sample_computes_the_right_answer(set_here: str) -> None:
    small = [record for record in records(set_here) if workload_of(record).macs < 100e6]
    for record in small[:: max(1, len(small) // 12)]:
        check(record, set_here)


@pytest.mark.slow
def test_all_compute_the_right_answer(set_here: str) -> None:
    for record in records(set_here):
        check(record, set_here)
