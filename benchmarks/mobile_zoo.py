"""Networks of timm and torchvision that people deploy: exported, read, compiled, held to onnxruntime, and timed.

    python benchmarks/mobile_zoo.py FOLDER export [--exporter dynamo]  write FOLDER/NAME.EXPORTER.onnx
    python benchmarks/mobile_zoo.py FOLDER read                      how far the graph is from onnxruntime
    python benchmarks/mobile_zoo.py FOLDER compile  the same of the compiled library; seconds it took
    python benchmarks/mobile_zoo.py FOLDER bench [--threads 2]  ms beside onnxruntime's and OpenVINO's, by turns

`--only A,B` takes some. Weights are random but healthy (tests/zoo.py). timm and torchvision judge from outside.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from effgen.judge.onnx_runtime import onnxruntime_module

#: Relative L2 up to which an answer agrees.
TOLERANCE = 1e-4

TORCHVISION = (
    "mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet0_5 mnasnet1_0 shufflenet_v2_x0_5 "
    "shufflenet_v2_x1_0 squeezenet1_0 squeezenet1_1 resnet18 resnet34 resnet50 resnext50_32x4d "
    "regnet_x_400mf regnet_x_800mf regnet_y_400mf regnet_y_800mf efficientnet_b0 efficientnet_b1 "
    "efficientnet_v2_s densenet121 googlenet inception_v3 convnext_tiny"
)

TIMM = (
    "mobilenetv1_100 mobilenetv2_050 mobilenetv2_140 mobilenetv3_small_050 mobilenetv3_small_100 "
    "mobilenetv3_large_100 tf_mobilenetv3_small_minimal_100 tf_mobilenetv3_large_minimal_100 "
    "mobilenetv4_conv_small mobilenetv4_conv_medium mobilenetv4_hybrid_medium efficientnet_lite0 "
    "tf_efficientnet_lite1 tf_efficientnet_b0 tf_efficientnetv2_b0 efficientnet_es efficientnet_em "
    "mixnet_s mixnet_m tf_mixnet_s mnasnet_small mnasnet_100 semnasnet_075 semnasnet_100 fbnetc_100 "
    "fbnetv3_b spnasnet_100 tinynet_a tinynet_e lcnet_050 lcnet_100 hardcorenas_a ghostnet_100 "
    "ghostnetv2_100 regnetx_002 regnetx_004 regnety_002 regnety_004 regnetz_c16 rexnet_100 resnet26d "
    "resnet50d resnetblur18 seresnext26d_32x4d ecaresnet26t resnest14d skresnet18 gcresnext26ts "
    "res2net50_26w_4s cspresnet50 cspdarknet53 darknet53 dla34 dla46_c hrnet_w18_small selecsls42b "
    "ese_vovnet19b_dw repvgg_a0 repghostnet_100 mobileone_s0 fastvit_t8 edgenext_xx_small convnext_atto "
    "convnextv2_atto mobilevit_xxs mobilevitv2_050 poolformer_s12 starnet_s1 xception41 nf_regnet_b0"
)


@dataclass(frozen=True)
class Model:
    """A network of a package, by its name there."""

    package: str
    name: str

    def file(self, folder: Path, exporter: str) -> Path:
        return folder / f"{self.package}.{self.name}.{exporter}.onnx"


MODELS = (
    *(Model("torchvision", name) for name in TORCHVISION.split()),
    *(Model("timm", name) for name in TIMM.split()),
)


def export(model: Model, path: Path, exporter: str) -> None:
    """Write the network with random weights as one of PyTorch's exporters does."""
    import torch

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from zoo import external_model

    network = external_model(model.package, model.name).eval()
    size = 299 if model.name.startswith("inception_v3") else 224
    config = getattr(network, "pretrained_cfg", None) or {}
    size = config.get("input_size", (3, size, size))[1]
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (image,), str(path), dynamo=exporter == "dynamo", opset_version=18 if exporter == "dynamo" else 17,
            external_data=False, verbose=False,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=("export", "read", "compile", "bench"))
    parser.add_argument("--exporter", choices=("script", "dynamo"), default="script")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    wanted = [model for model in MODELS if not options.only or model.name in options.only.split(",")]
    steps: dict[str, Callable[[list[Model], argparse.Namespace], None]] = {
        "export": _export_all,
        "read": _read_all,
        "compile": _compile_all,
        "bench": _bench_all,
    }
    steps[options.what](wanted, options)


