"""The EfficientNet paper's Table 4, measured here: B1 against ResNet-152 on one core, batch 1, the mean of 20 runs.

    python benchmarks/table4.py --out build/report/results
    python benchmarks/table4.py --resnet152 mine.onnx --bundles build/table4

ResNet-152 is torchvision's, exported to ONNX by PyTorch with random weights (needs torchvision), or the file that
--resnet152 names; effgen compiles it from that file as it compiles B1 and B7 from the spec. onnxruntime runs the same
files. Each has a process of its own; all are called in turn, run after run, on one CPU. B7's rival in the paper, GPipe
(557M parameters), is not public: its published time is printed, and marked. --out writes a file a network, as `effgen
bench --json` does: `effgen compare` shows them beside the paper's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BuildError, EffgenError
from effgen.judge.bench import Backend, result_from_samples
from effgen.judge.case import golden_pair, relative_l2
from effgen.judge.messages import Entry, Refused
from effgen.judge.peers import peer_version
from effgen.judge.race import Contender
from effgen.machines.host import Host, describe_host, watch_other_work
from effgen.machines.processor import usable_cpus
from effgen.network import NetworkRequest
from effgen.network.file_network import OnnxRequest
from effgen.report.bench import host_line
from effgen.report.output import write_json
from effgen.report.tables import numbers_table
from effgen.results.paper import TABLE_4
from effgen.results.provenance import facts_of, origin_of
from effgen.results.reports import OURS, BenchReport, json_from_report
from effgen.runtime.manifest import read_manifest, sha256_of
from effgen.version import __version__

#: The paper's pairs: that of ResNet-152 and B1, and that of GPipe and B7.
RESNET152_B1, GPIPE_B7 = TABLE_4

#: The networks that are measured, by the names of their bundles.
NETWORKS = {"resnet152": RESNET152_B1.large, "b1": RESNET152_B1.small, "b7": GPIPE_B7.small}

#: Runs of each network whose mean is reported, as in the paper.
RUNS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resnet152", type=Path, help="an ONNX file of ResNet-152; default: torchvision's, exported")
    parser.add_argument("--bundles", type=Path, help="keep the bundles here, and reuse those that are here and fit")
    parser.add_argument("--runs", type=int, default=RUNS, help="timed runs of each")
    parser.add_argument("--without-b7", action="store_true", help="leave B7 out, which takes minutes")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write a file a network here, as effgen bench --json")
    try:
        run(parser.parse_args())
    except EffgenError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def run(options: argparse.Namespace) -> None:
    """Compile, measure, print, write. Raises EffgenError for what the user can mend."""
    if options.runs < 1:
        raise BuildError(f"--runs {options.runs}: expected 1 or more")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.bundles or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        bundles = {name: bundle_of(name, folder, options) for name in networks(options)}
        os.sched_setaffinity(0, usable_cpus()[:1])
        host = describe_host()
        with ExitStack() as stack:
            entered = {name: backends(bundle, stack) for name, bundle in bundles.items()}
            with watch_other_work() as other_work:
                seconds = measure(entered, options.runs)
        reports = {
            name: report_of(bundles[name], list(entered[name]), seconds[name], host, other_work.cpus)
            for name in bundles
        }
    show(reports)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        for name, report in reports.items():
            write_json(json_from_report(report), str(options.out / f"table4-{name}.json"))


def networks(options: argparse.Namespace) -> list[str]:
    return [name for name in NETWORKS if name != "b7" or not options.without_b7]


def bundle_of(name: str, folder: Path, options: argparse.Namespace) -> Path:
    """The network's bundle for one thread, compiled where it is not there yet. Raises BuildError where that which is
    there is for more threads, or of another file than --resnet152."""
    bundle, file = folder / name, options.resnet152 if name == "resnet152" else None
    if bundle.exists():
        check_kept(bundle, file)
    else:
        print(f"compile {NETWORKS[name].name}", file=sys.stderr)
        if name == "resnet152":
            source: NetworkRequest | OnnxRequest = OnnxRequest(file or exported(folder))
        else:
            source = NetworkRequest(phi=name.removeprefix("b"))
        compile_bundle(CompileRequest(source, bundle, threads=1))
    return bundle


def check_kept(bundle: Path, file: Path | None) -> None:
    """Raise BuildError where a bundle of an earlier call is not what this one asks for."""
    manifest = read_manifest(bundle)
    mend = "remove it, or give another --bundles"
    if manifest.threads != 1:
        raise BuildError(f"{bundle}: compiled for {manifest.threads} threads: expected 1; {mend}")
    if file is None:
        return
    if not file.is_file():
        raise BuildError(f"--resnet152 {file}: no such file")
    compiled, given = manifest.network.get("onnx", {}).get("sha256", "unknown"), sha256_of(file)
    if compiled != given:
        raise BuildError(
            f"{bundle}: compiled from a file of SHA-256 {compiled[:12]}, --resnet152 {file} has {given[:12]}; {mend}"
        )


def exported(folder: Path) -> Path:
    """torchvision's ResNet-152, its weights random but such that all of them matter."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from zoo import export_onnx, external_model

    return export_onnx(external_model("torchvision", "resnet152"), folder / "resnet152.onnx", 224)


