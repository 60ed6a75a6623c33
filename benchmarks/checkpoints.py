"""How many of timm's and torchvision's state dicts load and agree: attempts as a user would make them.

    python benchmarks/checkpoints.py [--json FILE] [--only TEXT]

Each attempt saves the weights (random but healthy: tests/zoo.py) of a real model, loads them into the network that its
options ask for, and compares PyTorch running effgen's graph with the model itself on a fresh image. It *agrees* within
a relative L2 of 1e-5. What is refused is *right* where no spec has that network, and names the way out. What loads and
disagrees is wrong; so is what loads without a warning where the options are wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from effgen.errors import EffgenError
from effgen.graph.reference import run_reference
from effgen.network import NetworkRequest, build_network
from effgen.network.checkpoints import AS_MEANT, load_checkpoint
from effgen.network.scaling import Overrides
from effgen.network.spec import NetworkSpec, load_spec
from effgen.network.weight_sets import WeightsChoice

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from zoo import external_model, output_of

#: Relative L2 within which two float32 programs of one network agree.
TOLERANCE = 1e-5

#: Uneven in some strided layers where padding is TensorFlow's.
PIXELS = 70

#: What a checkpoint cannot say, of timm's ports of TensorFlow's weights.
TENSORFLOW = {"padding": "same", "norm_eps": 1e-3}
PYTORCH = {"padding": "symmetric", "norm_eps": 1e-5}

#: timm's deeper MobileNetV2s keep their ends.
DEEP = {"stem_channels": 32, "head_channels": 1280}


@dataclass(frozen=True)
class Attempt:
    """A model, the spec and options that it is loaded with, and what should come of it."""

    package: str
    model: str
    spec: str
    phi: str = "0"
    options: dict[str, Any] = field(default_factory=dict)
    #: "agrees", "refused" (no spec has that network), or "warned" (it loads, with options that are wrong).
    expected: str = "agrees"
    #: What a training script puts around the state dict, and the file's name.
    wrapped: Callable[[dict[str, torch.Tensor]], Any] | None = None
    file: str = ""
    choice: WeightsChoice = AS_MEANT
    #: What makes the user's own spec of the one that ships.
    edited: Callable[[NetworkSpec], NetworkSpec] = lambda spec: spec

    @property
    def name(self) -> str:
        """Printed: package and model, and the file where it is no plain state dict."""
        return f"{self.package}:{self.model}{' ' + self.file if self.file else ''}"


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt: `result` is agrees, refused, warned or differs."""

    attempt: str
    expected: str
    result: str
    rel_l2: float | None
    said: str
    seconds: float

    @property
    def right(self) -> bool:
        """Whether that was expected; a refusal has to name a way out."""
        return self.result == self.expected and (self.result != "refused" or any(w in self.said for w in WAYS_OUT))


#: What a message says to do.
WAYS_OUT = ("give --", "it fits --", "--rename", "--onnx", "--weights-key", "save ")


def timm(model: str, spec: str, phi: str = "0", expected: str = "agrees", file: str = "", **options: Any) -> Attempt:
    """An attempt with timm's state dict."""
    return Attempt("timm", model, spec, phi, options, expected, file=file)


def torchvision(model: str, spec: str, phi: str = "0", expected: str = "agrees", **options: Any) -> Attempt:
    """An attempt with torchvision's state dict."""
    return Attempt("torchvision", model, spec, phi, options, expected)


def ends_keep_depth(spec: NetworkSpec) -> NetworkSpec:
    """timm's MobileNetV2s with a `d` behind their width."""
    first, *middle, last = spec.stages
    kept = [stage.model_copy(update={"scale_depth": False}) for stage in (first, last)]
    return spec.model_copy(update={"stages": [kept[0], *middle, kept[1]]})


def mnasnet_small(spec: NetworkSpec) -> NetworkSpec:
    """timm's of MnasNet-A1's parts: its fourth and fifth stage have one shape."""
    rows = [(3, 1, 1, 8, 1), (3, 2, 3, 16, 1), (3, 2, 6, 16, 2), (5, 2, 6, 32, 4), (3, 1, 6, 32, 3), (5, 2, 6, 88, 3)]
    first, _, with_excite, plain, *_ = spec.stages
    first = first.model_copy(update={"skip": True})
    kinds = [first, plain, plain, with_excite, with_excite, with_excite, plain]
    keys = ("kernel", "stride", "expand_ratio", "channels", "repeats")
    stages = [
        kind.model_copy(update=dict(zip(keys, row, strict=True)))
        for kind, row in zip(kinds, [*rows, (3, 1, 6, 144, 1)], strict=True)
    ]
    return spec.model_copy(update={"stem": spec.stem.model_copy(update={"channels": 8}), "stages": stages})


