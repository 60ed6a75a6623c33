"""A bundle beside onnxruntime on a machine that others use too: processes in turn, beside so many busy ones.

    python benchmarks/loaded.py BUNDLE [--threads 2] [--load 2] [--rounds 5] [--seconds 3] [--also LABEL=BUNDLE]

Each process warms up, calls for so many seconds, and says the median, lower quartile and 99th percentile of its calls;
what is printed are medians over the rounds, and onnxruntime's over the bundle's. `--also` takes another bundle of the
same network, one with another pool say; `--python LABEL=PROGRAM` runs that one by another environment's Python.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

from effgen.machines.host import describe_host
from effgen.machines.load import busy_processes
from effgen.report.bench import host_line

_STATISTICS = ("median", "lower quartile", "p99")

#: What each process runs: KIND (bundle or onnxruntime), the file, the image, threads, seconds.
_PROGRAM = """
import json, sys, time
import numpy as np
kind, path, image = sys.argv[1], sys.argv[2], np.load(sys.argv[3])
threads, seconds = int(sys.argv[4]), float(sys.argv[5])
if kind == "onnxruntime":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    call = lambda: session.run(None, {name: image})
else:
    import effgen
    model = effgen.load(path, threads=threads)
    call = lambda: model(image)
for _ in range(10):
    call()
times, end = [], time.perf_counter() + seconds
while time.perf_counter() < end:
    start = time.perf_counter()
    call()
    times.append(time.perf_counter() - start)
print(json.dumps([1e3 * float(np.quantile(times, part)) for part in (0.5, 0.25, 0.99)]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--load", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--also", action="append", default=[], metavar="LABEL=BUNDLE")
    parser.add_argument("--python", action="append", default=[], metavar="LABEL=PROGRAM")
    options = parser.parse_args()
    runs = commands(options)
    print(f"{options.bundle.name}, {options.threads} threads, beside {options.load} busy processes")
    print(host_line(describe_host()))
    found: dict[str, list[list[float]]] = {label: [] for label in runs}
    with busy_processes(options.load):
        for _ in range(options.rounds):
            for label, command in runs.items():
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[label].append(json.loads(done.stdout))
    report(found)


def commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """What is timed, by its label: the bundle first."""
    image = options.bundle / "golden.npz"
    with np.load(image) as pair:
        saved = Path(f"{options.bundle}.image.npy")
        np.save(saved, pair["input"])
    pythons = dict(pair.split("=", 1) for pair in options.python)
    bundles = {"effgen": options.bundle, **{label: Path(path) for label, _, path in split(options.also)}}
    rest = [str(saved), str(options.threads), str(options.seconds)]
    found = {
        label: [pythons.get(label, sys.executable), "-c", _PROGRAM, "bundle", str(path), *rest]
        for label, path in bundles.items()
    }
    model = str(options.bundle / "model.onnx")
    return {**found, "onnxruntime": [sys.executable, "-c", _PROGRAM, "onnxruntime", model, *rest]}


def split(pairs: list[str]) -> list[tuple[str, str, str]]:
    """LABEL=VALUE in its parts."""
    return [pair.partition("=") for pair in pairs]


def report(found: dict[str, list[list[float]]]) -> None:
    """A line for each label, and the ratios to the first."""
    middle = {label: [statistics.median(column) for column in zip(*rows, strict=True)] for label, rows in found.items()}
    ours = next(iter(middle.values()))
    for label, values in middle.items():
        words = (
            f"{name} {value:8.3f} ms ({value / own:5.2f}x)"
            for name, value, own in zip(_STATISTICS, values, ours, strict=True)
        )
        print(f"{label:16s} {'  '.join(words)}")


if __name__ == "__main__":
    main()
