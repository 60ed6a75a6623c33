"""One folder with everything to compare effgen with PyTorch on a GPU machine that has no TVM and no network.

    python benchmarks/gpu/make_folder.py --out gpu-folder --phi 0 1 2 3 4
    cd gpu-folder && python3 run.py        # there: needs Python 3.11 or newer, numpy, torch with CUDA

Compiles a bundle for each phi, batch and dtype, and packs them with effgen's runtime, the networks as plain data for
PyTorch, and golden logits. What configurations share is there once: weights of one dtype for all batches, the network
for all of them. Images are not carried but made from their seed, and checked by their hash.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

import effgen
from effgen.driver import DTYPES, CompileRequest, check_request, compile_bundle
from effgen.errors import EffgenError
from effgen.files.staging import FolderKind, staged_directory
from effgen.graph.onnx import graph_from_onnx
from effgen.judge.case import golden_pair
from effgen.machines.target_file import cuda_archs_from_text
from effgen.network import NetworkRequest
from effgen.runtime.manifest import KERNELS, MANIFEST, MODEL, WEIGHTS, Manifest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from gpu_compare.folder import PLAN, Configuration, Plan, noise, sha256_of_array  # noqa: E402

#: What of effgen runs a CUDA bundle.
RUNTIME = (
    "__init__.py",
    "errors.py",
    "version.py",
    "words.py",
    "files/__init__.py",
    "files/bounded.py",
    "files/contents.py",
    "files/owner.py",
    "files/staging.py",
    "files/temporary.py",
    "machines/__init__.py",
    "machines/cgroup.py",
    "machines/processor.py",
    "machines/cuda_driver.py",
    "machines/identity.py",
    "runtime",
)

MIB = 1 << 20

#: What `--force` may replace.
FOLDER = FolderKind(PLAN, "a folder of this kind", "--out")


@dataclass(frozen=True)
class FolderRequest:
    """What the folder shall hold. `dump`: a directory for the text of every stage of each compilation."""

    output: Path
    phis: Sequence[str] = ("0", "1", "2", "3", "4")
    batches: Sequence[int] = (1, 64)
    dtypes: Sequence[str] = DTYPES
    spec: str = "efficientnet"
    target: str = "cuda-sm90"
    archs: tuple[str, ...] = ()
    seed: int = 0
    force: bool = False
    dump: Path | None = None


def make_folder(request: FolderRequest, say: Callable[[str], None] = lambda line: None) -> Plan:
    """Compile all and write the folder, whole or not at all. Raises an EffgenError for what the user can mend."""
    with tempfile.TemporaryDirectory(prefix="effgen-gpu-") as scratch:
        jobs = _jobs(request, Path(scratch))
        for job in jobs:
            check_request(job)  # all of them before the first is compiled
        with staged_directory(request.output, request.force, FOLDER) as staging:
            configurations, archs = [], ()
            for job in jobs:
                say(f"compile {job.output.name}")
                manifest = compile_bundle(job)
                archs = tuple(manifest.device["archs"])
                configurations.append(_add(staging, job, manifest))
                shutil.rmtree(job.output)
            plan = Plan(effgen.__version__, _revision(), request.target, archs, tuple(configurations))
            _add_programs(staging)
            (staging / PLAN).write_text(plan.to_json(), encoding="utf-8")
            (staging / "README.md").write_text(_readme(staging, plan), encoding="utf-8")
    return plan


def _jobs(request: FolderRequest, scratch: Path) -> list[CompileRequest]:
    """Batch by batch, so that where time runs out the first batch of every network is there."""
    jobs = []
    for batch, phi, dtype in product(request.batches, request.phis, request.dtypes):
        name = f"phi{phi}-batch{batch}-{dtype}"
        jobs.append(
            CompileRequest(
                network=NetworkRequest(spec=request.spec, phi=phi, batch=batch),
                output=scratch / name,
                target=request.target,
                seed=request.seed,
                dtype=dtype,
                cuda_archs=request.archs,
                debug_dump=request.dump and request.dump / name,
            )
        )
    return jobs


def _add(staging: Path, job: CompileRequest, manifest: Manifest) -> Configuration:
    """Move what running and judging the bundle needs to the folder."""
    name, phi, batch = job.output.name, job.network.phi, job.network.batch
    image, logits = golden_pair(job.output)
    configuration = Configuration(
        name=name,
        phi=phi,
        batch=batch,
        dtype=job.dtype,
        bundle=f"bundles/{name}",
        weights=f"weights/{manifest.files[WEIGHTS][:16]}.bin",
        network=f"networks/phi{phi}",
        golden=f"golden/phi{phi}-batch{batch}.npy",
        seed=job.seed,
        shape=image.shape,
        image_sha256=sha256_of_array(image),
    )
    assert sha256_of_array(noise(image.shape, job.seed)) == configuration.image_sha256, "the compiler draws otherwise"
    _add_bundle(staging, job.output, configuration, manifest)
    _add_network(staging / configuration.network, job.output / MODEL)
    _parent_made(staging / configuration.golden)
    np.save(staging / configuration.golden, logits)
    return configuration


def _add_bundle(staging: Path, compiled: Path, configuration: Configuration, manifest: Manifest) -> None:
    """The bundle without its model and golden pair, its weights among those of all bundles."""
    bundle = staging / configuration.bundle
    bundle.mkdir(parents=True)
    shutil.move(compiled / KERNELS, bundle / KERNELS)
    kept = {file: manifest.files[file] for file in (KERNELS, WEIGHTS)}
    (bundle / MANIFEST).write_text(replace(manifest, files=kept).to_json(), encoding="utf-8")
    weights = _parent_made(staging / configuration.weights)
    if not weights.exists():
        shutil.move(compiled / WEIGHTS, weights)


def _add_network(stem: Path, model: Path) -> None:
    """The folded graph as nodes and arrays; it is the same for every batch and dtype."""
    if stem.with_name(f"{stem.name}.json").exists():
        return
    _parent_made(stem)
    graph, arrays = graph_from_onnx(model)
    nodes = [
        {"op": node.op_type, "inputs": node.inputs, "output": node.output, "attributes": dict(node.attributes)}
        for node in graph.nodes
    ]
    network = {"input": graph.input.name, "output": graph.output, "nodes": nodes}
    stem.with_name(f"{stem.name}.json").write_text(json.dumps(network, indent=0) + "\n", encoding="utf-8")
    np.savez(stem.with_name(f"{stem.name}.npz"), **arrays)


def _add_programs(staging: Path) -> None:
    """run.py, its modules, and effgen's runtime as a package that says its version."""
    shutil.copy(HERE / "run.py", staging)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HERE / "gpu_compare", staging / "lib/gpu_compare", ignore=skip)
    package, source = staging / "lib/effgen", Path(effgen.__file__).parent
    package.mkdir()
    for name in RUNTIME:
        if (source / name).is_dir():
            shutil.copytree(source / name, package / name, ignore=skip)
        else:
            shutil.copy(source / name, _parent_made(package / name))
    told = _parent_made(staging / f"lib/effgen-{effgen.__version__}.dist-info/METADATA")
    told.write_text(f"Metadata-Version: 2.1\nName: effgen\nVersion: {effgen.__version__}\n", encoding="utf-8")