def backends(bundle: Path, stack: ExitStack) -> dict[Backend, Contender]:
    """What calls the network: effgen, and onnxruntime on the bundle's own ONNX file where it is installed. Raises
    BuildError for one that cannot, or is wrong."""
    expected = golden_pair(bundle)[1]
    versions = {OURS: __version__, "onnxruntime": peer_version("onnxruntime")}
    found: dict[Backend, Contender] = {}
    for name, version in versions.items():
        if version is None:
            continue
        contender = stack.enter_context(Contender(Entry(name, bundle, 1)))
        if isinstance(contender.told, Refused):
            raise BuildError(f"{bundle}: {name}: {contender.told.reason}")
        difference = relative_l2(contender.told.answer, expected)
        if not difference <= 1e-4:
            raise BuildError(f"{bundle}: {name} is {difference:.1e} from PyTorch: expected at most 1e-4")
        found[Backend(name, version, difference, contender.told.memory)] = contender
    return found


def measure(entered: Mapping[str, Mapping[Backend, Contender]], runs: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each network by each backend, all in turn, run after run; the first round warms up and does not
    count."""
    seconds: dict[str, dict[str, list[float]]] = {
        network: {backend.name: [] for backend in found} for network, found in entered.items()
    }
    for turn in range(runs + 1):
        for network, found in entered.items():
            for backend, contender in found.items():
                taken = contender.burst(time_s=0.0, wake_s=0.0)
                if turn:
                    seconds[network][backend.name] += taken
    return seconds


def report_of(
    bundle: Path, found: Sequence[Backend], seconds: Mapping[str, list[float]], host: Host, other_cpus: float | None
) -> BenchReport:
    """A network's report, as `effgen bench` would make it."""
    manifest = read_manifest(bundle)
    ours_ms = statistics.median(seconds[OURS]) * 1e3
    return BenchReport(
        origin=origin_of(manifest),
        model=facts_of(manifest, bundle),
        target=str(manifest.target["name"]),
        threads=1,
        plan=None,
        results=tuple(result_from_samples(backend, seconds[backend.name], 1, ours_ms) for backend in found),
        left_out=(),
        machine=host,
        other_cpus=other_cpus,
    )


def show(reports: Mapping[str, BenchReport]) -> None:
    """Mean seconds beside the paper's, and the ratios."""
    mean = {(name, one.backend): (one.mean_ms or 0.0) / 1e3 for name in reports for one in reports[name].results}
    names = list(dict.fromkeys(backend for _, backend in mean))
    table = numbers_table("mean seconds a run, one core, batch 1", ("network", *names, "paper"), left=1)
    for network in reports:
        times = [f"{mean[network, name]:.4f}" for name in names]
        table.add_row(NETWORKS[network].name, *times, f"{NETWORKS[network].published_s:.3f}")
    gpipe = GPIPE_B7.large
    table.add_row(gpipe.name, *[""] * len(names), f"{gpipe.published_s:.1f} (published; not measured here)")
    console, first = Console(width=200, highlight=False, markup=False), reports["b1"]
    console.print(table)
    found = ", ".join(f"{name} {mean['resnet152', name] / mean['b1', name]:.2f}" for name in names)
    console.print(f"ResNet-152 / B1: {found}; paper {RESNET152_B1.published:g}")
    other = "" if first.other_cpus is None else f"; {first.other_cpus:.2f} CPUs of other work meanwhile"
    console.print(host_line(first.machine) + other)


if __name__ == "__main__":
    main()
