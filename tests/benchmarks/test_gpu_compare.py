"""What runs in the GPU folder: the network in PyTorch, taking turns, results kept and shown."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import lively_weights, noise, relative_error, tiny_graph

from effgen.graph import Graph, Node, Parameter, Value
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.graph.reference import run_reference
from effgen.network import NetworkRequest, build_network
from effgen.network.scaling import Overrides
from effgen.network.spec import shipped_spec_names

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"
sys.path.insert(0, str(FOLDER))

from gpu_compare import CompareError, backends, device, measure, results  # noqa: E402
from gpu_compare.torch_network import module_from  # noqa: E402


def plain_data(graph: Graph) -> dict[str, Any]:
    """A graph as make_folder.py writes it, through JSON."""
    nodes = [
        {"op": node.op_type, "inputs": node.inputs, "output": node.output, "attributes": dict(node.attributes)}
        for node in graph.nodes
    ]
    written: dict[str, Any] = json.loads(
        json.dumps({"input": graph.input.name, "output": graph.output, "nodes": nodes})
    )
    return written


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("activation", ['"silu"', '"relu6"', '"relu"', '"hard_swish"'])
def test_the_module_computes_what_the_reference_computes(activation: str, fold: bool) -> None:
    graph = tiny_graph(batch=2, activation=activation)
    weights: dict[str, Any] = lively_weights(graph)
    if fold:
        graph, weights = fold_batchnorm(graph, weights)
    image = noise(graph.input.shape)
    with torch.no_grad():
        found = module_from(plain_data(graph), weights)(torch.from_numpy(image)).numpy()
    assert relative_error(found, run_reference(graph, weights, image)) <= 1e-5


def test_the_module_pads_either_side_as_it_is_told() -> None:
    parameter = Parameter("w", (4, 3, 3, 3), "kernel")
    node = Node("Conv", ("x", "w"), "y", {"group": 1, "pads": (0, 1, 2, 0), "strides": (2, 1)})
    gate = Node("HardSigmoid", ("y",), "z", {"alpha": 0.2, "beta": 0.5})
    graph = Graph("g", Value("x", (1, 3, 8, 8)), ("z",), (node, gate), {"w": parameter})
    weights, image = {"w": noise((4, 3, 3, 3), 1)}, noise((1, 3, 8, 8))
    found = module_from(plain_data(graph), weights)(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found, run_reference(graph, weights, image), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spec", shipped_spec_names())
def test_the_module_computes_every_shipped_spec(spec: str) -> None:
    graph = build_network(NetworkRequest(spec=spec, overrides=Overrides(resolution=64))).graph
    weights, image = lively_weights(graph), noise(graph.input.shape)
    with torch.no_grad():
        found = module_from(plain_data(graph), weights)(torch.from_numpy(image)).numpy()
    assert relative_error(found, run_reference(graph, weights, image)) <= 1e-5


def test_an_unknown_operator_is_one_line() -> None:
    network = {"input": "x", "output": "y", "nodes": [{"op": "Tan", "inputs": ["x"], "output": "y", "attributes": {}}]}
    with pytest.raises(CompareError, match=r"^y: operator Tan: expected one of Add, .*Swish$"):
        module_from(network, {})


def test_the_module_is_straight_line_code() -> None:
    graph = tiny_graph()
    module = module_from(plain_data(graph), lively_weights(graph))
    assert "for " not in module.code and "[" not in module.code.split("def forward")[1].split("\n")[1]


def backend(name: str, precision: str, milliseconds: float) -> backends.Backend:
    times = lambda runs: [milliseconds] * runs  # noqa: E731
    return backends.Backend(name, precision, times, lambda runs: [2 * milliseconds] * runs)


def entries(*measured: backends.Backend, batch: int = 1) -> list[dict[str, Any]]:
    samples = measure.measure(measured, measure.Timing(rounds=3, seconds=0.05))
    return [measure.timed(item, sample, batch) for item, sample in zip(measured, samples, strict=True)]


def test_the_best_peer_of_each_precision_is_held_to_the_goal() -> None:
    peers = backend("eager", "float32", 4.0), backend("graphed", "float32", 1.2), backend("compiled", "tf32", 1.4)
    found = measure.comparisons(entries(backend("effgen", "float32", 1.0), *peers), "float32", 1)
    assert [(item["precision"], item["best_peer"], item["ratio"], item["met"]) for item in found] == [
        ("float32", "graphed", 1.2, False),
        ("tf32", "compiled", 1.4, True),
    ]
    assert found[0]["goal"] == 1.3
    throughput = measure.comparisons(entries(backend("effgen", "float32", 1.0), *peers), "float32", 64)
    assert [(item["goal"], item["met"]) for item in throughput] == [(1.0, True), (1.0, True)]


def test_an_entry_holds_medians_of_both_clocks_and_a_rate() -> None:
    (entry,) = entries(backend("effgen", "float16", 2.0), batch=64)
    assert entry["device_ms"] == {"median": 2.0, "p10": 2.0, "p90": 2.0, "runs": 24}
    assert entry["host_ms"]["median"] == 4.0 and entry["images_per_second"] == 32000.0


def test_backends_take_turns_in_a_turning_order() -> None:
    order: list[str] = []
    both = [replace(backend(name, "float32", 20.0), prepare=lambda n=name: order.append(n)) for name in ("a", "b")]
    measure.measure(both, measure.Timing(rounds=2, seconds=0.01))
    assert order == ["a", "b", "a", "b", "b", "a"]  # warm-up, then two rounds


def test_a_peer_that_takes_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*arguments: object) -> Any:
        while True:
            try:
                while True:
                    pass
            except Exception:  # as a compiler that tries its next idea does
                pass

    job = backends.TorchJob.__new__(backends.TorchJob)
    job.torch, job.image = torch, noise((1, 3, 4, 4))
    monkeypatch.setattr(backends, "PEERS", {"compiled": endless})
    monkeypatch.setattr(backends.TorchJob, "resident", lambda self, precision: None)
    left = backends.torch_peer(job, "compiled", "float32", job.image, 0.05)
    assert isinstance(left, backends.LeftOut) and left.reason.startswith("not ready after 0.05 s")


@pytest.mark.parametrize(("factor", "reason"), [(1.01, "wrong answer: relative L2 1.0e-02"), (float("nan"), "wrong")])
def test_a_peer_with_another_answer_is_left_out(monkeypatch: pytest.MonkeyPatch, factor: float, reason: str) -> None:
    job = backends.TorchJob.__new__(backends.TorchJob)
    job.torch, job.image = torch, noise((1, 10))
    monkeypatch.setattr(backends, "PEERS", {"eager": lambda *_: lambda: torch.from_numpy(job.image) * factor})
    monkeypatch.setattr(backends.TorchJob, "resident", lambda self, precision: None)
    left = backends.torch_peer(job, "eager", "float32", job.image, 60)
    assert isinstance(left, backends.LeftOut) and left.reason.startswith(reason)


ORIGIN = {
    "revision": "abc",
    "device": {"name": "NVIDIA H100", "arch": "sm_90", "clocks.sm": "1980 MHz"},
    "software": {"torch": "2.11.0"},
}


def test_results_go_on_where_they_were_stopped(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    begun = results.begin_results(path, ORIGIN)
    begun["configurations"] |= {"done": {"seconds": 1.0}, "failed": {"error": "out of memory"}}
    results.write_results(begun, path)
    cooler = {**ORIGIN, "device": {**ORIGIN["device"], "clocks.sm": "345 MHz"}}  # type: ignore[dict-item]
    again = results.begin_results(path, cooler)
    assert [results.is_done(again, name) for name in ("done", "failed", "new")] == [True, False, False]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("revision", "def", "revision is abc, here def; choose another --out, or remove it"),
        ("device", {"name": "NVIDIA A100"}, "device is .*H100.*, here .*A100"),
        ("software", {"torch": "2.12.0"}, "software is .*2.11.0.*, here .*2.12.0"),
    ],
)
def test_results_of_another_kind_are_refused(tmp_path: Path, key: str, value: Any, message: str) -> None:
    path = tmp_path / "results.json"
    results.write_results(results.begin_results(path, ORIGIN), path)
    with pytest.raises(CompareError, match=message):
        results.begin_results(path, {**ORIGIN, key: value})


def test_damaged_results_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("{")
    with pytest.raises(CompareError, match=r"no results of run\.py"):
        results.begin_results(path, ORIGIN)


def test_the_table_has_ratios_goals_and_reasons() -> None:
    measured = entries(backend("effgen", "float32", 1.0), backend("graphed", "float32", 1.5))
    item = {
        "accuracy": {"tolerance": 1e-4, "torch_rel_l2": 2e-3, "golden_rel_l2": None, "met": False},
        "backends": measured,
        "comparisons": measure.comparisons(measured, "float32", 1),
        "left_out": [{"backend": "compiled", "precision": "tf32", "reason": "no C compiler"}],
    }
    lines = results.table_lines({"configurations": {"a": item, "b": {"error": "out of memory"}}})
    assert "FAIL > 0.0001" in lines[1] and "1.50x graphed" in lines[1] and lines[1].endswith("met 1.3x")
    assert lines[2:] == ["a: compiled tf32: no C compiler", "b: out of memory"]


class OldGpu:
    def use_first_device(self) -> tuple[int, None]:
        return 0, None

    def device_name(self, _: int) -> str:
        return "Tesla T4"

    def device_arch(self, _: int) -> str:
        return "sm_75"


def test_a_gpu_older_than_the_bundles_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_driver", OldGpu)
    expected = r"^Tesla T4 is sm_75: expected an NVIDIA GPU of sm_90 or newer; make the folder with --cuda-arch sm_75$"
    with pytest.raises(CompareError, match=expected):
        device.check_gpu(["sm_100", "sm_90"])
    assert device.check_gpu(["sm_75"]) == {"name": "Tesla T4", "arch": "sm_75"}
