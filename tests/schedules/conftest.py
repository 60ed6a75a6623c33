"""Kernels against float64 references: fresh random inputs, and outputs poisoned before the run."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
import tvm
from numpy.typing import NDArray

from effgen.cpu import missing_features
from effgen.kernels.lowering import PIPELINE
from effgen.kernels.packing import pack_bias, pack_weight
from effgen.kernels.reference import random_inputs, reference_outputs
from effgen.kernels.workload import Conv2d, Workload
from effgen.schedules import kernel_from_workload, space_of, tvm_target
from effgen.schedules.space import Decisions
from effgen.target import Machine, load_target

Arrays = dict[str, NDArray[np.float32]]

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "silu": torch.nn.functional.silu,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "relu6": torch.nn.functional.relu6,
    "hard_sigmoid": torch.nn.functional.hardsigmoid,
    "hard_swish": torch.nn.functional.hardswish,
}


def conv_reference(
    workload: Conv2d, inputs: Arrays, weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The convolution by PyTorch, which knows nothing of packed parameters."""
    image = torch.from_numpy(inputs["data"]).double()
    if workload.data_layout == "NHWC":
        image = image.permute(0, 3, 1, 2)
    if workload.gated:
        image = image * torch.from_numpy(inputs["gate"]).permute(0, 3, 1, 2)
    top, left, bottom, right = workload.padding
    image = torch.nn.functional.pad(image, (left, right, top, bottom))
    out = torch.nn.functional.conv2d(
        image,
        torch.from_numpy(weight).double(),
        torch.from_numpy(bias).double(),
        stride=workload.stride,
        groups=workload.groups,
    )
    activated = np.asarray(ACTIVATIONS[workload.activation](out).permute(0, 2, 3, 1))
    return activated + inputs["residual"] if workload.residual else activated


def case(workload: Workload, machine: Machine) -> tuple[Arrays, list[NDArray[np.float64]]]:
    """The kernel's inputs, and the outputs expected of it; for a convolution PyTorch has to agree with them."""
    generator = np.random.default_rng(zlib.crc32(workload.name.encode()))
    inputs = random_inputs(workload, machine, generator)
    if not isinstance(workload, Conv2d):
        return inputs, reference_outputs(workload, inputs, machine)
    depth = workload.in_channels // workload.groups
    taps = depth * workload.kernel[0] * workload.kernel[1]
    shape = (workload.out_channels, depth, *workload.kernel)
    weight = generator.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(taps))
    bias = generator.standard_normal(workload.out_channels, dtype=np.float32)
    inputs |= {"weight": pack_weight(workload, weight, machine), "bias": pack_bias(workload, bias, machine)}
    outputs = reference_outputs(workload, inputs, machine)
    # Packing rounds what it scales.
    np.testing.assert_allclose(outputs[0], conv_reference(workload, inputs, weight, bias), rtol=0, atol=2e-6)
    return inputs, outputs


def check(
    workload: Workload, machine: Machine, source: str, decisions: Decisions | None = None, tolerance: float = 2e-5
) -> None:
    """Outputs are about 1 and held to `tolerance`; the sums of rows are larger, and held to their share of it."""
    space = space_of(workload, machine)
    assert (space.rule if space else "fallback") == source
    func = kernel_from_workload(workload, machine, decisions)
    assert func.attrs["global_symbol"] == workload.name
    assert func.attrs["tirx.is_scheduled"]
    library = tvm.compile(tvm.IRModule({workload.name: func}), tvm_target(machine), tir_pipeline=PIPELINE)
    inputs, expected = case(workload, machine)
    outputs = [tvm.runtime.tensor(np.full(shape, np.nan, np.float32)) for shape in workload.out_shapes]
    library[workload.name](*map(tvm.runtime.tensor, inputs.values()), *outputs)
    note = f"{workload.name} {decisions or ''}"
    for index, (found, right) in enumerate(zip(outputs, expected, strict=True)):
        scale = max(1.0, float(np.abs(right).max())) if index else 1.0
        np.testing.assert_allclose(found.numpy(), right, rtol=0, atol=tolerance * scale, err_msg=note)


def check_some(workload: Workload, machine: Machine, count: int) -> None:
    """`check` with so many points of the workload's schedule space, the same ones every time."""
    space = space_of(workload, machine)
    assert space is not None
    points = list(space.points())
    chosen = random.Random(zlib.crc32(f"{workload.name} {machine.lanes}".encode())).sample(
        points, min(count, len(points))
    )
    for decisions in chosen:
        assert space.contains(decisions)
        check(workload, machine, space.rule, decisions)


@pytest.fixture(scope="session", params=["cpu", "x86-64-v3", "x86-64-v4"])
def machine(request: pytest.FixtureRequest) -> Machine:
    found = load_target(request.param)
    if missing := missing_features(found.features):
        pytest.skip(f"this machine lacks {', '.join(missing)}")
    return found


@pytest.fixture(scope="session")
def check_kernel() -> Callable[..., None]:
    """Schedule, compile, run and compare one workload; the third argument is the rule its schedule must come from."""
    return check


@pytest.fixture(scope="session")
def check_points() -> Callable[[Workload, Machine, int], None]:
    """The same for some points of the workload's schedule space."""
    return check_some