def attempts() -> list[Attempt]:
    """All of them; a family is added by a line."""
    return [
        # EfficientNet, both of timm's namings and torchvision's
        *(timm(f"efficientnet_b{n}", "efficientnet", str(n)) for n in range(8)),
        *(timm(f"tf_efficientnet_b{n}", "efficientnet", str(n), **TENSORFLOW) for n in range(8)),
        timm("tf_efficientnet_b8", "efficientnet", "b8", **TENSORFLOW),
        *(torchvision(f"efficientnet_b{n}", "efficientnet", str(n)) for n in range(5)),
        *(torchvision(f"efficientnet_b{n}", "efficientnet", str(n), norm_eps=1e-3) for n in (5, 6, 7)),
        # Lite
        *(timm(f"tf_efficientnet_lite{n}", "efficientnet_lite", str(n)) for n in range(5)),
        *(timm(f"efficientnet_lite{n}", "efficientnet_lite", str(n), **PYTORCH) for n in range(5)),
        # V2
        *(timm(f"tf_efficientnetv2_b{n}", "efficientnet_v2_b", str(n)) for n in range(4)),
        timm("tf_efficientnetv2_s", "efficientnet_v2_s"),
        timm("efficientnetv2_s", "efficientnet_v2_s", **PYTORCH),
        torchvision("efficientnet_v2_s", "efficientnet_v2_s", padding="symmetric"),
        # MobileNets
        timm("mobilenetv1_100", "mobilenet_v1"),
        timm("mobilenetv1_125", "mobilenet_v1", width=1.25),
        timm("mobilenetv2_035", "mobilenet_v2", width=0.35, head_channels=1280),
        timm("mobilenetv2_050", "mobilenet_v2", width=0.5, head_channels=1280),
        timm("mobilenetv2_075", "mobilenet_v2", width=0.75, head_channels=1280),
        timm("mobilenetv2_100", "mobilenet_v2"),
        replace(timm("mobilenetv2_110d", "mobilenet_v2", **DEEP, width=1.1, depth=1.2), edited=ends_keep_depth),
        replace(timm("mobilenetv2_120d", "mobilenet_v2", **DEEP, width=1.2, depth=1.4), edited=ends_keep_depth),
        timm("mobilenetv2_140", "mobilenet_v2", width=1.4),
        torchvision("mobilenet_v2", "mobilenet_v2"),
        timm("mobilenetv3_large_075", "mobilenet_v3_large", width=0.75, head_channels=1280),
        timm("mobilenetv3_large_100", "mobilenet_v3_large"),
        timm("tf_mobilenetv3_large_075", "mobilenet_v3_large", width=0.75, head_channels=1280, **TENSORFLOW),
        timm("tf_mobilenetv3_large_100", "mobilenet_v3_large", **TENSORFLOW),
        torchvision("mobilenet_v3_large", "mobilenet_v3_large", norm_eps=1e-3),
        # MnasNets
        timm("mnasnet_050", "mnasnet_b1", width=0.5, head_channels=1280),
        timm("mnasnet_075", "mnasnet_b1", width=0.75, head_channels=1280),
        timm("mnasnet_100", "mnasnet_b1"),
        timm("mnasnet_140", "mnasnet_b1", width=1.4, head_channels=1280),
        timm("semnasnet_050", "mnasnet_a1", width=0.5, head_channels=1280),
        timm("semnasnet_075", "mnasnet_a1", width=0.75, head_channels=1280),
        timm("semnasnet_100", "mnasnet_a1"),
        timm("semnasnet_140", "mnasnet_a1", width=1.4, head_channels=1280),
        replace(timm("mnasnet_small", "mnasnet_a1"), edited=mnasnet_small),
        torchvision("mnasnet0_5", "mnasnet_b1", width=0.5, head_channels=1280),
        torchvision("mnasnet0_75", "mnasnet_b1", width=0.75, head_channels=1280),
        torchvision("mnasnet1_0", "mnasnet_b1"),
        torchvision("mnasnet1_3", "mnasnet_b1", width=1.3, head_channels=1280),
        # MobileNetV3-Small, whose narrow ones have neighbouring stages of one shape; minimal ones; V4
        timm("mobilenetv3_small_050", "mobilenet_v3_small", width=0.5, stem_channels=16, head_channels=1024),
        timm("mobilenetv3_small_075", "mobilenet_v3_small", width=0.75, head_channels=1024),
        timm("mobilenetv3_small_100", "mobilenet_v3_small"),
        timm("tf_mobilenetv3_small_075", "mobilenet_v3_small", width=0.75, head_channels=1024, **TENSORFLOW),
        timm("tf_mobilenetv3_small_100", "mobilenet_v3_small", **TENSORFLOW),
        torchvision("mobilenet_v3_small", "mobilenet_v3_small", norm_eps=1e-3),
        timm("tf_mobilenetv3_small_minimal_100", "mobilenet_v3_small_minimal"),
        timm("tf_mobilenetv3_large_minimal_100", "mobilenet_v3_large_minimal"),
        timm("mobilenetv4_conv_small", "mobilenet_v4_conv_small"),
        timm("mobilenetv4_conv_medium", "mobilenet_v4_conv_medium"),
        # LCNet, TinyNet, EdgeTPU, FBNet, GhostNet
        timm("lcnet_050", "lcnet", width=0.5),
        timm("lcnet_075", "lcnet", width=0.75),
        timm("lcnet_100", "lcnet"),
        timm("lcnet_150", "lcnet", width=1.5),
        *(timm(f"tinynet_{row}", "tinynet", row) for row in "abcde"),
        *(timm(f"efficientnet_{row}", "efficientnet_edgetpu", row) for row in ("es", "em", "el")),
        *(timm(f"tf_efficientnet_{row}", "efficientnet_edgetpu", row, **TENSORFLOW) for row in ("es", "em", "el")),
        timm("fbnetc_100", "fbnet_c"),
        timm("ghostnet_100", "ghostnet"),
        # ResNets and RegNets
        *(timm(f"resnet{depth}", f"resnet{depth}") for depth in (18, 34, 50)),
        *(torchvision(f"resnet{depth}", f"resnet{depth}") for depth in (18, 34, 50)),
        *(timm(f"regnet{kind}_{size}", f"regnet_{kind}_{size}") for kind in "xy" for size in ("002", "004")),
        torchvision("regnet_y_400mf", "regnet_y_004"),
        # What no spec has, under the nearest one
        timm("efficientnet_blur_b0", "efficientnet", expected="refused"),
        timm("efficientnet_b0_gn", "efficientnet", expected="refused"),
        timm("efficientnet_cc_b0_4e", "efficientnet", expected="refused"),
        timm("mobilenetv1_100h", "mobilenet_v1", expected="refused"),
        timm("seresnet50", "resnet50", expected="refused"),
        timm("resnet50d", "resnet50", expected="refused"),
        timm("resnetblur50", "resnet50", expected="refused"),
        timm("resnetaa50", "resnet50", expected="refused"),
        timm("wide_resnet50_2", "resnet50", expected="refused"),
        # What another request has: the message says which
        timm("efficientnet_b1", "efficientnet", "0", expected="refused"),
        timm("mobilenetv2_050", "mobilenet_v2", expected="refused", width=0.5),
        timm("mnasnet_100", "mnasnet_a1", expected="refused"),
        # Wrong options under a name that tells
        timm("tf_efficientnet_b0", "efficientnet", expected="warned"),
        timm("efficientnet_b0", "efficientnet", expected="warned", **TENSORFLOW),
        timm("efficientnet_lite0", "efficientnet_lite", expected="warned"),
        timm("tf_mobilenetv3_large_100", "mobilenet_v3_large", expected="warned"),
        torchvision("efficientnet_v2_s", "efficientnet_v2_s", expected="warned"),
        torchvision("mobilenet_v3_large", "mobilenet_v3_large", expected="warned"),
        *_training_scripts(),
    ]


