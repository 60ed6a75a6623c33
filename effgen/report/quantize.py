"""What `effgen quantize` prints: its layers by the error that each brings, and how far the whole is from float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from effgen.report.tables import numbers_table

if TYPE_CHECKING:  # a command loads only what it reports on
    from effgen.quantization.quantize import Quantization

#: Layers that the table lists.
_LISTED = 12


def table_from_quantization(found: Quantization) -> Table:
    """The layers that bring most, and what they read."""
    table = numbers_table(
        "layers by the error that each brings alone", ("layer", "dtype", "error", "scale", "zero"), left=2
    )
    for layer in sorted(found.layers, key=lambda layer: -layer.error)[:_LISTED]:
        dtype = "float32" if layer.kept else "int8"
        (scale,), (zero,) = layer.input.scale, layer.input.zero_point
        table.add_row(layer.name, dtype, f"{layer.error:.2e}", f"{scale:.3g}", str(zero))
    return table


def lines_from_quantization(found: Quantization, files: Sequence[Path]) -> list[str]:
    """The whole, and where it is."""
    codes = sum(not layer.kept for layer in found.layers)
    same = "" if found.agreement is None else f", the best class is the same for {found.agreement:.1%}"
    return [
        f"{codes} of {len(found.layers)} layers in int8; on {found.images} images the outputs differ by "
        f"{found.rel_l2:.2%} (relative L2){same}",
        *map(str, files),
    ]


def json_from_quantization(found: Quantization, files: Sequence[Path]) -> dict[str, Any]:
    """All layers in the network's order."""
    return {
        "files": [str(file) for file in files],
        "images": found.images,
        "rel_l2": found.rel_l2,
        "agreement": found.agreement,
        "layers": [asdict(layer) for layer in found.layers],
    }
