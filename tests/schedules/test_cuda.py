"""Every CUDA rule against the float64 reference, run by the emulator in two orders of threads.

All kernels of one type are compiled and run together: nvcc and the host's compiler take seconds each time.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_calls import Call, build, needs
from kernel_cases import case
from numpy.typing import NDArray

from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.workload import Workload
from effgen.machines.target import load_target
from effgen.schedules import kernel_from_workload, space_of
from effgen.schedules.space import Decisions

pytestmark = [needs("nvcc", "g++")]

DTYPES = ["float32", "float16"]
ORDERS = ["forward", "shuffled"]
# Of an output of about 1, and of a larger one: float16 rounds every output.
TOLERANCE = {"float32": {"atol": 2e-5, "rtol": 0}, "float16": {"atol": 2e-3, "rtol": 2e-3}}
FEW, MANY = 2, 6


def pointwise(batch: int, height: int, width: int, inputs: int, outputs: int, **rest: Any) -> Conv2d:
    return Conv2d(batch, height, width, inputs, outputs, **rest)


def depthwise(batch: int, height: int, width: int, channels: int, **rest: Any) -> Conv2d:
    return Conv2d(batch, height, width, channels, channels, groups=channels, **rest)


def square(kernel: int) -> dict[str, Any]:
    return {"kernel": (kernel, kernel), "padding": (kernel // 2,) * 4}


#: Each with the rule for float32; rows and channels that no tile divides, every activation.
WORKLOADS: list[tuple[Workload, str]] = [
    (pointwise(1, 7, 7, 24, 40, activation="silu"), "cuda_pointwise"),
    (pointwise(1, 15, 13, 8, 24, residual=True), "cuda_pointwise"),
    (pointwise(3, 7, 7, 40, 16, gated=True, activation="sigmoid"), "cuda_pointwise"),
    (pointwise(3, 5, 5, 8, 8, gated=True, residual=True, activation="relu6"), "cuda_pointwise"),
    (pointwise(1, 7, 7, 12, 18, activation="hard_swish"), "cuda_pointwise"),
    (pointwise(2, 7, 7, 16, 18, residual=True, activation="relu"), "cuda_pointwise"),
    (pointwise(2, 7, 7, 16, 24, activation="relu", residual=True, activation_last=True), "cuda_pointwise"),
    (pointwise(1, 1, 1, 320, 1000), "cuda_pointwise"),
    (pointwise(3, 1, 1, 40, 1000, activation="hard_sigmoid"), "cuda_pointwise"),
    (pointwise(9, 1, 1, 40, 10), "cuda_pointwise"),
    (depthwise(1, 15, 13, 8, **square(3), activation="silu", row_sums=True), "cuda_depthwise"),
    (depthwise(1, 14, 14, 40, kernel=(3, 3), stride=(2, 2), padding=(0, 0, 1, 1)), "cuda_depthwise"),
    (depthwise(3, 7, 7, 24, **square(5), activation="relu6", row_sums=True), "cuda_depthwise"),
    (depthwise(1, 15, 13, 24, kernel=(5, 5), stride=(2, 2), padding=(1, 1, 2, 2), row_sums=True), "cuda_depthwise"),
    (depthwise(2, 7, 7, 8, **square(3), residual=True, activation="hard_swish"), "cuda_depthwise"),
    (
        depthwise(1, 9, 7, 12, kernel=(3, 5), stride=(2, 1), padding=(1, 2, 1, 2), activation="sigmoid"),
        "cuda_depthwise",
    ),
    (SqueezeExcite(1, 7, 7, 40, 10, "silu", "sigmoid"), "cuda_squeeze_excite"),
    (SqueezeExcite(3, 15, 13, 8, 2, "relu", "hard_sigmoid"), "cuda_squeeze_excite"),
    (SqueezeExcite(1, 4, 4, 96, 100, "relu6", "sigmoid"), "cuda_squeeze_excite"),
    (SqueezeExcite(1, 7, 7, 1152, 48, "silu", "sigmoid"), "cuda_squeeze_excite"),
    (Conv2d(1, 33, 31, 3, 32, **square(3), stride=(2, 2), data_layout="NCHW", activation="silu"), "cuda_window"),
    (
        Conv2d(3, 16, 16, 3, 8, (3, 3), (2, 2), (0, 0, 1, 1), data_layout="NCHW", activation="hard_swish"),
        "cuda_window",
    ),
    (Conv2d(1, 7, 7, 8, 12, **square(3), residual=True, activation="relu"), "cuda_window"),
    (Conv2d(1, 7, 7, 6, 20, activation="relu6"), "cuda_window"),
    (Conv2d(1, 7, 7, 8, 12, **square(3), activation="silu", residual=True, activation_last=True), "cuda_window"),
    (Conv2d(1, 7, 7, 8, 16, stride=(2, 2)), "cuda_window"),
    (Conv2d(1, 9, 9, 8, 16, (3, 3), padding=(2, 2, 2, 2), dilation=(2, 2)), "cuda_window"),
    (GlobalAveragePool(1, 15, 13, 8), "cuda_pool"),
    (GlobalAveragePool(3, 7, 7, 40), "cuda_pool"),
    (ChannelScale(3, 5, 7, 24), "cuda_scale"),
    (Conv2d(1, 7, 7, 8, 16, **square(3), groups=4, activation="silu"), "cuda_direct"),
    (Conv2d(2, 7, 7, 8, 12, **square(5), groups=2, residual=True), "cuda_direct"),
    (depthwise(2, 7, 5, 6, **square(3), activation="silu", row_sums=True), "cuda_direct"),
    (pointwise(2, 3, 3, 6, 10, gated=True, activation="relu"), "cuda_direct"),
    (pointwise(1, 1, 1, 4, 64, activation="sigmoid"), "cuda_window"),
    (depthwise(1, 7, 5, 8, **square(3), activation="silu", residual=True, activation_last=True), "cuda_direct"),
    (Conv2d(1, 16, 16, 3, 10, (3, 3), (2, 2), (0, 0, 1, 1), data_layout="NCHW", activation="sigmoid"), "cuda_direct"),
]
#: What tensor cores ask for, in rows and in input channels.
_TENSOR_CORE_ROWS, _TENSOR_CORE_STEP = 8, 8


def rule_of(workload: Workload, float32_rule: str) -> str:
    """The rule that takes the workload: tensor cores those of enough rows whose channels they can load."""
    if float32_rule != "cuda_pointwise" or workload.dtype == "float32":
        return float32_rule
    assert isinstance(workload, Conv2d)
    rows = workload.rows // workload.batch if workload.gated else workload.rows
    on_tensor_cores = rows >= _TENSOR_CORE_ROWS and workload.in_channels % _TENSOR_CORE_STEP == 0
    return "cuda_tensor_core" if on_tensor_cores else float32_rule


@dataclass(frozen=True)
class Ran:
    """What a workload's kernels gave: the decisions' label, the order of threads, the outputs."""

    label: str
    order: str
    outputs: list[NDArray[Any]]


def points(workload: Workload, count: int) -> dict[str, Decisions]:
    """The default decisions, and so many others of the workload's space, the same ones every time."""
    space = space_of(workload, load_target("cuda-sm90"))
    assert space is not None, workload
    assert space.contains(space.default)
    every = [point for point in space.points() if point != space.default]
    chosen = random.Random(zlib.crc32(workload.name.encode())).sample(every, min(count, len(every)))
    return {"default": space.default} | {"_".join(f"{k}{v}" for k, v in point.items()): point for point in chosen}


