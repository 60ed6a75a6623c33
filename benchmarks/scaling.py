"""How latency grows with phi, beside the multiply-adds: a table and a picture from what compare_peers.py measured.

    python benchmarks/compare_peers.py --phi 0 1 2 3 4 5 6 7 --out scaling.json
    python benchmarks/scaling.py scaling.json --plot docs/figures/latency_vs_macs.png

Several files are taken together: large networks may be measured at another time than small ones. Exits 3 with
--max-growth where effgen's latency has grown by more than that factor beyond its multiply-adds.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from effgen.bench import OURS
from effgen.compare import Measured, best_peer, growth, peak_share, read_comparison, speedup, worst_growth
from effgen.errors import EffgenError, RegressionError
from effgen.plots import check_plot, plot_scaling

_HEADER = (
    "phi",
    "pixels",
    "GMACs",
    "MACs, relative",
    "latency, ms",
    "latency, relative",
    "of peak",
    "best peer",
    "its ms",
)


def rows(networks: Sequence[Measured], peaks: Sequence[float]) -> Iterable[Sequence[str]]:
    """A row a network; `peaks` are the GFLOP/s peaks measured with each."""
    for network, peak, (macs, latency) in zip(networks, peaks, growth(networks), strict=True):
        best = best_peer(network)
        peer = (best[0], f"{best[1]:.2f} ({speedup(network):.2f}x)") if best else ("", "")
        size = (network.phi, str(network.resolution), f"{network.macs / 1e9:.2f}", f"{macs:.2f}")
        share = f"{peak_share(network, OURS, peak):.0%}"
        yield (*size, f"{network.ours_ms:.2f}", f"{latency:.2f}", share, *peer)


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table as Markdown."""
    rule = ["---:" for _ in header]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


def loaded(paths: Sequence[Path]) -> tuple[list[Measured], list[float]]:
    """All networks by size with their peaks. Raises EffgenError where they cannot be set side by side."""
    pairs = [
        (network, comparison.peak_gflops)
        for comparison in (read_comparison(path, "FILE") for path in paths)
        for network in comparison.networks
    ]
    pairs.sort(key=lambda pair: pair[0].macs)
    networks = [network for network, _ in pairs]
    if len({network.key for network in networks}) < len(networks):
        raise EffgenError("FILE: a network is there twice; give each phi once")
    if len({(network.batch, network.threads) for network in networks}) != 1:
        raise EffgenError("FILE: networks of one batch size and thread count are needed")
    for network in networks:
        if not math.isfinite(network.ours_ms):
            raise EffgenError(f"FILE: {network.title} has no latency of effgen; measure it again")
    return networks, [peak for _, peak in pairs]


def run(options: argparse.Namespace) -> None:
    """Raises EffgenError for a user's error, RegressionError where the growth is above --max-growth."""
    if options.plot:
        check_plot("--plot", options.plot)
    networks, peaks = loaded(options.files)
    print(markdown(_HEADER, rows(networks, peaks)))
    worst = worst_growth(growth(networks))
    first = networks[0]
    print(f"\nbatch {first.batch}, {first.threads} threads; latency grew at most {worst:.2f} times as much as MACs")
    if options.plot:
        names = dict.fromkeys(name for network in networks for name in network.medians_ms)
        series = {name: growth(networks, name) for name in (OURS, *(name for name in names if name != OURS))}
        labels = [f"phi={network.phi}" for network in networks]
        title = f"Latency and multiply-adds, batch {first.batch}, {first.threads} threads"
        plot_scaling({name: points for name, points in series.items() if points}, labels, title, options.plot)
    if options.max_growth is not None and not worst <= options.max_growth:
        raise RegressionError(f"latency grew {worst:.2f} times as much as MACs; --max-growth {options.max_growth:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what compare_peers.py --out wrote")
    parser.add_argument("--plot", type=Path, help="write the picture (.png, .svg, .pdf)")
    parser.add_argument("--max-growth", type=float, help="the gate: latency's growth over the MACs' growth")
    try:
        run(parser.parse_args())
    except EffgenError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