def _training_scripts() -> Iterable[Attempt]:
    """Files as training scripts leave them, around two models' state dicts."""

    def prefixed(prefix: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
        return lambda state: {prefix + name: tensor for name, tensor in state.items()}

    def other(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor + 1 for name, tensor in state.items()}

    def averaged(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"n_averaged": torch.tensor(7), **prefixed("module.")(state)}

    options = argparse.Namespace(lr=0.1, model="efficientnet_b0")
    lightning = {"callbacks": {}, "loops": {}, "hyper_parameters": {"lr": 0.1}, "pytorch-lightning_version": "2.6"}
    rows: list[tuple[str, Callable[[dict[str, torch.Tensor]], Any]]] = [
        ("model_best.pth.tar", lambda s: {"epoch": 1, "arch": "efficientnet_b0", "state_dict": s, "args": options}),
        ("checkpoint-3.pth.tar", lambda s: {"state_dict": other(s), "state_dict_ema": s, "optimizer": {}}),
        ("model_12.pth", lambda s: {"model": other(s), "model_ema": averaged(s)}),
        ("averaged.pth", averaged),
        ("compiled.pth", lambda s: prefixed("_orig_mod.module.")(s)),
        ("last.ckpt", lambda s: {"state_dict": {**prefixed("model.")(s), "loss.weight": torch.ones(3)}, **lightning}),
        ("net.pt", lambda s: {"net": prefixed("backbone.")(s), "acc": 0.9}),
        ("profiled.pth", lambda s: {**s, "total_ops": torch.zeros(1), "bn1.total_params": torch.zeros(1).double()}),
    ]  # fmt: skip
    for file, wrapped in rows:
        yield Attempt("timm", "efficientnet_b0", "efficientnet", wrapped=wrapped, file=file)
    renames = WeightsChoice(renames=((r"^my\.(.*)_$", r"\1"), ("^aux.*", "")))
    yield Attempt(
        "timm",
        "mobilenetv2_100",
        "mobilenet_v2",
        wrapped=lambda s: {**{f"my.{name}_": tensor for name, tensor in s.items()}, "aux.weight": torch.ones(2)},
        file="odd_names.pth",
        choice=renames,
    )


def outcome_of(attempt: Attempt, folder: Path) -> Outcome:
    """Save, load, compare."""
    start = time.perf_counter()
    model = external_model(attempt.package, attempt.model)
    file = folder / (attempt.file or f"{attempt.model}.pth")
    state = dict(model.state_dict())
    torch.save(attempt.wrapped(state) if attempt.wrapped else state, file)
    request = NetworkRequest(attempt.spec, attempt.phi, overrides=Overrides(resolution=PIXELS, **attempt.options))
    graph = build_network(request, attempt.edited(load_spec(attempt.spec))).graph
    try:
        loaded = load_checkpoint(file, graph, attempt.choice)
    except EffgenError as error:
        said = str(error).removeprefix(f"{file}: ")
        return Outcome(attempt.name, attempt.expected, "refused", None, said, time.perf_counter() - start)
    finally:
        file.unlink()
    image = np.random.default_rng().standard_normal(graph.input.shape, dtype=np.float32)
    found, expected = run_reference(graph, loaded.weights, image), output_of(model, image)
    rel_l2 = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    agrees = rel_l2 <= TOLERANCE
    result = "agrees" if agrees else "warned" if loaded.warnings else "differs"
    said = "; ".join(loaded.warnings)
    return Outcome(attempt.name, attempt.expected, result, rel_l2, said, time.perf_counter() - start)


def main() -> int:
    """Print a line for each attempt, and how many came out as they should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the outcomes")
    parser.add_argument("--only", default="", help="attempts whose name holds this")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for attempt in attempts():
            if asked.only in attempt.name:
                outcome = outcome_of(attempt, Path(folder))
                outcomes.append(outcome)
                number = "" if outcome.rel_l2 is None else f"{outcome.rel_l2:.1e}"
                mark = "ok   " if outcome.right else "WRONG"
                print(f"{mark} {outcome.attempt:46} {outcome.result:8} {number:8} {outcome.said[-150:]}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n", encoding="utf-8")
    counts = Counter(outcome.result for outcome in outcomes)
    right = sum(outcome.right for outcome in outcomes)
    print(f"{right} of {len(outcomes)} as expected: {', '.join(f'{n} {what}' for what, n in sorted(counts.items()))}")
    return 0 if right == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
