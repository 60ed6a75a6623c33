"""What cuts an image into channels and joins it again becomes one kernel, unless others read what lies between."""

import pytest
from compiling import builder, conv, cut

from effgen.compiler.branches import join_branches
from effgen.compiler.calls import Call, KernelCall, calls_from_graph
from effgen.graph import Graph, GraphBuilder
from effgen.kernels.kinds.concat import Concat
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.interleave import Interleave
from effgen.kernels.kinds.mixed_depthwise import MixedDepthwise


def joined(graph: Graph) -> list[object]:
    """The calls: workloads of kernels, names of operators."""
    calls: tuple[Call, ...] = join_branches(calls_from_graph(graph), graph)
    return [call.workload if isinstance(call, KernelCall) else call.node.op_type for call in calls]


def branches(b: GraphBuilder, image: str, cuts: tuple[tuple[int, int], ...], dense: bool = False) -> list[str]:
    """A depthwise convolution for each of two cuts, 3x3 and 5x5; `dense`: of one group."""
    names = []
    for index, ((start, end), kernel) in enumerate(zip(cuts, (3, 5), strict=True)):
        part = cut(b, image, f"slice{index}", start, end)
        names.append(
            conv(b, part, end - start, f"part{index}", kernel=kernel, stride=2, group=1 if dense else end - start)
        )
    return names


CUTS = ((0, 3), (3, 8))


def test_depthwise_convolutions_of_shares_of_an_image() -> None:
    b = builder()
    whole = b.add("Concat", branches(b, "x", CUTS), "whole", axis=1)
    graph = b.finish(b.add("Swish", [whole], "out"))
    first = Conv2d(1, 9, 9, 3, 3, (3, 3), (2, 2), (1, 1, 1, 1), groups=3, activation="silu")
    second = Conv2d(1, 9, 9, 5, 5, (5, 5), (2, 2), (2, 2, 2, 2), groups=5, activation="silu")
    assert joined(graph) == [MixedDepthwise((first, second))]
    (call,) = join_branches(calls_from_graph(graph), graph)
    assert isinstance(call, KernelCall)
    assert (call.inputs, call.outputs) == (("x",), ("out",))
    assert [layer.weight for layer in call.layers] == ["part0.weight", "part1.weight"]


@pytest.mark.parametrize("change", ["order", "hole", "read", "activation", "dense"])
def test_others_stay_as_they_are(change: str) -> None:
    b = builder()
    cuts = {"order": CUTS[::-1], "hole": ((0, 3), (4, 8))}.get(change, CUTS)
    parts = branches(b, "x", cuts, change == "dense")
    if change == "activation":
        parts[0] = b.add("Relu", parts[:1], "r")
    whole = b.add("Concat", parts, "whole", axis=1)
    read = b.add("Concat", [whole, parts[0]], "out", axis=1) if change == "read" else whole
    found = joined(b.finish(read))
    assert sum(isinstance(item, Concat) for item in found) == (2 if change == "read" else 1)
    assert not any(isinstance(item, MixedDepthwise) for item in found)


def shuffled(b: GraphBuilder, group: int = 2) -> str:
    whole = b.add("Concat", ["x", b.add("Relu", ["x"], "r")], "whole", axis=1)
    return b.add("ChannelShuffle", [whole], "shuffled", group=group)


def test_a_shuffle_of_joined_images_writes_its_slices() -> None:
    b = builder()
    image = shuffled(b)
    first = cut(b, image, "first", 0, 6)
    second = cut(b, image, "second", 6, 16)
    graph = b.finish(b.add("Concat", [second, first], "out", axis=1))
    calls = join_branches(calls_from_graph(graph), graph)
    assert [call.workload for call in calls if isinstance(call, KernelCall)] == [
        Interleave(1, 9, 9, 8, 2, (6, 10)),
        Concat(1, 9, 9, (10, 6)),
    ]
    assert calls[1].outputs == ("first", "second")  # type: ignore[union-attr]


@pytest.mark.parametrize(("start", "middle", "end"), [(0, 8, 14), (2, 8, 16), (0, 7, 16)])
def test_slices_that_leave_something_out_or_cut_through_a_turn_stay(start: int, middle: int, end: int) -> None:
    b = builder()
    image = shuffled(b)
    first = cut(b, image, "first", start, middle)
    second = cut(b, image, "second", middle, end)
    found = joined(b.finish(b.add("Concat", [second, first], "out", axis=1)))
    assert found[:-1] == ["Relu", Interleave(1, 9, 9, 8, 2, (16,)), "Slice", "Slice"]


def test_a_shuffle_of_other_groups_stays() -> None:
    b = builder()
    assert joined(b.finish(shuffled(b, group=4)))[1:] == [Concat(1, 9, 9, (8, 8)), "ChannelShuffle"]
