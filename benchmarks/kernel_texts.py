"""The scheduled TIR of every kernel of many networks, as hashes: shows that a change of the code changes no kernel.

    python benchmarks/kernel_texts.py write before.json --onnx resnet50.onnx
    ... (the change)
    python benchmarks/kernel_texts.py write after.json --onnx resnet50.onnx
    python benchmarks/kernel_texts.py compare before.json after.json

EfficientNet-B0 to B7, each other family's baseline and, with `--onnx`, an exported network; for CPUs and for a GPU.
Kernels are compared in the order in which the networks call them, their own names left out. Records that ship decide
schedules, records of the user's own do not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from effgen.graph import Graph, Weights
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.network import NetworkRequest
from effgen.network.file_network import OnnxRequest
from effgen.network.model import model_of, resolve
from effgen.runtime.library import prepare_tvm

FAMILIES = {
    "efficientnet": tuple("01234567"),
    "efficientnet_lite": ("0",),
    "efficientnet_v2_b": ("0",),
    "efficientnet_v2_s": ("0",),
    "mnasnet_a1": ("0",),
    "mnasnet_b1": ("0",),
    "mobilenet_v1": ("0",),
    "mobilenet_v2": ("0",),
    "mobilenet_v3_large": ("0",),
    "resnet50": ("0",),
}
#: Name of the target, threads (None: its own number), dtype. Records ship for two threads.
TARGETS = (
    ("x86-64-v3", None, "float32"),
    ("x86-64-v3", 2, "float32"),
    ("x86-64-v4", None, "float32"),
    ("x86-64-v4", 2, "float32"),
    ("rpi4", None, "float32"),
    ("cuda-sm80", None, "float32"),
    ("cuda-sm80", None, "float16"),
)

#: Network -> target, threads and dtype -> a hash for each step of its program, in order.
Texts = dict[str, dict[str, list[str]]]


def networks(onnx: Path | None) -> Iterator[tuple[str, Graph, Weights]]:
    """Each network with its batch norms folded, as it is exported."""
    requests: list[NetworkRequest | OnnxRequest] = [
        NetworkRequest(spec=family, phi=phi) for family, phis in FAMILIES.items() for phi in phis
    ]
    requests += [] if onnx is None else [OnnxRequest(onnx)]
    for request in requests:
        model = model_of(resolve(request), None, 0, lambda phase: None)
        yield model.title, *fold_batchnorm(model.graph, model.weights)


def texts_of(graph: Graph, weights: Weights, target: str, threads: int | None, dtype: str, database: Path) -> list[str]:
    """A hash of the scheduled TIR of every kernel call, in order, its name left out."""
    from effgen.compiler.dump import Dump
    from effgen.compiler.importer import relax_from_graph
    from effgen.compiler.pipeline import schedule_module
    from effgen.kernels.lowering import tvm_target
    from effgen.machines.target import load_target
    from effgen.records.choice import KernelChoices

    machine = load_target(target).with_threads(threads)
    with tvm_target(machine):
        chosen = KernelChoices(machine, database)
        imported = relax_from_graph(graph, weights, machine, chosen.kernel, dtype)
        scheduled = schedule_module(imported, machine, chosen, Dump(None))
    names = [step.kernel for step in scheduled.program.steps]
    hashes = {name: _hash(scheduled.mod[name].script(), name) for name in set(names)}
    return [hashes[name] for name in names]


def _hash(script: str, name: str) -> str:
    return hashlib.sha256(script.replace(name, "kernel").encode()).hexdigest()[:16]


def write(path: Path, onnx: Path | None) -> None:
    """The texts of all networks on all targets."""
    prepare_tvm()
    found: Texts = {}
    nowhere = path.with_suffix(".none")
    for title, graph, weights in networks(onnx):
        print(title, file=sys.stderr)
        found[title] = {
            f"{target} {threads or ''} {dtype}": texts_of(graph, weights, target, threads, dtype, nowhere)
            for target, threads, dtype in TARGETS
        }
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def compare(before: Path, after: Path) -> int:
    """Print what differs and how many kernels were compared; the exit status."""
    old, new = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    different = [
        f"{title}, {target}: {_difference(old[title][target], new.get(title, {}).get(target, []))}"
        for title in old
        for target in old[title]
        if old[title][target] != new.get(title, {}).get(target)
    ]
    hashes = [text for targets in old.values() for texts in targets.values() for text in texts]
    print(*different, sep="\n", end="\n" if different else "")
    print(f"{len(old)} networks, {len(hashes)} kernel calls, {len(set(hashes))} different kernels;", end=" ")
    print(f"{len(different)} programs differ" if different else "all equal")
    return 1 if different else 0


def _difference(old: list[str], new: list[str]) -> str:
    unequal = sum(a != b for a, b in zip(old, new, strict=False))
    return f"{unequal} of {len(old)} calls differ" + ("" if len(old) == len(new) else f", {len(new)} calls now")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("path", type=Path)
    writing.add_argument("--onnx", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command == "compare":
        return compare(options.before, options.after)
    write(options.path, options.onnx)
    return 0


if __name__ == "__main__":
    sys.exit(main())
