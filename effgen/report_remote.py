"""Latency of a bundle on a device elsewhere, as a table and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from effgen.report import numbers_table, threads_text

if TYPE_CHECKING:
    from rich.table import Table

    from effgen.bench_remote import RemoteLatency

_COLUMNS = ("device", "median ms", "p10 ms", "p90 ms", "min ms", "images/s", "runs", "relative L2")


def table_from_remote(latency: RemoteLatency) -> Table:
    """One row: the device."""
    title = f"{latency.model} for {latency.target}, batch {latency.batch}, {threads_text(latency.threads)}, over RPC"
    table = numbers_table(title, _COLUMNS, left=1)
    times = (latency.median_ms, latency.p10_ms, latency.p90_ms, latency.min_ms)
    table.add_row(
        latency.device,
        *(f"{value:.2f}" for value in times),
        f"{latency.images_per_second:.1f}",
        str(latency.runs),
        f"{latency.rel_l2:.1e}",
    )
    return table


def json_from_remote(latency: RemoteLatency) -> dict[str, Any]:
    """The fields of `RemoteLatency`."""
    return asdict(latency)
