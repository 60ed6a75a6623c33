"""1x1 convolutions of one position an image: squeeze-excite's two layers and the classifier.

The loop nest is the pointwise one with the batch as rows. What differs is that the weights are read once and
most of these kernels are over before a second core could join: those stay on one.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from effgen.kernels import tiles
from effgen.kernels.workload import Conv2d, Workload
from effgen.schedules.common import schedule_of, worth_a_launch
from effgen.schedules.pointwise import MatmulDecisions, apply_matmul
from effgen.target import Machine


def default_dense(workload: Conv2d, machine: Machine) -> MatmulDecisions:
    """Tile from shape and registers; cores share it if the weights take longer to read than a launch."""
    tile = tiles.row_tile(workload, machine)
    weight_bytes = 4 * workload.in_channels * workload.out_channels
    shared = worth_a_launch(machine, workload.macs, weight_bytes)
    return MatmulDecisions(tile.rows, tile.vectors, chunk=1, parallel=shared)


def apply(func: PrimFunc, workload: Workload, machine: Machine) -> Schedule | None:
    """The rule: dense layers."""
    if not isinstance(workload, Conv2d) or workload.family != "dense":
        return None
    schedule = schedule_of(func)
    apply_matmul(schedule, default_dense(workload, machine))
    return schedule
