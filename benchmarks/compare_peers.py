"""Networks compiled by effgen beside PyTorch, onnxruntime and OpenVINO: medians on the same threads, and a gate.

    python benchmarks/compare_peers.py --phi 0 1 2 3 --threads 2 --batch 1 --out results.json
    python benchmarks/compare_peers.py --phi 0 --baseline results.json --max-ratio 1.05

Every network is compiled, then measured by `effgen bench` in a process of its own: interleaved rounds, one process
for all backends, every peer in its best form (torch.compile with frozen weights, channels-last; OpenVINO held to
float32). With --baseline it exits 3 where effgen's latency over the best peer's grew by more than --max-ratio. That
is a ratio of two times of the same run, since milliseconds of different days or machines cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from effgen.bench import OURS, is_disturbing
from effgen.compare import (
    Comparison,
    Measured,
    best_peer,
    check_comparable,
    check_gate,
    peak_share,
    read_comparison,
    speedup,
)
from effgen.cpu import usable_cpus
from effgen.errors import EffgenError
from effgen.machine import Host, describe_host
from effgen.peers import DEFAULT_PEERS, PEERS, check_peer_names
from effgen.report import check_json_path, host_line, numbers_table, write_json
from effgen.roofline import Probes
from effgen.runtime import read_manifest


def effgen(*words: object) -> None:
    """Run a command of effgen; its progress is on standard error. Ends the program where it fails: it has said why."""
    done = subprocess.run([sys.executable, "-m", "effgen", *map(str, words)], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def bundle_of(phi: str, options: argparse.Namespace, folder: Path) -> Path:
    """The network's bundle in `folder`, compiled where it is not there yet."""
    bundle = folder / f"{Path(options.spec).stem}-{phi}-batch{options.batch}-threads{options.threads}"
    if not bundle.exists():
        words = ("--spec", options.spec, "--phi", phi, "--batch", options.batch, "--threads", options.threads)
        effgen("compile", *words, "-o", bundle)
    return bundle


def measured(phi: str, bundle: Path, options: argparse.Namespace) -> Measured:
    """The bundle beside the peers, by `effgen bench`."""
    peers = [name for name in options.peers if name not in DEFAULT_PEERS]
    skip = [name for name in DEFAULT_PEERS if name not in options.peers]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.json"
        words = ("--threads", options.threads, "--rounds", options.rounds, "--min-time", options.min_time)
        effgen("bench", bundle, "--peers", ",".join(peers), "--skip", ",".join(skip), *words, "--json", path)
        report = json.loads(path.read_text())
    return measured_from_report(phi, bundle, report)


def measured_from_report(phi: str, bundle: Path, report: dict[str, Any]) -> Measured:
    """What is kept of one `effgen bench --json`."""
    manifest = read_manifest(bundle)
    return Measured(
        phi=phi,
        batch=report["batch"],
        threads=report["threads"],
        resolution=manifest.input["shape"][-1],
        parameters=manifest.parameters,
        macs=manifest.macs,
        medians_ms={result["backend"]: result["median_ms"] for result in report["results"]},
        left_out={item["backend"]: item["reason"] for item in report["left_out"]},
        other_cpus=report["other_cpus"],
    )


def table_from(comparison: Comparison, peers: Sequence[str]) -> Table:
    """Medians in milliseconds; the best peer's over effgen's; effgen's part of the peak."""
    columns = ("phi", "pixels", "MACs", OURS, *peers, "best peer", "best / effgen", "of peak")
    table = numbers_table("median ms a call", columns, left=1)
    for network in comparison.networks:
        medians = (network.medians_ms.get(name) for name in (OURS, *peers))
        times = ("" if time is None else f"{time:.2f}" for time in medians)
        best = best_peer(network)
        size = (network.phi, str(network.resolution), f"{network.macs / 1e9:.2f} G")
        share = f"{peak_share(network, OURS, comparison.peak_gflops):.0%}"
        table.add_row(*size, *times, best[0] if best else "", f"{speedup(network):.2f}x", share)
    return table


def say(comparison: Comparison, host: Host, peers: Sequence[str]) -> None:
    """Print what was measured."""
    console = Console(width=200, highlight=False, markup=False)
    console.print(table_from(comparison, peers))
    for network in comparison.networks:
        for name, reason in network.left_out.items():
            console.print(f"phi={network.phi}: {name}: {reason}")
        if is_disturbing(network.other_cpus):
            console.print(f"phi={network.phi}: other processes kept {network.other_cpus:.1f} CPUs busy")
    console.print(f"peak {comparison.peak_gflops:.0f} GFLOP/s of float32 multiply-adds; {host_line(host)}")


def compare(options: argparse.Namespace) -> Comparison:
    """Compile and measure all; prints the table and writes --out."""
    host = describe_host()
    probes = Probes(options.threads, {})
    peak = probes.measure().peak_gflops
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.bundles or Path(scratch)
        networks = [measured(phi, bundle_of(phi, options, folder), options) for phi in options.phi]
    peak = max(peak, probes.measure().peak_gflops)
    comparison = Comparison(machine=asdict(host), peak_gflops=peak, networks=networks)
    say(comparison, host, options.peers)
    if options.out:
        write_json(comparison.model_dump(), options.out)
    return comparison


def run(options: argparse.Namespace) -> None:
    """Raises EffgenError for a user's error, RegressionError where the gate fails."""
    check_peer_names(options.peers)
    check_json_path(options.out)
    baseline = read_comparison(options.baseline, "--baseline") if options.baseline else None
    if baseline is not None:
        wanted = [(phi, options.batch, options.threads) for phi in options.phi]
        check_comparable(wanted, options.peers, baseline.networks)
    if options.bundles:
        options.bundles.mkdir(parents=True, exist_ok=True)
    comparison = compare(options)
    if baseline is None:
        return
    if baseline.machine.get("cpu") != comparison.machine["cpu"]:
        print(f"warning: the baseline is of another machine: {baseline.machine.get('cpu')}", file=sys.stderr)
    for line in check_gate(comparison.networks, baseline.networks, options.max_ratio):
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phi", nargs="+", default=["0"], help="numbers, or names of published rows")
    parser.add_argument("--spec", default="efficientnet", help="a shipped family, or a .toml file")
    parser.add_argument("--threads", type=int, default=len(usable_cpus()))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--min-time", type=float, default=2.0, help="timed seconds of each backend, over all rounds")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), help=", ".join(PEERS))
    parser.add_argument("--bundles", type=Path, help="keep the bundles here, and reuse those that are here")
    parser.add_argument("--out", help="write what was measured as JSON")
    parser.add_argument("--baseline", type=Path, help="what --out wrote before")
    parser.add_argument("--max-ratio", type=float, default=1.05, help="how much worse than the baseline may be")
    try:
        run(parser.parse_args())
    except EffgenError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
