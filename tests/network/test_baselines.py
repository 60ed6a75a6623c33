"""The families that ship beside EfficientNet: their numbers are those of the released models."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import noise, relative_error
from zoo import external_model, output_of

import effgen
from effgen.compiler.blocks import kernel_calls
from effgen.compiler.calls import KernelCall, OpCall
from effgen.driver import CompileRequest, compile_bundle
from effgen.graph import Graph, Weights
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.judge.verify import verify_bundle
from effgen.machines.target import load_target
from effgen.network import NetworkRequest, build_network
from effgen.network.inspection import inspect_network
from effgen.network.scaling import Overrides
from effgen.network.spec import load_spec, shipped_spec_names
from effgen.schedules import space_of

#: spec, phi, pixels, timm's model, parameters, multiply-adds
RELEASED = [
    ("mobilenet_v1", "0", 224, "mobilenetv1_100", 4_231_976, 568_740_352),
    ("mobilenet_v2", "0", 224, "mobilenetv2_100", 3_504_872, 300_774_272),
    ("mobilenet_v3_large", "0", 224, "mobilenetv3_large_100", 5_483_032, 216_589_760),
    ("mnasnet_b1", "0", 224, "mnasnet_100", 4_383_312, 314_415_872),
    ("mnasnet_a1", "0", 224, "semnasnet_100", 3_887_038, 311_579_072),
    ("resnet50", "0", 224, "resnet50", 25_557_032, 4_089_184_256),
    ("efficientnet_lite", "0", 224, "tf_efficientnet_lite0", 4_652_008, 385_187_552),
    ("efficientnet_lite", "1", 240, "tf_efficientnet_lite1", 5_416_680, 600_185_232),
    ("efficientnet_lite", "2", 260, "tf_efficientnet_lite2", 6_092_072, 859_736_272),
    ("efficientnet_lite", "3", 280, "tf_efficientnet_lite3", 8_197_096, 1_383_321_872),
    ("efficientnet_lite", "4", 300, "tf_efficientnet_lite4", 13_006_568, 2_553_034_336),
    ("efficientnet_v2_s", "0", 300, "tf_efficientnetv2_s", 21_458_488, 5_307_561_248),
    ("efficientnet_v2_b", "0", 192, "tf_efficientnetv2_b0", 7_139_704, 528_186_752),
    ("efficientnet_v2_b", "1", 192, "tf_efficientnetv2_b1", 8_141_052, 747_003_008),
    ("efficientnet_v2_b", "2", 208, "tf_efficientnetv2_b2", 10_096_086, 1_043_476_528),
    ("efficientnet_v2_b", "3", 240, "tf_efficientnetv2_b3", 14_358_406, 1_908_036_640),
    ("mobilenet_v3_small", "0", 224, "mobilenetv3_small_100", 2_542_856, 56_510_400),
    ("mobilenet_v3_small_minimal", "0", 224, "tf_mobilenetv3_small_minimal_100", 2_044_736, 52_288_448),
    ("mobilenet_v3_large_minimal", "0", 224, "tf_mobilenetv3_large_minimal_100", 3_924_288, 209_136_704),
    ("mobilenet_v4_conv_small", "0", 224, "mobilenetv4_conv_small", 3_774_024, 186_005_568),
    ("mobilenet_v4_conv_medium", "0", 256, "mobilenetv4_conv_medium", 9_715_512, 1_080_244_224),
    ("efficientnet_edgetpu", "0", 224, "efficientnet_es", 5_438_392, 1_788_731_008),
    ("efficientnet_edgetpu", "em", 240, "efficientnet_em", 6_899_496, 3_013_321_088),
    ("efficientnet_edgetpu", "3", 300, "efficientnet_el", 10_589_712, 7_936_082_848),
    ("tinynet", "a", 192, "tinynet_a", 6_187_972, 336_867_712),
    ("tinynet", "b", 188, "tinynet_b", 3_730_562, 200_709_360),
    ("tinynet", "c", 184, "tinynet_c", 2_457_234, 99_536_432),
    ("tinynet", "d", 152, "tinynet_d", 2_338_446, 51_580_656),
    ("tinynet", "e", 106, "tinynet_e", 2_042_972, 24_356_848),
    ("lcnet", "0", 224, "lcnet_100", 2_953_800, 155_700_480),
    ("fbnet_c", "0", 224, "fbnetc_100", 5_572_200, 384_960_160),
    ("ghostnet", "0", 224, "ghostnet_100", 5_182_508, 141_150_512),
    ("mixnet_s", "0", 224, "mixnet_s", 4_134_606, 239_173_360),
    ("resnet18", "0", 224, "resnet18", 11_689_512, 1_814_073_344),
    ("resnet34", "0", 224, "resnet34", 21_797_672, 3_663_761_408),
    ("regnet_x_002", "0", 224, "regnetx_002", 2_684_792, 199_039_872),
    ("regnet_x_004", "0", 224, "regnetx_004", 5_157_512, 397_677_568),
    ("regnet_y_002", "0", 224, "regnety_002", 3_162_996, 199_514_080),
    ("regnet_y_004", "0", 224, "regnety_004", 4_344_144, 401_842_848),
]
NAMES = [row[3] for row in RELEASED]


def graph_of(spec: str, phi: str = "0", **overrides: float) -> Graph:
    return build_network(NetworkRequest(spec, phi, overrides=Overrides(**overrides))).graph  # type: ignore[arg-type]


def test_all_families_are_here() -> None:
    assert {row[0] for row in RELEASED} | {"efficientnet"} == set(shipped_spec_names())


@pytest.mark.parametrize(("spec", "phi", "pixels", "name", "parameters", "macs"), RELEASED, ids=NAMES)
def test_released_numbers(spec: str, phi: str, pixels: int, name: str, parameters: int, macs: int) -> None:
    graph = graph_of(spec, phi)
    assert graph.input.shape == (1, 3, pixels, pixels)
    assert (graph.parameter_count, graph.macs) == (parameters, macs)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "phi", "pixels", "name", "parameters", "macs"), RELEASED, ids=NAMES)
def test_timms_models_have_these_numbers(
    spec: str, phi: str, pixels: int, name: str, parameters: int, macs: int
) -> None:
    model = external_model("timm", name)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert multiply_adds(model, pixels) == macs


def multiply_adds(model: torch.nn.Module, pixels: int) -> int:
    """Of the convolutions and linear layers that run for one image."""
    found: list[int] = []

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        found.append(output.numel() * math.prod(module.weight.shape[1:]))

    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    with torch.inference_mode():
        model(torch.zeros(1, 3, pixels, pixels))
    return sum(found)


@pytest.mark.parametrize(
    ("spec", "overrides", "billions"),
    [
        ("mobilenet_v1", {"width": 2.0}, 2.2),
        ("mobilenet_v1", {"resolution": 448}, 2.2),
        ("mobilenet_v1", {"depth": 1.4, "width": 1.2, "resolution": 291}, 2.3),
        ("mobilenet_v2", {"depth": 4.0}, 1.2),
        ("mobilenet_v2", {"width": 2.0}, 1.1),
        ("mobilenet_v2", {"resolution": 448}, 1.2),
        ("resnet50", {"resolution": 448}, 16.4),
    ],
    ids=lambda value: str(value),
)
def test_table_3(spec: str, overrides: dict[str, float], billions: float) -> None:
    """The FLOPS of the EfficientNet paper's Table 3, which have two digits."""
    assert graph_of(spec, **overrides).macs / 1e9 == pytest.approx(billions, rel=0.035)


