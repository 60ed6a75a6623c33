"""Which nodes become one kernel."""

from dataclasses import replace

import pytest

from effgen.compiler.calls import KernelCall, OpCall, calls_from_graph
from effgen.compiler.repertoire import GPU_KERNELS
from effgen.graph import GraphBuilder, Value
from effgen.graph.passes.fold_batchnorm import fold_batchnorm
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.concat import Concat
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.kinds.pool2d import Pool2d
from effgen.network import NetworkRequest, build_network
from effgen.network.weights import initial_weights


def builder(channels: int = 8) -> GraphBuilder:
    return GraphBuilder("test", Value("x", (1, channels, 6, 6)))


def conv(b: GraphBuilder, x: str, out: int, name: str) -> str:
    weight = b.parameter(f"{name}.weight", (out, b.shape(x)[1], 1, 1), "kernel")
    return b.add("Conv", [x, weight], name, group=1, pads=(0, 0, 0, 0), strides=(1, 1))


def summary(calls):
    """(kind, output) of every call."""
    return [
        (type(call.workload).__name__, *call.outputs)
        if isinstance(call, KernelCall)
        else (call.node.op_type, call.node.output)
        for call in calls
    ]


def test_efficientnet_is_kernels_only():
    network = build_network(NetworkRequest())
    graph, _ = fold_batchnorm(network.graph, initial_weights(network.graph, 0))
    calls = calls_from_graph(graph)
    assert [call.node.op_type for call in calls if isinstance(call, OpCall)] == ["Flatten"]
    kernels = [call for call in calls if isinstance(call, KernelCall)]
    assert sum(call.workload.macs for call in kernels if isinstance(call.workload, Conv2d)) == graph.macs
    assert sum(call.workload.residual for call in kernels if isinstance(call.workload, Conv2d)) == 9
    assert sum(isinstance(call.workload, ChannelScale) for call in kernels) == 16
    assert sum(isinstance(call.workload, GlobalAveragePool) for call in kernels) == 17
    assert kernels[0].workload.data_layout == "NCHW"
    assert kernels[-1].workload.family == "dense"


def test_activation_and_residual_join_the_convolution():
    b = builder()
    first = b.add("Relu", [conv(b, "x", 8, "a")], "a.relu")
    second = b.add("Swish", [conv(b, first, 8, "b")], "b.silu")
    calls = calls_from_graph(b.finish(b.add("Add", [second, first], "sum")))
    assert summary(calls) == [("Conv2d", "a.relu"), ("Conv2d", "sum")]
    assert calls[1].inputs == ("a.relu", "a.relu")
    assert [(layer.conv, layer.weight, layer.bias) for layer in calls[1].layers] == [
        (calls[1].workload, "b.weight", None)
    ]
    assert (calls[1].workload.activation, calls[1].workload.residual) == ("silu", True)


def test_residual_may_come_before_the_activation():
    b = builder()
    first = b.add("Relu", [conv(b, "x", 8, "a")], "a.relu")
    total = b.add("Add", [first, conv(b, first, 8, "b")], "sum")
    calls = calls_from_graph(b.finish(conv(b, b.add("Relu", [total], "sum.relu"), 8, "c")))
    assert summary(calls) == [("Conv2d", "a.relu"), ("Conv2d", "sum.relu"), ("Conv2d", "c")]
    workload = calls[1].workload
    assert (workload.activation, workload.residual, workload.activation_last) == ("relu", True, True)
    assert calls[1].inputs == ("a.relu", "a.relu")


def test_sum_that_is_read_twice_is_stored_before_its_activation():
    b = builder()
    a = b.add("Relu", [conv(b, "x", 8, "a")], "r")
    total = b.add("Add", [conv(b, a, 8, "b"), a], "sum")
    calls = calls_from_graph(b.finish(b.add("Add", [b.add("Relu", [total], "sum.relu"), total], "out")))
    assert summary(calls) == [("Conv2d", "r"), ("Conv2d", "sum"), ("Relu", "sum.relu"), ("Add", "out")]
    assert not calls[1].workload.activation_last


def test_one_residual_is_added_once():
    b = builder()
    first = b.add("Relu", [conv(b, "x", 8, "a")], "a.relu")
    inner = b.add("Add", [conv(b, first, 8, "b"), first], "inner")
    calls = calls_from_graph(b.finish(b.add("Add", [b.add("Relu", [inner], "r"), first], "out")))
    assert summary(calls) == [("Conv2d", "a.relu"), ("Conv2d", "r"), ("Add", "out")]


def test_tensor_read_twice_is_kept():
    b = builder()
    a = conv(b, "x", 8, "a")
    calls = calls_from_graph(b.finish(b.add("Mul", [b.add("Relu", [a], "r"), a], "out")))
    assert summary(calls) == [("Conv2d", "a"), ("Relu", "r"), ("Mul", "out")]


def test_output_of_the_graph_is_kept():
    b = builder()
    a = conv(b, "x", 8, "a")
    r = b.add("Relu", [a], "r")
    whole = b.finish(b.add("Relu", [r], "end"))
    calls = calls_from_graph(replace(whole, nodes=whole.nodes[:2], outputs=(a,)))
    assert summary(calls) == [("Conv2d", "a"), ("Relu", "r")]


def test_residual_that_is_computed_later_is_not_taken():
    b = builder()
    left = conv(b, "x", 8, "left")
    right = conv(b, "x", 8, "right")
    calls = calls_from_graph(b.finish(b.add("Add", [left, right], "sum")))
    assert summary(calls) == [("Conv2d", "left"), ("Conv2d", "sum")]
    assert calls[1].inputs == ("x", "left")


