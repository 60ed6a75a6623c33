"""One dimension against all, as the EfficientNet paper (arXiv 1905.11946) prints it: its Tables 3 and 7.

The paper's "FLOPS" are multiply-adds. It prints coefficients and results rounded, and for two of its four compound
rows no coefficients at all: a row's `note` says what stands in for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dimension = Literal["baseline", "depth", "width", "resolution", "compound"]
TableNumber = Literal["3", "7"]


@dataclass(frozen=True)
class Published:
    """What the paper prints: multiply-adds of one image, and the top-1 accuracy on ImageNet in percent."""

    macs: float
    top1: float


@dataclass(frozen=True)
class PaperRow:
    """A network of the paper: the shipped family `spec`, its depth, width and resolution multiplied (d, w, r)."""

    spec: str
    dimension: Dimension
    published: Published
    depth: float = 1.0
    width: float = 1.0
    resolution: float = 1.0
    note: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper; rows of a family stand together, its baseline first."""

    number: TableNumber
    title: str
    rows: tuple[PaperRow, ...]


_NO_COEFFICIENTS = "the paper prints no coefficients here: taken are those that it prints for MobileNetV1 and B0"


def _baseline(spec: str, macs: float, top1: float) -> PaperRow:
    return PaperRow(spec, "baseline", Published(macs, top1))


def _depth(spec: str, macs: float, top1: float) -> PaperRow:
    return PaperRow(spec, "depth", Published(macs, top1), depth=4.0)


def _width(spec: str, macs: float, top1: float) -> PaperRow:
    return PaperRow(spec, "width", Published(macs, top1), width=2.0)


def _resolution(spec: str, macs: float, top1: float) -> PaperRow:
    return PaperRow(spec, "resolution", Published(macs, top1), resolution=2.0)


def _compound(spec: str, macs: float, top1: float, note: str = "") -> PaperRow:
    return PaperRow(spec, "compound", Published(macs, top1), depth=1.4, width=1.2, resolution=1.3, note=note)


#: Paper, section 5.1.
TABLE_3 = PaperTable(
    "3",
    "Table 3: MobileNets and ResNet scaled up",
    (
        _baseline("mobilenet_v1", 0.6e9, 70.6),
        _width("mobilenet_v1", 2.2e9, 74.2),
        _resolution("mobilenet_v1", 2.2e9, 72.7),
        _compound("mobilenet_v1", 2.3e9, 75.6),
        _baseline("mobilenet_v2", 0.3e9, 72.0),
        _depth("mobilenet_v2", 1.2e9, 76.8),
        _width("mobilenet_v2", 1.1e9, 76.4),
        _resolution("mobilenet_v2", 1.2e9, 74.8),
        _compound("mobilenet_v2", 1.3e9, 77.4, _NO_COEFFICIENTS),
        _baseline("resnet50", 4.1e9, 76.0),
        _depth("resnet50", 16.2e9, 78.1),
        _width("resnet50", 14.7e9, 77.7),
        _resolution("resnet50", 16.4e9, 77.5),
        _compound("resnet50", 16.7e9, 78.8, _NO_COEFFICIENTS),
    ),
)

#: Paper, section 6: the networks of Figure 7.
TABLE_7 = PaperTable(
    "7",
    "Table 7: EfficientNet-B0 scaled up",
    (
        _baseline("efficientnet", 0.4e9, 77.3),
        _depth("efficientnet", 1.8e9, 79.0),
        _width("efficientnet", 1.8e9, 78.9),
        _resolution("efficientnet", 1.9e9, 79.1),
        _compound("efficientnet", 1.8e9, 81.1),
    ),
)

PAPER_TABLES = (TABLE_3, TABLE_7)
