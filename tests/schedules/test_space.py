"""Schedule spaces: every point computes the same, the default is one of them, and every network has one."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from effgen.compiler.blocks import fuse_blocks
from effgen.compiler.calls import KernelCall, calls_from_graph
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.concat import Concat
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.kinds.interleave import Interleave
from effgen.kernels.kinds.mixed_depthwise import MixedDepthwise
from effgen.kernels.kinds.pool2d import Pool2d
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.workload import Workload
from effgen.machines.machine import Machine
from effgen.machines.target import load_target
from effgen.network import NetworkRequest, build_network
from effgen.schedules import kernel_from_workload, space_of
from effgen.schedules.space import Space

CheckPoints = Callable[[Workload, Machine, int], None]

DEPTHWISE = Conv2d(1, 9, 11, 40, 40, (3, 3), padding=(1, 1, 1, 1), groups=40, activation="silu", row_sums=True)
STRIDED = Conv2d(2, 11, 12, 21, 21, (5, 5), (2, 2), (1, 1, 2, 2), groups=21, activation="silu")

# At least one of every rule, small enough that compiling is all that takes time.
SMALL: list[Workload] = [
    Conv2d(2, 5, 7, 24, 40, activation="silu", residual=True),
    Conv2d(1, 3, 43, 12, 96),
    Conv2d(2, 5, 7, 24, 40, gated=True, residual=True),
    Conv2d(1, 9, 9, 16, 20, gated=True, activation="silu"),
    Conv2d(1, 9, 9, 24, 40, gated=True, residual=True, ahead=((5, 1, 1, 64, 16), (2, 1, 1, 40, 8))),
    Conv2d(3, 1, 1, 24, 72, activation="silu"),
    DEPTHWISE,
    replace(DEPTHWISE, batch=2, row_sums=False, residual=True),
    STRIDED,
    ExpandDepthwise(Conv2d(1, 9, 11, 8, 40, activation="silu"), DEPTHWISE),
    ExpandDepthwise(Conv2d(1, 9, 11, 8, 40, activation="silu"), DEPTHWISE, ahead=((9, 1, 1, 33, 16), (1, 1, 1, 5, 8))),
    ExpandDepthwise(Conv2d(2, 11, 12, 5, 21, activation="silu"), STRIDED),
    SqueezeExcite(3, 5, 4, 45, 12, "silu", "sigmoid"),
    Conv2d(1, 15, 13, 3, 24, (3, 3), (2, 2), (0, 0, 1, 1), data_layout="NCHW", activation="silu"),
    Conv2d(2, 7, 6, 8, 48, (3, 3), padding=(1, 1, 1, 1), activation="silu", residual=True),
    Conv2d(2, 9, 6, 8, 48, (3, 3), (1, 1), (2, 2, 2, 2), dilation=(2, 3), activation="relu"),
    Conv2d(2, 5, 7, 24, 40, activation="relu", residual=True, activation_last=True),
    Pool2d("max", 2, 9, 8, 48, (3, 3), (2, 2), (1, 1, 1, 1)),
    Pool2d("average", 2, 9, 8, 40, (3, 2), (1, 2), (1, 0, 1, 1), (1, 0, 1, 1)),
    Concat(2, 5, 6, (24, 58, 3), affine=True, activation="relu"),
    Conv2d(1, 7, 7, 64, 48, (3, 3), (2, 1), (1, 0, 1, 1), activation="relu", residual=True, activation_last=True),
    Conv2d(1, 9, 8, 256, 20, stride=(2, 2), activation="relu"),
    Conv2d(2, 9, 11, 96, 24, (3, 3)),
    GlobalAveragePool(2, 5, 6, 48),
    ChannelScale(2, 5, 3, 32),
    Interleave(2, 5, 6, 29, 2, (24, 34)),
    MixedDepthwise((replace(DEPTHWISE, batch=2), replace(DEPTHWISE, batch=2, kernel=(5, 5), padding=(2, 2, 2, 2)))),
    Conv2d(2, 7, 9, 32, 64, (3, 3), (2, 1), (1, 1, 1, 1), groups=2, activation="relu"),
]


@pytest.mark.parametrize("workload", SMALL, ids=lambda workload: workload.name)
def test_points_compute_the_same(workload: Workload, machine: Machine, check_points: CheckPoints) -> None:
    check_points(workload, machine, 7)


def space_for(workload: Workload, machine: Machine) -> Space:
    space = space_of(workload, machine)
    assert space is not None
    return space


def test_every_rule_is_tried() -> None:
    rules = {space_for(workload, load_target("x86-64-v4")).rule for workload in SMALL}
    convolutions = {"pointwise", "depthwise", "squeeze_excite", "conv2d", "grouped"}
    assert rules == convolutions | {"pool", "scale", "window_pool", "concat", "interleave"}


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("workload", SMALL, ids=lambda workload: workload.name)
def test_points_and_neighbours(workload: Workload, target: str) -> None:
    machine = load_target(target)
    space = space_for(workload, machine)
    assert space.contains(space.default)
    points = {tuple(point.items()) for point in space.points()}
    assert len(points) > 1
    assert all(list(values) == sorted(set(values)) for values in space.axes.values())
    neighbours = list(space.neighbours(space.default))
    assert neighbours
    for other in neighbours:
        assert space.contains(other)
        assert tuple((name, other[name]) for name in space.axes) in points
        assert sum(other[name] != space.default[name] for name in space.axes) == 1
    assert len({tuple(sorted(other.items())) for other in neighbours}) == len(neighbours)


def test_what_a_space_does_not_contain() -> None:
    space = space_for(SMALL[0], load_target("x86-64-v4"))
    assert not space.contains({})
    assert not space.contains({**space.default, "more": 1})
    assert not space.contains({**space.default, "rows": 1000})
    # Each is a candidate of its own; together they need too many registers.
    assert not space.contains({**space.default, "rows": max(space.axes["rows"]), "vectors": max(space.axes["vectors"])})


@pytest.mark.parametrize("target", ["x86-64-v4", "rpi4"])
@pytest.mark.parametrize(
    "workload",
    [
        Conv2d(1, 14, 14, 96, 64),
        Conv2d(1, 14, 14, 96, 64, gated=True, activation="silu"),
        Conv2d(1, 14, 14, 96, 96, (5, 5), padding=(2, 2, 2, 2), groups=96),
        Conv2d(1, 14, 14, 96, 64, (3, 3), padding=(1, 1, 1, 1)),
    ],
    ids=lambda workload: workload.name,
)
def test_estimated_cycles_grow_with_the_batch(workload: Conv2d, target: str) -> None:
    machine = load_target(target)
    found = []
    for batch in (1, 4, 16):
        space = space_for(replace(workload, batch=batch), machine)
        assert space.cycles is not None
        found.append(space.cycles(space.default))
    least = workload.macs / machine.lanes / machine.cores / 2  # two multiply-adds of a vector start in a cycle
    assert least / 2 < found[0] < found[1] < found[2]


def test_a_decision_changes_the_kernel() -> None:
    machine = load_target("x86-64-v4")
    space = space_for(SMALL[0], machine)
    other = next(space.neighbours(space.default))
    plain = kernel_from_workload(SMALL[0], machine).script()
    assert kernel_from_workload(SMALL[0], machine, space.default).script() == plain
    assert kernel_from_workload(SMALL[0], machine, other).script() != plain


def workloads_of(phi: int, batch: int) -> set[Workload]:
    """The kernels of an EfficientNet; what the weights are does not matter."""
    graph = build_network(NetworkRequest(phi=str(phi), batch=batch)).graph
    one = np.ones((), np.float32)
    weights: dict[str, NDArray[np.float32]] = {
        name: np.broadcast_to(one, parameter.shape) for name, parameter in graph.parameters.items()
    }
    folded, _ = fold_batchnorm(graph, weights)
    calls = fuse_blocks(calls_from_graph(folded), folded.outputs)
    return {call.workload for call in calls if isinstance(call, KernelCall)}


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("phi", range(8))
def test_every_network_has_defaults(phi: int, batch: int) -> None:
    workloads = workloads_of(phi, batch)
    for target, cores in (("x86-64-v3", 2), ("x86-64-v4", 1), ("x86-64-v4", 2), ("x86-64-v4", 64)):
        machine = replace(load_target(target), cores=cores)
        for workload in workloads:
            space = space_for(workload, machine)
            assert space.contains(space.default), (workload.name, space.default)
            assert any(True for _ in space.neighbours(space.default)), workload.name
