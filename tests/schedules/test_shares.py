"""How kernels are shared out to many cores: the model's arithmetic, its reading of loops, and that no rule leaves most
cores idle where there are finer shares."""

from dataclasses import replace

import pytest

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.matmul import MatmulPlan, matmul_primfunc
from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu
from effgen.machines.target import load_target, this_cpu
from effgen.measure.case import TOLERANCE, KernelCase
from effgen.measure.kernels import LocalBench
from effgen.network import NetworkRequest, build_network
from effgen.schedules import space_of
from effgen.schedules.common import bands_for, most_bands
from effgen.schedules.shares import Shares, shares_of
from effgen.tuning.request import calls_of_network


def machine(cores: int) -> Cpu:
    found = load_target("x86-64-v4")
    assert isinstance(found, Cpu)
    return found.with_threads(cores)


def test_arithmetic_of_shares() -> None:
    shares = Shares(10.0, ((4, 40.0), (3, 30.0)))
    assert shares.work == 80 and shares.tasks == 4
    assert [shares.time(cores) for cores in (1, 2, 3, 4, 100)] == [80, 50, 40, 30, 30]
    assert shares.idle(1) == 0 and shares.idle(2) == pytest.approx(0.2)
    assert Shares(5.0, ()).tasks == 1 and Shares(5.0, ()).idle(4) == pytest.approx(0.75)


def test_shares_are_read_off_the_loops() -> None:
    """48 rows by 4 vectors in tiles of 6 x 2: 8 x 2 tiles, shared out to 4 bands times 2 chunks."""
    layer, here = Conv2d(1, 6, 8, 128, 64), machine(4)
    shares = shares_of(matmul_primfunc(layer, here, MatmulPlan(6, 2, chunks=2, bands=4)), here.lanes)
    assert shares.tasks == 8 and shares.alone == 0
    products = layer.macs / here.lanes
    assert products < shares.work < 1.1 * products
    alone = shares_of(matmul_primfunc(layer, here, MatmulPlan(6, 2, chunks=2, bands=4, parallel=False)), here.lanes)
    assert alone.loops == () and alone.work == pytest.approx(shares.work)


def test_bands_fill_the_cores_together_with_other_shares() -> None:
    assert bands_for(100, machine(2)) == (1, 2, 4, 6, 8, 12, 16, 32)
    assert bands_for(49, machine(64)) == (1, 2, 4, 8, 16, 32)
    assert bands_for(49, machine(6)) == (1, 2, 3, 6, 12, 18, 24, 36, 48)
    assert bands_for(1, machine(6)) == bands_for(0, machine(6)) == (1,)
    assert most_bands(bands_for(49, machine(64)), machine(64)) == 32
    assert most_bands(bands_for(49, machine(6)), machine(6)) == 6


@pytest.mark.parametrize(("phi", "cores", "most"), [("0", 8, 0.06), ("0", 16, 0.15), ("0", 64, 0.3), ("5", 64, 0.15)])
def test_networks_keep_many_cores_busy(phi: str, cores: int, most: float) -> None:
    here, work, time = machine(cores), 0.0, 0.0
    for workload, calls in calls_of_network(build_network(NetworkRequest(phi=phi))).items():
        space = space_of(workload, here)
        assert space is not None and space.contains(space.default), workload.name
        shares = shares_of(space.build(space.default), here.lanes)
        work, time = work + calls * shares.work, time + calls * shares.time(cores)
        # What is large on its own leaves no core out altogether for want of shares.
        if shares.work > 2000 * cores:
            assert shares.idle(cores) < 0.5, f"{workload.name}: {shares.tasks} tasks, {dict(space.default)}"
    assert 1 - work / (cores * time) < most


@pytest.mark.parametrize("cores", [6, 16, 64])
@pytest.mark.parametrize(
    "workload",
    [
        Conv2d(1, 7, 7, 96, 48),
        Conv2d(1, 7, 7, 96, 48, gated=True, residual=True),
        Conv2d(1, 14, 14, 24, 24, kernel=(5, 5), padding=(2, 2, 2, 2), groups=24, row_sums=True),
        Conv2d(1, 9, 9, 16, 24, kernel=(3, 3), padding=(1, 1, 1, 1)),
    ],
    ids=lambda workload: workload.name if isinstance(workload, Workload) else str(workload),
)
def test_many_shares_compute_the_same(workload: Conv2d, cores: int) -> None:
    here = replace(this_cpu(), cores=cores, l2_bytes=64 * 1024)
    bench = LocalBench(KernelCase(workload, here, space_of), lambda: None)
    space = space_of(workload, here)
    assert space is not None
    assert bench.error_after(bench.kernel(space.default)) <= TOLERANCE
