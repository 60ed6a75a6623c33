"""The paper's pairs of networks among what was measured."""

from dataclasses import replace

import pytest
from reports import FACTS, bench_report, facts, rows

from effgen.results.paper import remeasured
from effgen.results.reports import BenchReport


def onnx(name: str, parameters: int = 60_192_808, **medians_ms: float) -> BenchReport:
    model = replace(FACTS, name=name, family=None, phi=None, law=None, parameters=parameters)
    return bench_report(model, threads=1, **medians_ms)


def test_pair_of_the_paper() -> None:
    b1 = bench_report(facts(1), threads=1, effgen=40.0, onnxruntime=60.0)
    found = remeasured(rows(b1, onnx("resnet152", effgen=200.0)))
    assert [(each.backend, each.ratio) for each in found] == [("effgen", 5.0)]
    both = remeasured(rows(b1, onnx("ResNet-152 v2.onnx", effgen=200.0, onnxruntime=240.0)))
    assert [(each.backend, each.ratio) for each in both] == [("effgen", 5.0), ("onnxruntime", 4.0)]


def test_means_are_compared_where_all_have_one() -> None:
    def with_mean(report: BenchReport, mean_ms: float) -> BenchReport:
        return replace(report, results=tuple(replace(each, mean_ms=mean_ms) for each in report.results))

    b1, resnet = bench_report(facts(1), threads=1, effgen=40.0), onnx("resnet152", effgen=200.0)
    (means,) = remeasured(rows(with_mean(b1, 50.0), with_mean(resnet, 300.0)))
    assert (means.ratio, means.statistic, means.like_the_paper) == (6.0, "mean", True)
    (medians,) = remeasured(rows(b1, with_mean(resnet, 300.0)))
    assert (medians.ratio, medians.statistic, medians.like_the_paper) == (5.0, "median", False)


def test_pairs_need_the_same_setting() -> None:
    b1 = bench_report(facts(1), threads=2, effgen=40.0)
    found = remeasured(rows(b1, onnx("resnet152", effgen=200.0)))
    assert {(each.large_ms, each.small_ms) for each in found} == {(None, 40.0), (200.0, None)}
    assert all(each.ratio is None for each in found)


def test_size_tells_a_network_from_its_namesake() -> None:
    assert remeasured(rows(onnx("resnet152", parameters=5_000_000))) == ()
    assert len(remeasured(rows(onnx("resnet152-21classes", parameters=58_200_000)))) == 1


@pytest.mark.parametrize("name", ["resnet1520", "resnet50", "efficientnet-b10", "densenet121"])
def test_other_networks_are_none_of_the_papers(name: str) -> None:
    assert remeasured(rows(onnx(name))) == ()


def test_scaled_by_another_law_is_not_the_papers() -> None:
    assert remeasured(rows(bench_report(replace(facts(1), law="formula")))) == ()
    assert remeasured(rows(bench_report(facts(1, batch=8)))) == ()
    assert len(remeasured(rows(onnx("efficientnet_b7")))) == 1
