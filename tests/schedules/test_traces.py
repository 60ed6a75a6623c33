"""MetaSchedule's candidates as decisions: carried out anew, right, and refused where they are no such thing."""

import random
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import te, topi

from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.pool2d import Pool2d
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.operator import operator_of
from effgen.kernels.workload import Workload
from effgen.machines.target import load_target
from effgen.measure.case import TOLERANCE, KernelCase
from effgen.records.lookup import RecordSource, find_record
from effgen.records.record import Record
from effgen.schedules import space_of
from effgen.schedules.space import TRACE, Decisions
from effgen.schedules.traces import Traces, traces_of

MACHINE = replace(load_target("cpu"), cores=2)
POINTWISE = Conv2d(1, 4, 4, 16, 24, activation="silu", residual=True)


def softmax() -> Workload:
    x = te.placeholder((6, 20), name="x")
    operator = operator_of(te.create_prim_func([x, topi.nn.softmax(x, -1)]), "softmax3")
    assert operator is not None
    return operator


SOME = [
    POINTWISE,
    Conv2d(2, 3, 5, 7, 13, activation="hard_swish", gated=True),
    Conv2d(1, 7, 6, 3, 11, (3, 3), (2, 2), (1, 1, 0, 1), data_layout="NCHW", activation="relu6"),
    ExpandDepthwise(
        Conv2d(1, 5, 6, 3, 13, activation="silu"),
        Conv2d(1, 5, 6, 13, 13, (3, 3), (2, 2), (1, 1, 1, 1), groups=13, activation="silu", row_sums=True),
    ),
    SqueezeExcite(2, 3, 5, 19, 5, "silu", "sigmoid"),
    Pool2d("max", 2, 7, 5, 3, (3, 2), (2, 1), (1, 1, 0, 0), dilation=(2, 1)),
    softmax(),
]


def traces(workload: Workload) -> Traces:
    found = traces_of(workload, MACHINE)
    assert found is not None
    return found


def candidates(workload: Workload) -> list[dict[str, int]]:
    """One of each sketch, as MetaSchedule drew it first."""
    found = traces(workload)
    return [d for design in found.designs if (d := found.decisions_of(design.trace)) is not None]


def error_of(case: KernelCase, decisions: Decisions) -> float:
    library = case.compile(decisions).mod
    outputs = [tvm.runtime.tensor(np.full(shape, np.nan, np.float32)) for shape in case.workload.out_shapes]
    library[case.workload.name](*map(tvm.runtime.tensor, case.inputs.values()), *outputs)
    return case.error([output.numpy() for output in outputs])


@pytest.mark.parametrize("workload", SOME, ids=lambda workload: workload.name)
def test_candidates_are_contained_and_right(workload: Workload) -> None:
    case, found = KernelCase(workload, MACHINE, space_of), candidates(workload)
    assert case.space is not None and found and len(found) == len(traces(workload).designs)
    assert all(map(case.space.contains, found))
    usable = list(islice(filter(case.space.builds, random.sample(found, len(found))), 2))
    assert usable
    for decisions in usable:
        assert error_of(case, decisions) <= TOLERANCE
    assert error_of(case, case.space.default) <= TOLERANCE


def test_one_decision_at_a_time_is_taken_or_refused() -> None:
    space = space_of(POINTWISE, MACHINE)
    assert space is not None
    good = candidates(POINTWISE)[0]
    assert space.contains(good) and not list(space.neighbours(good))

    @settings(max_examples=30, deadline=None, database=None)
    @given(st.sampled_from(sorted(good)), st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 70))
    def forged(name: str, value: int) -> None:
        decisions = {**good, name: value}
        if space.contains(decisions) and space.builds(decisions):
            assert name != TRACE or value == good[TRACE]
            tiles = [value for key, value in decisions.items() if key.startswith("tile") and key[:-2] == name[:-2]]
            assert np.prod(tiles) == np.prod([good[key] for key in good if key[:-2] == name[:-2]]) or not tiles

    forged()


@pytest.mark.parametrize(
    "change", [{"sketch": 99}, {"sketch": -1}, {"parallel": 0}, {TRACE: 5}, {"another": 1}, {"tile4.0": 2}]
)
def test_others_are_refused(change: dict[str, int]) -> None:
    space, good = space_of(POINTWISE, MACHINE), candidates(POINTWISE)[0]
    assert space is not None and "tile4.0" in good
    assert not space.contains({**good, **change})


@pytest.mark.parametrize("name", ["sketch", "parallel", "tile4.0", "choice21"])
def test_none_may_be_missing(name: str) -> None:
    space, good = space_of(POINTWISE, MACHINE), candidates(POINTWISE)[0]
    assert space is not None and name in good
    assert not space.contains({key: value for key, value in good.items() if key != name})


def test_other_definitions_have_other_candidates() -> None:
    other = replace(POINTWISE, activation="relu")
    assert not traces(other).contains(candidates(POINTWISE)[0])
    # Threads are no part of a definition: the loops are shared out to as many jobs as were decided.
    one = traces_of(POINTWISE, replace(MACHINE, cores=1))
    assert one is not None and one.contains(candidates(POINTWISE)[0])


def test_kernels_that_look_ahead_have_the_same_candidates() -> None:
    ahead = POINTWISE.with_ahead(((2, 1, 1, 4, 8),))
    good = candidates(POINTWISE)[0]
    case = KernelCase(ahead, MACHINE, space_of)
    assert case.space is not None and case.space.contains(good)
    assert error_of(case, good) <= TOLERANCE


def test_records_are_found_unless_they_are_stale() -> None:
    space, good = space_of(POINTWISE, MACHINE), candidates(POINTWISE)[0]
    assert space is not None

    def record(decisions: Decisions, seconds: float) -> Record:
        facts = {"status": "ok", "cores": 2, "mcpu": MACHINE.mcpu, "lanes": MACHINE.lanes}
        return Record(POINTWISE.name, space.rule, decisions, seconds=seconds, kept=True, **facts)  # type: ignore[arg-type]

    stale = [record({**good, TRACE: 7}, 1e-6), record({**good, "sketch": 50}, 2e-6)]
    source = RecordSource("database", (*stale, record(good, 3e-6), record(space.default, 4e-6)), own=True)
    found = find_record(POINTWISE, MACHINE, space, [source])
    assert found is not None and found[0].decisions == good
    found = find_record(POINTWISE, MACHINE, space, [RecordSource("database", tuple(stale), own=True)])
    assert found is None


def test_gpus_and_kinds_without_a_definition_have_none() -> None:
    assert traces_of(POINTWISE, load_target("cuda-sm90")) is None
    grouped = Conv2d(1, 5, 4, 6, 4, (3, 3), (1, 1), (1, 1, 1, 1), groups=2)
    assert traces_of(grouped, MACHINE) is None
    space = space_of(grouped, MACHINE)
    assert space is not None and not space.contains(candidates(POINTWISE)[0])
    assert not space.builds(candidates(POINTWISE)[0])