@pytest.mark.parametrize("spec", shipped_spec_names())
def test_every_family_scales_by_the_formula(spec: str) -> None:
    small, middle, large = (
        build_network(NetworkRequest(spec, phi, "formula")).graph.macs for phi in ("-1", "0", "1.5")
    )
    assert small < middle < large


@pytest.mark.parametrize("spec", shipped_spec_names())
def test_the_stage_table_adds_up(spec: str) -> None:
    report = inspect_network(build_network(NetworkRequest(spec)))
    assert sum(row.parameters for row in report.stages) == report.parameters
    assert sum(row.macs for row in report.stages) == report.macs
    assert sum(row.activation_bytes for row in report.stages) == report.activation_bytes


def test_rows_of_other_kinds() -> None:
    resnet = inspect_network(build_network(NetworkRequest("resnet50"))).stages
    assert (resnet[0].operator, resnet[0].resolution_in, resnet[0].resolution_out) == ("conv + max pool", 224, 56)
    assert (resnet[1].operator, resnet[1].expand_ratio, resnet[1].channels) == ("bottleneck", None, 256)
    assert (resnet[-2].operator, resnet[-2].kernel, resnet[-2].stride) == ("pool", None, None)
    mobilenet = inspect_network(build_network(NetworkRequest("mobilenet_v3_large"))).stages
    assert (mobilenet[-2].operator, mobilenet[-2].channels) == ("pool + conv", 1280)
    fused = inspect_network(build_network(NetworkRequest("efficientnet_v2_s"))).stages[2]
    assert (fused.operator, fused.kernel, fused.expand_ratio) == ("fused_mbconv", 3, 4)