def test_adding_a_tensor_to_itself_or_broadcasting_is_an_operator():
    b = builder()
    a = conv(b, "x", 8, "a")
    calls = calls_from_graph(b.finish(b.add("Add", [a, a], "twice")))
    assert summary(calls) == [("Conv2d", "a"), ("Add", "twice")]
    b = builder()
    pooled = b.add("GlobalAveragePool", ["x"], "pool")
    calls = calls_from_graph(b.finish(b.add("Add", [conv(b, "x", 8, "a"), pooled], "sum")))
    assert summary(calls) == [("GlobalAveragePool", "pool"), ("Conv2d", "a"), ("Add", "sum")]


def test_gate_may_stand_on_either_side():
    for order in ((0, 1), (1, 0)):
        b = builder()
        operands = ["x", b.add("Sigmoid", [b.add("GlobalAveragePool", ["x"], "pool")], "gate")]
        calls = calls_from_graph(b.finish(b.add("Mul", [operands[i] for i in order], "out")))
        assert summary(calls)[-1] == ("ChannelScale", "out")
        assert (calls[-1].inputs, calls[-1].layers) == (("x", "gate"), ())


def test_a_gate_of_one_pixel_is_a_kernel_on_cpus():
    b = GraphBuilder("test", Value("x", (1, 8, 1, 1)))
    graph = b.finish(b.add("Mul", ["x", b.add("Sigmoid", ["x"], "gate")], "out"))
    assert summary(calls_from_graph(graph))[-1] == ("ChannelScale", "out")
    assert summary(calls_from_graph(graph, GPU_KERNELS))[-1] == ("Mul", "out")


def batch_norm(b: GraphBuilder, x: str, name: str) -> str:
    channels = (b.shape(x)[1],)
    roles = ("norm_scale", "norm_bias", "norm_mean", "norm_var")
    parameters = [b.parameter(f"{name}.{role}", channels, role) for role in roles]
    return b.add("BatchNormalization", [x, *parameters], name, epsilon=1e-5)


def test_batch_norm_and_activation_join_the_concat():
    b = builder()
    joined = b.add("Concat", ["x", b.add("Relu", ["x"], "r")], "joined", axis=1)
    out = b.add("Relu", [batch_norm(b, joined, "norm")], "out")
    calls = calls_from_graph(b.finish(out))
    assert summary(calls) == [("Relu", "r"), ("Concat", "out")]
    assert calls[1].workload == Concat(1, 6, 6, (8, 8), affine=True, activation="relu")
    assert calls[1].inputs == ("x", "r") and calls[1].norm.output == "norm"


def test_batch_norm_alone_is_a_kernel_and_keeps_what_others_read():
    b = builder()
    norm = batch_norm(b, "x", "norm")
    calls = calls_from_graph(b.finish(b.add("Add", [b.add("Relu", [norm], "r"), norm], "sum")))
    assert summary(calls) == [("Concat", "norm"), ("Relu", "r"), ("Add", "sum")]
    assert calls[0].workload == Concat(1, 6, 6, (8,), affine=True)


def test_an_activation_that_scales_weights_joins_a_concat_too():
    b = builder()
    joined = b.add("Concat", ["x", "x"], "joined", axis=1)
    (call,) = calls_from_graph(b.finish(b.add("Swish", [joined], "s")))
    assert call.workload == Concat(1, 6, 6, (8, 8), activation="silu")


@pytest.mark.parametrize(
    ("op", "attributes", "activation"),
    [
        ("LeakyRelu", {"alpha": 0.1}, "leaky_relu_0p1"),
        ("Elu", {"alpha": 1.0}, "elu_1p0"),
        ("Clip", {"min": 0.0, "max": 6.0}, "relu6"),
        ("Clip", {"min": -1.5, "max": float("inf")}, "clip_m1p5_inf"),
        ("Gelu", {"approximate": "tanh"}, "gelu_tanh"),
        ("Gelu", {"approximate": "none"}, "gelu"),
        ("Mish", {}, "mish"),
        ("Tanh", {}, "tanh"),
    ],
)
def test_activations_end_a_convolution(op, attributes, activation):
    b = builder()
    (call,) = calls_from_graph(b.finish(b.add(op, [conv(b, "x", 8, "a")], "out", **attributes)))
    assert call.workload.activation == activation and call.outputs == ("out",)


def test_pools_by_windows():
    b = builder()
    window = {"kernel_shape": (3, 2), "pads": (1, 0, 2, 1), "strides": (2, 1)}
    largest = b.add("MaxPool", ["x"], "m", dilations=(1, 2), **window)
    mean = b.add("AveragePool", [largest], "a", count_include_pad=1, beyond=(1, 0), **window)
    graph = b.finish(mean)
    calls = calls_from_graph(graph)
    padding = (1, 0, 2, 1)
    assert calls[0].workload == Pool2d("max", 1, 6, 6, 8, (3, 2), (2, 1), padding, dilation=(1, 2))
    height, width = graph.values["m"].shape[2:]
    assert calls[1].workload == Pool2d("average", 1, height, width, 8, (3, 2), (2, 1), padding, (1, 0, 1, 1))
    assert summary(calls_from_graph(graph, GPU_KERNELS)) == [("MaxPool", "m"), ("AveragePool", "a")]


def test_a_constant_is_no_gate():
    b = builder()
    scale = b.parameter("scale", (1, 8, 1, 1), "constant")
    assert summary(calls_from_graph(b.finish(b.add("Mul", ["x", scale], "out")))) == [("Mul", "out")]