def _export_all(models: list[Model], options: argparse.Namespace) -> None:
    for model in models:
        path = model.file(options.folder, options.exporter)
        if path.exists():
            continue
        try:
            export(model, path, options.exporter)
        except Exception as error:  # what an exporter of another project cannot do is no failure of ours
            path.unlink(missing_ok=True)
            print(f"{model.name}: not exported: {' '.join(str(error).split())[:200]}", flush=True)
        else:
            print(f"{model.name} exported", flush=True)


def _files(models: list[Model], options: argparse.Namespace) -> Iterator[tuple[Model, Path]]:
    for model in models:
        path = model.file(options.folder, options.exporter)
        if path.exists():
            yield model, path
        else:
            print(f"{model.name}: no file; export it first", flush=True)


def _answer(path: Path, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    onnxruntime = onnxruntime_module()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    data = np.random.default_rng(seed).standard_normal(image.shape).astype(np.float32)
    return data, session.run(None, {image.name: data})[0]


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found.ravel() - expected.ravel()) / np.linalg.norm(expected))


def _report(name: str, difference: float, more: str = "") -> bool:
    agrees = difference <= TOLERANCE
    print(f"{'ok  ' if agrees else 'FAR '} {name}: relative L2 {difference:.1e}{more}", flush=True)
    return agrees


def _read_all(models: list[Model], options: argparse.Namespace) -> None:
    from effgen.errors import EffgenError
    from effgen.graph.onnx import graph_from_onnx
    from effgen.graph.reference import run_reference

    right = 0
    for model, path in _files(models, options):
        try:
            graph, weights = graph_from_onnx(path)
        except EffgenError as error:
            print(f"NO   {model.name}: {str(error).removeprefix(str(path))[2:300]}", flush=True)
            continue
        image, expected = _answer(path)
        right += _report(model.name, _relative(run_reference(graph, weights, image), expected))
    print(f"{right} of {len(models)} read and agree")


def _compile_all(models: list[Model], options: argparse.Namespace) -> None:
    import effgen

    right = 0
    for model, path in _files(models, options):
        bundle = path.with_suffix("")
        command = [sys.executable, "-m", "effgen", "compile", "--onnx", str(path), "-o", str(bundle), "--force", "-q"]
        start = time.perf_counter()
        done = subprocess.run([*command, "--threads", str(options.threads)], capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [""])[-1]
            print(f"NO   {model.name}: exit {done.returncode}: {last[:300]}", flush=True)
            continue
        image, expected = _answer(path, seed=1)
        right += _report(model.name, _relative(effgen.load(bundle)(image), expected), f", {seconds:.0f} s")
    print(f"{right} of {len(models)} compiled and agree")


def _bench_all(models: list[Model], options: argparse.Namespace) -> None:
    """By `effgen bench`, which runs all by turns in processes of their own."""
    ratios = []
    for model, path in _files(models, options):
        done = _bench(path.with_suffix(""), options.threads)
        if done.returncode:
            print(f"NO   {model.name}: {(done.stderr.strip().splitlines() or [''])[-1][:200]}", flush=True)
            continue
        report = json.loads(done.stdout)
        medians, tenths = ({run["backend"]: run[key] for run in report["results"]} for key in ("median_ms", "p10_ms"))
        ours = medians.pop("effgen")
        best = min(medians, key=lambda name: medians[name])
        ratios.append(medians[best] / ours)
        low = min(value for name, value in tenths.items() if name != "effgen") / tenths["effgen"]
        print(
            f"{ratios[-1]:5.2f}x ({low:.2f}x of the fastest tenths) {model.name}: {ours:.2f} ms, {best} "
            f"{medians[best]:.2f}; other work took {report['other_cpus']:.1f} CPUs",
            flush=True,
        )
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"geometric mean {mean:.2f}x over {len(ratios)}, least {min(ratios):.2f}x")


def _bench(bundle: Path, threads: int) -> subprocess.CompletedProcess[str]:
    """Beside the two peers only; PyTorch is no rival at a batch of one."""
    return subprocess.run(
        [sys.executable, "-m", "effgen", "bench", str(bundle), "--threads", str(threads), "--json", "-", "-q",
         "--peers", "onnxruntime,openvino", "--skip", "pytorch,pytorch-channels-last,torch.compile"],
        capture_output=True, text=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
