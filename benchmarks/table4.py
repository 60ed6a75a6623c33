"""The EfficientNet paper's Table 4, measured here: B1 against ResNet-152 on one core, batch 1, the mean of 20 runs.

    python benchmarks/table4.py --out table4.json
    python benchmarks/table4.py --resnet152 mine.onnx --bundles build/table4

ResNet-152 is torchvision's, exported to ONNX by PyTorch with random weights (needs torchvision), or the file that
--resnet152 names; effgen compiles it from that file as it compiles B1 and B7 from the spec. onnxruntime runs the same
files. All are called in turn, run after run, by this one process on one CPU. B7's rival in the paper, GPipe (557M
parameters), is not public: its published time is printed, and marked.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

import effgen
from effgen.cpu import usable_cpus
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BuildError, EffgenError
from effgen.machine import describe_host, watch_other_work
from effgen.network import NetworkRequest
from effgen.onnx_network import OnnxRequest
from effgen.peers import PEERS, Job, peer_version
from effgen.report import check_json_path, host_line, numbers_table, write_json
from effgen.runtime.manifest import MODEL, read_manifest
from effgen.verify import golden_pair

#: The paper's seconds, on one core of an Intel Xeon E5-2690.
PAPER_S = {"resnet152": 0.554, "b1": 0.098, "b7": 3.1, "gpipe": 19.0}

#: Runs of each network whose mean is reported, as in the paper.
RUNS = 20

_TITLES = {"resnet152": "ResNet-152", "b1": "EfficientNet-B1", "b7": "EfficientNet-B7", "gpipe": "GPipe"}


@dataclass(frozen=True)
class Timed:
    """Seconds of one network by one backend."""

    network: str
    backend: str
    mean_s: float
    median_s: float
    min_s: float
    runs: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resnet152", type=Path, help="an ONNX file of ResNet-152; default: torchvision's, exported")
    parser.add_argument("--bundles", type=Path, help="keep the bundles here, and reuse those that are here")
    parser.add_argument("--runs", type=int, default=RUNS, help="timed runs of each")
    parser.add_argument("--without-b7", action="store_true", help="leave B7 out, which takes minutes")
    parser.add_argument("--out", help="write what was measured as JSON")
    try:
        run(parser.parse_args())
    except EffgenError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def run(options: argparse.Namespace) -> None:
    """Compile, measure, print, write. Raises EffgenError for what the user can mend."""
    check_json_path(options.out)
    if options.runs < 1:
        raise BuildError(f"--runs {options.runs}: expected 1 or more")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.bundles or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        bundles = {name: bundle_of(name, folder, options) for name in networks(options)}
        os.sched_setaffinity(0, usable_cpus()[:1])
        calls = {(name, backend): call for name in bundles for backend, call in backends(bundles[name]).items()}
        with watch_other_work() as other_work:
            timed = measure(calls, options.runs)
        sizes = {name: facts(bundle) for name, bundle in bundles.items()}
    report(timed, sizes, other_work.cpus, options.out)


def networks(options: argparse.Namespace) -> list[str]:
    return ["resnet152", "b1"] + ([] if options.without_b7 else ["b7"])


def bundle_of(name: str, folder: Path, options: argparse.Namespace) -> Path:
    """The network's bundle for one thread, compiled where it is not there yet."""
    bundle = folder / name
    if not bundle.exists():
        print(f"compile {_TITLES[name]}", file=sys.stderr)
        if name == "resnet152":
            source: NetworkRequest | OnnxRequest = OnnxRequest(options.resnet152 or exported(folder))
        else:
            source = NetworkRequest(phi=name.removeprefix("b"))
        compile_bundle(CompileRequest(source, bundle, threads=1))
    return bundle


def exported(folder: Path) -> Path:
    """torchvision's ResNet-152, its weights random but such that all of them matter."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from zoo import export_onnx, external_model

    return export_onnx(external_model("torchvision", "resnet152"), folder / "resnet152.onnx", 224)


def backends(bundle: Path) -> dict[str, Callable[[], object]]:
    """What calls the network once: effgen, and onnxruntime on the bundle's own ONNX file where it is installed."""
    image, expected = golden_pair(bundle)
    model = effgen.load(bundle, threads=1)
    found: dict[str, Callable[[], object]] = {"effgen": lambda: model(image)}
    if peer_version("onnxruntime") is not None:
        found["onnxruntime"] = PEERS["onnxruntime"].prepare(Job(bundle / MODEL, image, threads=1))
    for name, call in found.items():
        difference = np.linalg.norm(np.asarray(call()) - expected) / np.linalg.norm(expected)
        if not difference <= 1e-4:
            raise BuildError(f"{bundle}: {name} is {difference:.1e} from PyTorch: expected at most 1e-4")
    return found


def measure(calls: dict[tuple[str, str], Callable[[], object]], runs: int) -> list[Timed]:
    """Each in turn, run after run; the first round warms up and does not count."""
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(runs + 1):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[key].append(time.perf_counter() - start)
    kept = {key: values[1:] for key, values in seconds.items()}
    return [
        Timed(*key, statistics.fmean(values), statistics.median(values), min(values), runs)
        for key, values in kept.items()
    ]


def facts(bundle: Path) -> dict[str, int]:
    manifest = read_manifest(bundle)
    return {"parameters": manifest.parameters, "macs": manifest.macs}


def report(timed: list[Timed], sizes: dict[str, dict[str, int]], other_cpus: float, out: str | None) -> None:
    mean = {(entry.network, entry.backend): entry.mean_s for entry in timed}
    names = list(dict.fromkeys(entry.backend for entry in timed))
    table = numbers_table("mean seconds a run, one core, batch 1", ("network", *names, "paper"), left=1)
    for network in dict.fromkeys(entry.network for entry in timed):
        times = [f"{mean[network, name]:.4f}" if (network, name) in mean else "" for name in names]
        table.add_row(_TITLES[network], *times, f"{PAPER_S[network]:.3f}")
    table.add_row(_TITLES["gpipe"], *[""] * len(names), f"{PAPER_S['gpipe']:.1f} (published; not measured here)")
    ratios = {name: mean["resnet152", name] / mean["b1", name] for name in names}
    paper = PAPER_S["resnet152"] / PAPER_S["b1"]
    console, host = Console(width=200, highlight=False, markup=False), describe_host()
    console.print(table)
    found = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    console.print(f"ResNet-152 / B1: {found}; paper {paper:.1f}")
    console.print(f"{host_line(host)}; {other_cpus:.2f} CPUs of other work meanwhile")
    if out:
        published = {"seconds": PAPER_S, "ratio": paper, "machine": "Intel Xeon E5-2690, one core"}
        write_json(
            {
                "machine": asdict(host),
                "threads": 1,
                "batch": 1,
                "other_cpus": other_cpus,
                "results": [asdict(entry) for entry in timed],
                "networks": sizes,
                "ratios": ratios,
                "paper": published,
                "versions": {"onnxruntime": peer_version("onnxruntime")},
            },
            out,
        )


if __name__ == "__main__":
    main()
