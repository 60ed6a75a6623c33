"""What a network's pointwise and depthwise kernels consist of on an ARM target, instruction by instruction.

    python benchmarks/arm_instructions.py [--target rpi4] [--phi 0 | --onnx FILE] [--untuned] [--out FILE]

Each kernel is compiled alone, with its default schedule, and run once under the target's emulator, which logs the
blocks that it executes. --untuned puts the same layers beside them as TVM compiles them without a schedule, over fewer
rows of the image where they are large. docs/arm.md says what is counted.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from effgen.compiler.repertoire import kernels_for
from effgen.machines.target import load_target
from effgen.network import Network, NetworkRequest
from effgen.network.file_network import OnnxNetwork, OnnxRequest
from effgen.network.model import resolve
from effgen.runtime.library import prepare_tvm
from effgen.version import __version__

# Multiply-adds of an untuned layer: instructions for one hardly depend on their number.
_UNTUNED_MACS = 1_000_000

_COLUMNS = (
    "kernel", "calls", "FMA / vector", "without loads, stores", "in the busiest loop", "spills", "instructions / MAC",
    "untuned: FMA / vector", "instructions / MAC",
)  # fmt: skip


def measured(target: str, network: Network | OnnxNetwork, untuned: bool) -> list[dict[str, Any]]:
    """A row for each kernel of the network, with how often a run calls it."""
    from arm.emulated_kernels import count_kernel, count_untuned, cut, layers_of_calls

    from effgen.tuning.request import calls_of_network

    machine = load_target(target)
    rows = []
    for layer, calls in layers_of_calls(calls_of_network(network, kernels_for(machine))).items():
        counted = count_kernel(layer, machine)
        row: dict[str, Any] = {
            "kernel": layer.name,
            "family": layer.family,
            "calls": calls,
            "macs": counted.macs,
            "executed": asdict(counted.mix),
            "busiest_loop": asdict(counted.busiest.mix),
            "spills": counted.spills,
            "share": counted.mix.share,
            "share_of_arithmetic": counted.mix.share_of_arithmetic,
            "loop_share": counted.busiest.mix.share,
            "per_mac": counted.per_mac,
        }
        if untuned:
            other = count_untuned(cut(layer, _UNTUNED_MACS), machine)
            row["untuned"] = {
                "macs": other.macs, "executed": asdict(other.mix), "share": other.mix.share, "per_mac": other.per_mac
            }  # fmt: skip
        print(_line(row), flush=True)
        rows.append(row)
    return rows


def totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Over all calls of a family in a run: the share with and without loads and stores, instructions for a MAC."""
    found = {}
    for family in sorted({row["family"] for row in rows}):
        executed: Counter[str] = Counter()
        macs = 0
        for row in rows:
            if row["family"] == family:
                macs += row["calls"] * row["macs"]
                for key, count in row["executed"].items():
                    executed[key] += row["calls"] * count
        vector = executed.total() - executed["scalar"]
        arithmetic = executed["multiply_adds"] + executed["arithmetic"]
        found[family] = {
            "share": executed["multiply_adds"] / vector,
            "share_of_arithmetic": executed["multiply_adds"] / arithmetic,
            "per_mac": executed.total() / macs,
        }
    return found


def _line(row: dict[str, Any]) -> str:
    cells = [row["kernel"].removeprefix("f32_"), str(row["calls"])]
    cells += [f"{row[key]:.2f}" for key in ("share", "share_of_arithmetic", "loop_share")]
    cells += [str(row["spills"]), f"{row['per_mac']:.2f}"]
    if "untuned" in row:
        cells += [f"{row['untuned'][key]:.2f}" for key in ("share", "per_mac")]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="rpi4", metavar="NAME|FILE")
    parser.add_argument("--phi", default="0")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="a network of your own instead, quantised or not")
    parser.add_argument("--untuned", action="store_true", help="the same layers without a schedule, too")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the counts as JSON")
    options = parser.parse_args()
    prepare_tvm()
    columns = _COLUMNS if options.untuned else _COLUMNS[:7]
    print(f"| {' | '.join(columns)} |\n|:---{'|---:' * (len(columns) - 1)}|")
    request = OnnxRequest(options.onnx) if options.onnx else NetworkRequest(phi=options.phi)
    rows = measured(options.target, resolve(request), options.untuned)
    for family, total in totals(rows).items():
        shares = f"FMA / vector {total['share']:.3f}, without loads, stores {total['share_of_arithmetic']:.3f}"
        print(f"{family}: {shares}, {total['per_mac']:.3f} instructions for a multiply-add")
    if options.out:
        data = {
            "effgen": __version__,
            "target": options.target,
            "network": options.onnx.name if options.onnx else f"phi {options.phi}",
            "total": totals(rows),
            "kernels": rows,
        }
        options.out.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