def _parent_made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _revision() -> str:
    """The commit that the folder is made of, with `-dirty` where the checkout has changes; "unknown" outside of one."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _readme(staging: Path, plan: Plan) -> str:
    """What lies in the folder, how to run it, and how large it is."""
    phis = dict.fromkeys(item.phi for item in plan.configurations)
    sizes = "\n".join(f"| {phi} | {_size_of(staging, plan, phi) / MIB:.1f} |" for phi in phis)
    batches = ", ".join(dict.fromkeys(str(item.batch) for item in plan.configurations))
    return f"""# effgen beside PyTorch on a GPU

Made from effgen {plan.effgen}, revision {plan.revision}, for {", ".join(plan.archs)} and newer. Nothing is
installed and no network is needed.

    python3 run.py            # everything: results.json and a table; run again, it goes on where it was stopped
    python3 run.py --quick    # a few minutes: phi 0 and 3 at batch 1

Needs Python 3.11 or newer, numpy, PyTorch with CUDA and the GPU's driver; `--no-peers` does without PyTorch.
torch.compile needs a C compiler for Triton. What cannot be run is left out, with its reason.

Batches: {batches}. Size by phi (networks, weights, kernels, golden logits):

| phi | MiB |
|---:|---:|
{sizes}
"""


def _size_of(staging: Path, plan: Plan, phi: str) -> int:
    """Bytes of all files that only this phi's configurations need."""
    stems = set()
    for item in plan.configurations:
        if item.phi == phi:
            stems |= {item.bundle, item.weights, f"{item.network}.json", f"{item.network}.npz", item.golden}
    files = (file for stem in stems for file in ((staging / stem), *(staging / stem).glob("*")) if file.is_file())
    return sum(file.stat().st_size for file in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", "--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    parser.add_argument("--phi", nargs="+", default=list(FolderRequest.phis), help="numbers, or names of rows")
    parser.add_argument("--batch", nargs="+", type=int, default=list(FolderRequest.batches))
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--spec", default="efficientnet", help="a shipped family, or a .toml file")
    parser.add_argument("--target", default=FolderRequest.target, help="a CUDA target of `effgen targets`")
    parser.add_argument(
        "--cuda-arch", default="", metavar="NAMES", help="architectures, e.g. sm_80,sm_90 (the target's)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and images")
    parser.add_argument("--force", action="store_true", help="replace a folder that stands there")
    parser.add_argument("--debug-dump", type=Path, metavar="DIR", help="write the text of every stage here")
    options = parser.parse_args()
    try:
        plan = make_folder(_request(options), lambda line: print(line, file=sys.stderr))
    except EffgenError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    size = sum(file.stat().st_size for file in options.output.rglob("*") if file.is_file())
    print(f"{options.output}: {len(plan.configurations)} configurations, {size / MIB:.1f} MiB; there: python3 run.py")


def _request(options: argparse.Namespace) -> FolderRequest:
    return FolderRequest(
        output=options.output,
        phis=list(dict.fromkeys(options.phi)),
        batches=list(dict.fromkeys(options.batch)),
        dtypes=list(dict.fromkeys(options.dtype)),
        spec=options.spec,
        target=options.target,
        archs=cuda_archs_from_text(options.cuda_arch) if options.cuda_arch else (),
        seed=options.seed,
        force=options.force,
        dump=options.debug_dump,
    )


if __name__ == "__main__":
    main()
