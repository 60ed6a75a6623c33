"""Plain definitions: what they compute, before anything is scheduled."""

from dataclasses import replace

import numpy as np
import pytest
import tvm
from workloads import SOME

from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.lowering import tvm_target
from effgen.kernels.plain import is_plain, plain_primfunc
from effgen.kernels.workload import Workload
from effgen.machines.target import load_target
from effgen.measure.case import TOLERANCE, KernelCase, compile_kernels
from effgen.schedules import space_of

MACHINE = replace(load_target("cpu"), cores=1)
PLAIN = [workload for workload in SOME if is_plain(workload, MACHINE)]


@pytest.mark.parametrize("workload", PLAIN, ids=lambda workload: workload.name)
def test_computes_what_the_kind_says(workload: Workload) -> None:
    case = KernelCase(workload, MACHINE, space_of)
    function = plain_primfunc(workload, MACHINE).with_attr("tirx.is_scheduled", True)
    library = compile_kernels({workload.name: function}, tvm_target(MACHINE)).mod
    outputs = [tvm.runtime.tensor(np.full(shape, np.nan, np.float32)) for shape in workload.out_shapes]
    library[workload.name](*map(tvm.runtime.tensor, case.inputs.values()), *outputs)
    assert case.error([output.numpy() for output in outputs]) <= TOLERANCE


def test_most_kinds_have_one() -> None:
    assert len({type(workload) for workload in PLAIN}) >= 5
    assert is_plain(GlobalAveragePool(1, 7, 7, 1280), MACHINE) and not is_plain(GlobalAveragePool(1, 7, 7, 7), MACHINE)
    assert not is_plain(PLAIN[0].with_dtype("float16"), MACHINE)