#: What is left to TVM around the parts of GhostNet's and MixNet's convolutions, which a Concat joins.
OTHERS = {"ghostnet": {"Add"}, "mixnet_s": {"Slice", "Swish", "Add"}}


@pytest.mark.parametrize("smallest", [False, True], ids=["baseline", "smallest"])
@pytest.mark.parametrize("target", ["x86-64-v3", "aarch64"])
@pytest.mark.parametrize("spec", shipped_spec_names())
def test_every_kernel_has_a_rule(spec: str, target: str, smallest: bool) -> None:
    """On CPUs TVM's operators compute nothing but the view that Flatten is; also where the last maps are one pixel."""
    graph = graph_of(spec, resolution=load_spec(spec).total_stride) if smallest else graph_of(spec)
    folded, _ = fold_batchnorm(graph, zeros(graph))
    machine = load_target(target)
    calls = kernel_calls(folded)
    others = {call.node.op_type for call in calls if isinstance(call, OpCall)}
    assert "Flatten" in others and others - {"Flatten"} <= OTHERS.get(spec, set())
    workloads = {call.workload for call in calls if isinstance(call, KernelCall)}
    assert [workload.name for workload in workloads if space_of(workload, machine) is None] == []


def zeros(graph: Graph) -> Weights:
    """Arrays of one value each, which take no memory; variances of 1."""
    return {
        name: np.broadcast_to(np.float32(parameter.role == "norm_var"), parameter.shape)
        for name, parameter in graph.parameters.items()
    }


@pytest.mark.parametrize("padding", ["symmetric", pytest.param("same", marks=pytest.mark.slow)])
def test_every_block_kind_compiled(kinds_spec: Path, tmp_path: Path, padding: str) -> None:
    overrides = Overrides(padding=padding)  # type: ignore[arg-type]
    request = CompileRequest(NetworkRequest(str(kinds_spec), batch=2, overrides=overrides), tmp_path / "b")
    manifest = compile_bundle(request)
    assert all(kernel["source"].startswith("rule:") for kernel in manifest.kernels)
    report = verify_bundle(tmp_path / "b")
    assert report.passed and report.rel_l2 <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("spec", [name for name in shipped_spec_names() if name != "efficientnet"])
def test_every_family_compiled(spec: str, tmp_path: Path) -> None:
    manifest = compile_bundle(CompileRequest(NetworkRequest(spec), tmp_path / "b"))
    assert spec in OTHERS or not any(kernel["source"] == "fallback" for kernel in manifest.kernels)
    report = verify_bundle(tmp_path / "b")
    assert report.passed and report.rel_l2 <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "name", "spec"),
    [
        ("timm", "mobilenetv3_large_100", "mobilenet_v3_large"),
        ("torchvision", "resnet50", "resnet50"),
        ("timm", "tf_efficientnetv2_b0", "efficientnet_v2_b"),
    ],
)
def test_checkpoints_through_the_library(package: str, name: str, spec: str, tmp_path: Path) -> None:
    model = external_model(package, name)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    compile_bundle(CompileRequest(NetworkRequest(spec), tmp_path / "b", weights=tmp_path / "weights.pth"))
    library = effgen.load(tmp_path / "b")
    image = noise(tuple(library.manifest.input["shape"]), seed=5)
    assert relative_error(library(image), output_of(model, image)) <= 1e-5
