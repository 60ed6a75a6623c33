"""Predictions from tables of made-up times: what counts as measured, what corrects what, what is refused."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from latency_tables import (
    DECISIONS,
    MACHINE,
    ToyChoice,
    choose,
    law,
    line,
    network_line,
    sample_graphs,
    times_of,
    toy_work,
)

from effgen.compiler.blocks import kernel_counts
from effgen.errors import TargetError, TuneError
from effgen.graph import Graph
from effgen.kernels.workload import Workload
from effgen.machines.target import load_target
from effgen.method.latency import predictor as predictor_module
from effgen.method.latency.predictor import LEAST_KERNELS, Predictor, open_predictor, recorded_workloads
from effgen.network import network_from_spec
from effgen.network.spec import NetworkSpec, load_spec
from effgen.records.database import RecordFile
from effgen.records.lookup import record_sources
from effgen.records.record import Record


def workloads_of(graphs: Iterable[Graph]) -> list[Workload]:
    return list(dict.fromkeys(workload for graph in graphs for workload in kernel_counts(graph)))


KNOWN = workloads_of(sample_graphs(8))
LINES = [line(workload, law(toy_work(workload))) for workload in KNOWN]


def predictor(lines: Iterable[str], choice: Any = choose) -> Predictor:
    return Predictor(MACHINE, times_of(lines), choice)


def true_seconds(graph: Graph) -> float:
    return sum(law(toy_work(workload)) * count for workload, count in kernel_counts(graph).items())


def test_unmeasured_networks_are_estimated() -> None:
    predicting = predictor(LINES)
    for graph in sample_graphs(6, "others"):
        prediction = predicting.predict(graph)
        assert prediction.seconds == pytest.approx(true_seconds(graph), rel=0.1)
        assert prediction.measured_share < 0.6
        assert prediction.kernels == sum(kernel_counts(graph).values())


def test_measured_kernels_win_over_estimates() -> None:
    (graph,) = sample_graphs(1, "others")
    own = [line(workload, 3 * law(toy_work(workload))) for workload in kernel_counts(graph)]
    known = {workload.name for workload in KNOWN}
    fresh = [text for text, workload in zip(own, kernel_counts(graph), strict=True) if workload.name not in known]
    prediction = predictor([*LINES, *fresh]).predict(graph)
    assert prediction.measured_share == 1.0
    assert prediction.seconds > 2 * true_seconds(graph)


def test_networks_take_longer_than_their_kernels() -> None:
    (graph,) = sample_graphs(1, "others")
    plain = predictor(LINES).predict(graph).seconds
    factors = [network_line(1.1, 1.0), network_line(1.2, 1.0), network_line(5.0, 1.0)]
    assert predictor([*LINES, *factors]).predict(graph).seconds == pytest.approx(1.2 * plain)


def test_times_of_kernels_alone_are_corrected() -> None:
    """Alone each kernel takes half of what it takes in a network."""
    halves = [line(workload, 0.5 * law(toy_work(workload)), "alone") for workload in KNOWN]
    (graph,) = sample_graphs(1, "others")
    others = [workload for workload in kernel_counts(graph) if workload not in KNOWN]
    alone = [line(workload, 0.5 * law(toy_work(workload)), "alone") for workload in others]
    prediction = predictor([*LINES, *halves, *alone]).predict(graph)
    assert prediction.measured_share == 1.0
    assert prediction.seconds == pytest.approx(true_seconds(graph), rel=0.02)


def test_without_kernels_timed_both_ways_times_alone_stay() -> None:
    alone = [line(workload, law(toy_work(workload)), "alone") for workload in KNOWN]
    workload = KNOWN[0]
    assert predictor(alone).kernel(workload).seconds == pytest.approx(law(toy_work(workload)))


def record_of(workload: Workload, seconds: float, cores: int = MACHINE.cores, device: str = "") -> Record:
    key = (cores, MACHINE.processor, MACHINE.lanes)
    return Record(workload.name, "toy", DECISIONS, "ok", *key, seconds=seconds, kept=True, device=device)


@pytest.mark.parametrize(
    ("cores", "device", "is_here", "measured"),
    [
        (MACHINE.cores, "this one", True, True),
        (MACHINE.cores, "", True, True),
        (MACHINE.cores, "another", False, True),
        (MACHINE.cores, "another", True, False),
        (MACHINE.cores + 1, "this one", True, False),
    ],
)
def test_own_records_of_this_machine_are_measurements(
    cores: int, device: str, is_here: bool, measured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that come from another processor that the target fits are none."""
    monkeypatch.setattr(predictor_module, "_this_device", lambda: "this one")
    monkeypatch.setattr(predictor_module, "times_kernels_here", lambda machine: is_here)
    workload = workloads_of(sample_graphs(1, "others"))[3]

    def recorded(asked: Workload) -> ToyChoice:
        chosen = choose(asked)
        return replace(chosen, measured=record_of(asked, 0.25, cores, device)) if asked == workload else chosen

    kernel = predictor(LINES, recorded).kernel(workload)
    assert kernel.measured is measured
    assert (kernel.seconds == 0.25) is measured


