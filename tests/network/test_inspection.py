"""The stage table: rows add up to the totals, and the family's numbers are the published ones."""

import pytest

from effgen.graph import GraphBuilder, Value
from effgen.network import NetworkRequest, build_network
from effgen.network.inspection import Inspection, inspect_network, peak_activation_bytes


def inspected(phi: str, batch: int = 1) -> Inspection:
    return inspect_network(build_network(NetworkRequest(phi=phi, batch=batch)))


def test_rows_of_b0() -> None:
    report = inspected("0")
    assert [row.name for row in report.stages] == ["stem", *(f"stages.{i}" for i in range(7)), "head", "classifier"]
    second = report.stages[3]
    assert (second.operator, second.kernel, second.stride, second.expand_ratio) == ("mbconv", 5, 2, 6)
    assert (second.channels, second.repeats, second.resolution_in, second.resolution_out) == (40, 2, 56, 28)
    assert second.se_ratio == 0.25
    head, classifier = report.stages[-2:]
    assert (head.operator, head.channels, head.resolution_in, head.resolution_out) == ("conv + pool", 1280, 7, 1)
    assert (classifier.operator, classifier.parameters, classifier.macs) == ("linear", 1_281_000, 1_280_000)


@pytest.mark.parametrize("phi", ["0", "3", "l2"])
def test_rows_add_up(phi: str) -> None:
    report = inspected(phi)
    assert sum(row.parameters for row in report.stages) == report.parameters
    assert sum(row.macs for row in report.stages) == report.macs
    assert sum(row.activation_bytes for row in report.stages) == report.activation_bytes


def test_published_numbers() -> None:
    b0, b7 = inspected("0"), inspected("7")
    assert (b0.parameters, b0.macs, b0.resolution) == (5_288_548, 385_814_752, 224)
    assert (b7.parameters, b7.macs, b7.resolution) == (66_347_960, 37_745_884_192, 600)


def test_macs_are_for_one_image_and_bytes_for_the_batch() -> None:
    one, four = inspected("0"), inspected("0", batch=4)
    assert four.macs == one.macs
    assert [row.macs for row in four.stages] == [row.macs for row in one.stages]
    assert four.activation_bytes == 4 * one.activation_bytes
    assert four.peak_activation_bytes == 4 * one.peak_activation_bytes


def test_source_says_where_the_coefficients_come_from() -> None:
    assert inspected("0").source == "published row b0"
    fallback = inspected("2.5")
    assert fallback.law == "formula"
    assert "no published row for phi 2.5" in fallback.source


def test_peak_of_b0_is_the_first_strided_depthwise() -> None:
    """It reads 112 x 112 x 96 and writes 56 x 56 x 96 float32; the block's input is no longer needed."""
    assert inspected("0").peak_activation_bytes == (112 * 112 + 56 * 56) * 96 * 4


def test_peak_keeps_what_is_read_later() -> None:
    """Relu may not overwrite the image, which the addition reads; the addition may overwrite the Relu's output."""
    b = GraphBuilder("g", Value("image", (1, 2, 4, 4)))
    graph = b.finish(b.add("Add", [b.add("Relu", ["image"], "positive"), "image"], "sum"))
    assert peak_activation_bytes(graph) == 2 * (2 * 4 * 4) * 4
