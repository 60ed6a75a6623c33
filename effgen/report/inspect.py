"""What `effgen inspect` prints: the stage table, notes, JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from effgen.report.tables import numbers_table
from effgen.report.text import bytes_text, sides_text

if TYPE_CHECKING:  # a command loads only what it reports on
    from effgen.network.inspection import GraphInspection, Inspection, StageRow

_INSPECTION_COLUMNS = (
    "name", "operator", "kernel", "stride", "expand", "SE", "channels", "repeats", "resolution",
    "parameters", "multiply-adds", "activations",
)  # fmt: skip


def json_from_inspection(inspection: Inspection) -> dict[str, Any]:
    """Keys as the fields of `Inspection` and `StageRow`."""
    return asdict(inspection)


def table_from_inspection(inspection: Inspection) -> Table:
    """The stage table with its totals."""
    image = f"{inspection.resolution}x{inspection.width}"
    table = numbers_table(f"{inspection.model}, {image}, batch {inspection.batch}", _INSPECTION_COLUMNS, left=2)
    for row in inspection.stages:
        table.add_row(*_stage_cells(row))
    table.add_section()
    counts = (inspection.parameters, inspection.macs, inspection.activation_bytes)
    parameters, macs, activations = f"{counts[0]:,}", f"{counts[1]:,}", bytes_text(counts[2])
    table.add_row("total", *[""] * 8, parameters, macs, activations, style="bold")
    return table


def notes_from_inspection(inspection: Inspection | GraphInspection) -> list[str]:
    """What the table's columns mean."""
    return [
        "multiply-adds (MACs): of convolutions and classifier, for one image; papers call them FLOPS",
        f"activations: float32 tensors written in a call of {inspection.batch}; "
        f"at most {bytes_text(inspection.peak_activation_bytes)} of them alive at once, "
        f"beside {bytes_text(inspection.weight_bytes)} of weights",
    ]


def lines_from_baseline(inspection: Inspection) -> list[str]:
    """How the totals relate to the baseline's, where they are not the same."""
    base = inspection.baseline
    if base is None or (base.macs, base.parameters) == (inspection.macs, inspection.parameters):
        return []
    times = f"{base.macs_ratio:.2f}x the MACs and {base.parameters_ratio:.2f}x the parameters"
    return [f"{times} of the baseline ({base.model})"]


def _stage_cells(row: StageRow) -> Iterable[str]:
    kernel = f"{row.kernel}x{row.kernel}" if row.kernel else ""
    expand = f"{row.expand_ratio:g}" if row.expand_ratio is not None else ""
    squeeze = f"{row.se_ratio:g}" if row.se_ratio is not None else ""
    before, after = sides_text(row.resolution_in, row.width_in), sides_text(row.resolution_out, row.width_out)
    side = before if before == after else f"{before}->{after}"
    counts = (f"{row.parameters:,}", f"{row.macs:,}", bytes_text(row.activation_bytes))
    shape = (kernel, str(row.stride or ""), expand, squeeze, str(row.channels), str(row.repeats), side)
    return (row.name, row.operator, *shape, *counts)
