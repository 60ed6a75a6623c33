"""The lowering keeps accumulators out of the heap, and says nothing about the rest."""

import pytest
import tvm

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.lowering import PIPELINE, tvm_target
from effgen.kernels.workload import Workload
from effgen.machines.target import load_target
from effgen.schedules import kernel_from_workload

POINTWISE = Conv2d(1, 14, 14, 80, 480, activation="silu")
DEPTHWISE = Conv2d(1, 14, 14, 96, 96, (3, 3), padding=(1, 1, 1, 1), groups=96)
EXPANDED = ExpandDepthwise(Conv2d(1, 14, 14, 16, 96, activation="silu"), DEPTHWISE)
# A band of 600 columns and 600 channels is too large for anybody's stack.
LARGE = Conv2d(1, 600, 600, 600, 16, (3, 3), padding=(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("workload", "pipeline", "workspaces"),
    [
        (POINTWISE, "default", True),
        (POINTWISE, PIPELINE, False),
        (DEPTHWISE, PIPELINE, False),
        (EXPANDED, PIPELINE, False),
        (LARGE, PIPELINE, True),
    ],
)
def test_who_takes_a_workspace(workload: Workload, pipeline: str, workspaces: bool) -> None:
    machine = load_target("x86-64-v4")
    func = kernel_from_workload(workload, machine)
    library = tvm.compile(tvm.IRModule({workload.name: func}), tvm_target(machine), tir_pipeline=pipeline)
    assert ("TVMBackendAllocWorkspace" in library.mod.inspect_source("asm")) == workspaces