def test_records_alone_are_enough() -> None:
    def recorded(asked: Workload) -> ToyChoice:
        return replace(choose(asked), measured=record_of(asked, law(toy_work(asked))))

    predicting = Predictor(MACHINE, times_of([]), recorded, KNOWN)  # type: ignore[arg-type]
    assert predicting.predict(sample_graphs(1)[0]).measured_share == 1.0


def test_longer_networks_take_longer() -> None:
    predicting, base = predictor(LINES), load_spec("efficientnet")

    def seconds(repeats: int) -> float:
        return predicting.predict(network_from_spec(with_repeats(base, repeats)).graph).seconds

    found = [seconds(repeats) for repeats in (1, 2, 3, 5)]
    assert found == sorted(set(found))


def with_repeats(spec: NetworkSpec, repeats: int) -> NetworkSpec:
    stages = [stage.model_copy(update={"repeats": repeats}) for stage in spec.stages]
    return spec.model_copy(update={"stages": stages})


def test_too_few_kernels_are_refused() -> None:
    with pytest.raises(TuneError, match=f"{LEAST_KERNELS - 1} kernels are measured") as found:
        predictor(LINES[: LEAST_KERNELS - 1])
    assert "\n" not in str(found.value) and "effgen tune" in str(found.value)
    predictor(LINES[:LEAST_KERNELS])


def test_unknown_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TuneError, match="--target rpi4: 0 kernels are measured of"):
        open_predictor("rpi4", database=tmp_path / "records.jsonl")
    with pytest.raises(TargetError, match="rpi44"):
        open_predictor("rpi44", database=tmp_path / "records.jsonl")
    with pytest.raises(TuneError, match="--threads 0"):
        open_predictor("rpi4", 0, tmp_path / "records.jsonl")


def test_records_that_ship_are_no_times_of_this_machine(tmp_path: Path) -> None:
    database = tmp_path / "records.jsonl"
    machine = replace(load_target("x86-64-v3"), cores=2)
    shipped = [each for source in record_sources(machine, database) if not source.own for each in source.records]
    assert sum(record.cores == 2 and record.mcpu == machine.processor for record in shipped) > 100
    assert recorded_workloads(machine, database) == []
    with pytest.raises(TuneError, match="--target x86-64-v3: 0 kernels are measured of x86-64-v3 with 2 threads"):
        open_predictor("x86-64-v3", 2, database)


def test_foreign_machine_is_predicted_from_its_records(tmp_path: Path) -> None:
    """Records hold names only; those of the shipped families' kernels are enough to estimate others from."""
    from effgen.network import NetworkRequest, build_network
    from effgen.records.choice import KernelChoices

    machine, database = load_target("rpi4"), tmp_path / "records.jsonl"
    choices, file = KernelChoices(machine, database), RecordFile(database)
    b0 = kernel_counts(build_network(NetworkRequest()).graph)
    for workload in b0:
        decisions = choices.choice(workload).decisions
        seconds = workload.macs / 10e9 + 1e-5
        rule = choices.choice(workload).source.removeprefix("rule:")
        key = (machine.cores, machine.processor, machine.lanes)
        file.append(Record(workload.name, rule, decisions, "ok", *key, seconds=seconds))  # the default, measured
    assert set(recorded_workloads(machine, database)) == set(b0)
    predicting = open_predictor("rpi4", database=database)
    measured = predicting.predict(build_network(NetworkRequest()).graph)
    assert measured.measured_share == 1.0
    assert measured.seconds == pytest.approx(sum((w.macs / 10e9 + 1e-5) * count for w, count in b0.items()))
    other = predicting.predict(build_network(NetworkRequest("mobilenet_v2")).graph)
    assert other.measured_share < 0.5
    assert other.seconds == pytest.approx(0.300774272 / 10, rel=0.5)