def run_all(workloads: Sequence[Workload], count: int, driver: Path, folder: Path) -> dict[str, list[Ran]]:
    """Every workload's kernels, with `count` points besides the default: results by the workload's name."""
    machine = load_target("cuda-sm90")
    labels: dict[str, tuple[Workload, str]] = {}
    functions = {}
    for workload in workloads:
        for number, (label, decisions) in enumerate(points(workload, count).items()):
            name = f"{workload.name}_point{number}"
            functions[name] = kernel_from_workload(workload, machine, decisions)
            labels[name] = workload, label
    kernels = build(functions, machine, driver, folder)
    calls = [_call(name, workload) for name, (workload, _) in labels.items()]
    results: dict[str, list[Ran]] = {workload.name: [] for workload in workloads}
    for order in ORDERS:
        for name, outputs in kernels.call(calls, folder, order=order).items():
            workload, label = labels[name]
            results[workload.name].append(Ran(label, order, outputs))
    return results


def _call(name: str, workload: Workload) -> Call:
    inputs, _ = case(workload, load_target("cuda-sm90"))
    outputs = [(output.shape, output.dtype) for output in workload.outputs]
    return Call(name, name, list(inputs.values()), outputs)


def check(workload: Workload, results: Sequence[Ran]) -> None:
    _, expected = case(workload, load_target("cuda-sm90"))
    assert {ran.order for ran in results} == set(ORDERS)
    for ran in results:
        for index, (found, right) in enumerate(zip(ran.outputs, expected, strict=True)):
            # The sums of rows are larger than 1, and held to their share of it.
            scale = max(1.0, float(np.abs(right).max())) if index else 1.0
            allowed = TOLERANCE[workload.dtype] | {"atol": TOLERANCE[workload.dtype]["atol"] * scale}
            note = f"{workload.name}, output {index}, {ran.label}, {ran.order}"
            np.testing.assert_allclose(found.astype(np.float64), right, err_msg=note, **allowed)


@pytest.fixture(scope="module")
def few(emulated_driver: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Ran]]:
    """Results by the workload's name, which tells the type."""
    found: dict[str, list[Ran]] = {}
    for dtype in DTYPES:
        workloads = [workload.with_dtype(dtype) for workload, _ in WORKLOADS]
        found |= run_all(workloads, FEW, emulated_driver, tmp_path_factory.mktemp(dtype))
    return found


TYPED = [(workload.with_dtype(dtype), rule) for dtype in DTYPES for workload, rule in WORKLOADS]


@pytest.mark.parametrize(("workload", "rule"), TYPED, ids=[workload.name for workload, _ in TYPED])
def test_kernel(few: dict[str, list[Ran]], workload: Workload, rule: str) -> None:
    space = space_of(workload, load_target("cuda-sm90"))
    assert space is not None and space.rule == rule_of(workload, rule)
    check(workload, few[workload.name])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_many_points(emulated_driver: Path, tmp_path: Path, dtype: str) -> None:
    workloads = [workload.with_dtype(dtype) for workload, _ in WORKLOADS]
    results = run_all(workloads, MANY, emulated_driver, tmp_path)
    for workload in workloads:
        check(workload, results[workload.name])
