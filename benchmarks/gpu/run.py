"""effgen's bundles beside PyTorch on this machine's GPU: outputs, latency, throughput.

    python3 run.py [--quick] [--out results.json]

Writes the results after each configuration; run again, it goes on there. Times are the device's: a CUDA graph of
effgen's kernels, PyTorch eager, the same in a CUDA graph ("graphed"), torch.compile(mode="max-autotune")
("compiled"), all channels last; float32 bundles beside float32 and TF32, float16 beside float16.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "lib"))  # effgen's runtime and gpu_compare; in effgen's checkout both are found anyway

try:
    from gpu_compare import CompareError
    from gpu_compare.backends import (
        PEERS,
        PRECISIONS,
        Backend,
        LeftOut,
        TorchJob,
        effgen_backend,
        relative_l2,
        torch_peer,
    )
    from gpu_compare.device import check_gpu, check_torch, clocks, describe, software
    from gpu_compare.folder import Configuration, Plan, golden_logits, load_model, noise, read_network, read_plan
    from gpu_compare.measure import Timing, comparisons, measure, timed
    from gpu_compare.results import begin_results, is_done, table_lines, write_results

    from effgen.errors import EffgenError
except ModuleNotFoundError as missing:
    print(f"error: {sys.executable}: no module {missing.name}; expected numpy, and lib/ beside run.py", file=sys.stderr)
    raise SystemExit(1) from None

#: Phi and batch of the few configurations of --quick.
QUICK = (("0", 1), ("3", 1))


def wanted(plan: Plan, options: argparse.Namespace) -> list[Configuration]:
    """The plan's configurations that the options leave. Raises CompareError where none is left."""
    left = [item for item in plan.configurations if not options.quick or (item.phi, item.batch) in QUICK]
    if options.only:
        left = [item for item in left if any(part in item.name for part in options.only)]
    if not left:
        names = ", ".join(item.name for item in plan.configurations)
        raise CompareError(f"--quick or --only leaves nothing to measure; the folder holds {names}")
    return left


def compare(folder: Path, configuration: Configuration, torch: Any, options: argparse.Namespace) -> dict[str, Any]:
    """One configuration's entry of the results. `torch` None: effgen alone."""
    image = noise(configuration.shape, configuration.seed)
    model = load_model(folder, configuration)
    logits, golden = model(image), golden_logits(folder, configuration, image)
    outcomes: list[Backend | LeftOut] = [effgen_backend(model, image)]
    expected = None
    if torch is not None:
        from gpu_compare.torch_network import module_from

        job = TorchJob(torch, module_from(*read_network(folder, configuration)), image)
        expected = job.reference()
        for precision in PRECISIONS[configuration.dtype]:
            for name in PEERS:
                print(f"  prepare {name} {precision}", file=sys.stderr, flush=True)
                outcomes.append(torch_peer(job, name, precision, expected, options.compile_limit))
    backends = [outcome for outcome in outcomes if isinstance(outcome, Backend)]
    before = clocks()
    print(f"  measure {len(backends)} backends", file=sys.stderr, flush=True)
    samples = measure(backends, Timing(options.rounds, options.seconds))
    entries = [timed(backend, sample, configuration.batch) for backend, sample in zip(backends, samples, strict=True)]
    distances = [None if other is None else relative_l2(logits, other) for other in (expected, golden)]
    tolerance = model.manifest.tolerance["rel_l2"]
    return {
        "model": model.manifest.name,
        "phi": configuration.phi,
        "batch": configuration.batch,
        "dtype": configuration.dtype,
        "resolution": configuration.shape[-1],
        "accuracy": {
            "tolerance": tolerance,
            "torch_rel_l2": distances[0],
            "golden_rel_l2": distances[1],
            "met": all(distance <= tolerance for distance in distances if distance is not None),
        },
        "backends": entries,
        "left_out": [
            {"backend": outcome.name, "precision": outcome.precision, "reason": outcome.reason}
            for outcome in outcomes
            if isinstance(outcome, LeftOut)
        ],
        "comparisons": comparisons(entries, configuration.dtype, configuration.batch),
        "clocks": {"before": before, "after": clocks()},
    }


def forget(torch: Any) -> None:
    """Give back what a configuration took on the device."""
    gc.collect()
    if torch is not None:
        torch._dynamo.reset()
        torch.cuda.empty_cache()


def run(options: argparse.Namespace) -> bool:
    """Measure what is not measured yet; whether every output was within its tolerance. Raises an EffgenError."""
    plan = read_plan(options.folder)
    todo = wanted(plan, options)
    gpu = check_gpu(plan.archs)
    torch = None if options.no_peers else check_torch()
    origin = {"effgen": plan.effgen, "revision": plan.revision, "archs": list(plan.archs)}
    results = begin_results(options.out, {**origin, "device": describe(gpu), "software": software(torch)})
    for number, configuration in enumerate(todo, 1):
        if is_done(results, configuration.name):
            continue
        print(f"{number} of {len(todo)}: {configuration.name}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        try:
            entry = compare(options.folder, configuration, torch, options)
        except (EffgenError, RuntimeError, MemoryError) as error:  # the next one may be well
            entry = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]}
        entry["seconds"] = round(time.perf_counter() - start, 1)
        results["configurations"][configuration.name] = entry
        write_results(results, options.out)
        forget(torch)
    print("\n".join(table_lines(results)))
    print(f"{gpu['name']} ({gpu['arch']}); effgen {plan.effgen} {plan.revision[:12]}; {options.out}")
    return all(item.get("accuracy", {}).get("met", False) for item in results["configurations"].values())


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results.json"), help="results, and where to go on")
    parser.add_argument("--quick", action="store_true", help="only phi 0 and 3 at batch 1")
    parser.add_argument("--only", nargs="+", help="configurations whose names contain one of these")
    parser.add_argument("--no-peers", action="store_true", help="effgen alone: needs neither torch nor minutes")
    parser.add_argument("--compile-limit", type=float, default=240.0, help="seconds until a peer must be ready")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0, help="timed seconds of each backend and clock")
    parser.add_argument("--folder", type=Path, default=HERE, help="what make_folder.py wrote (where run.py lies)")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.seconds <= 0 or options.compile_limit <= 0:
        parser.error("--rounds, --seconds and --compile-limit: expected numbers above 0")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0; 1 an error, in one line; 3 where an output missed its tolerance."""
    try:
        return 0 if run(parsed(arguments)) else 3
    except EffgenError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
