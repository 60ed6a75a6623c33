"""Graph -> kernel calls: which nodes become one kernel, decided on plain data before any compiler is involved.

    Conv or Gemm -> activation -> Add of an earlier tensor     one Conv2d kernel (bias, activation, residual inside)
    Conv -> Add of an earlier tensor -> activation             the same, the activation last
    GlobalAveragePool                                          one kernel
    Mul of an image with one number a channel                  one ChannelScale kernel (of one pixel: on CPUs)
    MaxPool, AveragePool                                       one kernel (on CPUs)
    Concat, BatchNormalization -> activation                   one kernel (on CPUs), what there is of them
    anything else                                              kept as a node, for TVM's operators

A node is drawn into the kernel before it only where nothing else reads the tensor between them. Kernels are joined
further in `effgen.compiler.blocks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from effgen.compiler.repertoire import CPU_KERNELS, Repertoire
from effgen.graph import Graph, Node
from effgen.graph.ops import Shape, integer, ints, is_usual_hard_sigmoid, number
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.concat import Concat
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.kinds.pool2d import Pool2d
from effgen.kernels.workload import Activation, Workload, clip, elu, leaky_relu


@dataclass(frozen=True)
class CodesOf:
    """How a tensor of codes is bytes in memory: (code - zero_point) * scale, of this type."""

    scale: float
    zero_point: int
    type: str


@dataclass(frozen=True)
class Layer:
    """The parameters of one convolution, by name; no bias means zeros. `data`: the codes that it multiplies."""

    conv: Conv2d
    weight: str
    bias: str | None = None
    data: CodesOf | None = None


@dataclass(frozen=True)
class KernelCall:
    """One kernel on named tensors; images travel NHWC between kernels.

    Its arguments: the first of `inputs`, weight and bias of each of `layers`, the other inputs (gate, residual), factor
    and summand of the batch norm `norm` where there is one, how codes are made numbers that it reads beside those of
    layers (`read`) and how the first output is made codes (`rounded`), the outputs. `ahead` are layers of later calls
    whose weights this kernel asks for meanwhile: its last inputs.
    """

    workload: Workload
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[Layer, ...] = ()
    ahead: tuple[Layer, ...] = ()
    norm: Node | None = None
    read: CodesOf | None = None
    rounded: CodesOf | None = None


@dataclass(frozen=True)
class OpCall:
    """A node that no kernel of ours computes."""

    node: Node


Call: TypeAlias = KernelCall | OpCall


def calls_from_graph(graph: Graph, kernels: Repertoire = CPU_KERNELS) -> tuple[Call, ...]:
    """The calls in an order in which they can run; their outputs are tensors of `graph`."""
    return _Fusion(graph, kernels).run()


class _Fusion:
    def __init__(self, graph: Graph, kernels: Repertoire) -> None:
        self.graph = graph
        self.kernels = kernels
        self.position = {node.output: index for index, node in enumerate(graph.nodes)}
        self.uses = graph.uses()
        self.reader = {name: node for node in graph.nodes for name in node.inputs}
        self.absorbed: set[str] = set()

    def run(self) -> tuple[Call, ...]:
        return tuple(self.call(node) for node in self.graph.nodes if node.output not in self.absorbed)

    def call(self, node: Node) -> Call:
        if node.op_type in ("Conv", "Gemm"):
            return self.conv2d(node)
        if node.op_type == "GlobalAveragePool":
            n, c, h, w = self.shape(node.inputs[0])
            return KernelCall(GlobalAveragePool(n, h, w, c), (node.inputs[0],), (node.output,))
        if node.op_type == "Mul":
            return self.channel_scale(node)
        if node.op_type not in self.kernels.operators:
            return OpCall(node)
        return self.pool2d(node) if node.op_type in ("MaxPool", "AveragePool") else self.concat_or_norm(node)

    def conv2d(self, node: Node) -> KernelCall:
        """The kernel takes the activation and the residual that follow."""
        last, activation = self.with_activation(node)
        last, residual = self.with_residual(last, first=node)
        activation_last = False
        if residual is not None and activation == "none":
            last, activation = self.with_activation(last)
            activation_last = activation != "none"
        data, weight = node.inputs[:2]
        workload = self.workload(node, activation, residual is not None, activation_last)
        bias = node.inputs[2] if len(node.inputs) == 3 else None
        inputs = (data,) if residual is None else (data, residual)
        return KernelCall(workload, inputs, (last.output,), (Layer(workload, weight, bias),))

    def with_activation(self, node: Node) -> tuple[Node, Activation]:
        follower = self.only_reader(node)
        activation = activation_of(follower) if follower else None
        if follower is None or activation is None:
            return node, "none"
        self.absorbed.add(follower.output)
        return follower, activation

    def with_residual(self, node: Node, first: Node) -> tuple[Node, str | None]:
        add = self.only_reader(node)
        if add is None or add.op_type != "Add" or add.inputs[0] == add.inputs[1]:
            return node, None
        other = add.inputs[0] if add.inputs[1] == node.output else add.inputs[1]
        # The kernel runs where its convolution stands: the residual must exist by then.
        ready = other in self.position and self.position[other] < self.position[first.output]
        if not ready or self.shape(other) != self.shape(node.output) or len(self.shape(other)) != 4:
            return node, None
        self.absorbed.add(add.output)
        return add, other

    def only_reader(self, node: Node) -> Node | None:
        return self.reader[node.output] if self.uses[node.output] == 1 and node.output in self.reader else None

    def workload(self, node: Node, activation: Activation, residual: bool, activation_last: bool) -> Conv2d:
        data, weight = self.shape(node.inputs[0]), self.shape(node.inputs[1])
        if node.op_type == "Gemm":
            return Conv2d(data[0], 1, 1, data[1], weight[0], activation=activation, residual=residual)
        layout_is_image = node.inputs[0] == self.graph.input.name
        top, left, bottom, right = ints(node.attributes, "pads", (0, 0, 0, 0))
        stride = ints(node.attributes, "strides", (1, 1))
        # One tap has no distance to another.
        spread = ints(node.attributes, "dilations", (1, 1))
        dilation = _pair(tuple(d if taps > 1 else 1 for d, taps in zip(spread, weight[2:], strict=True)))
        return Conv2d(
            batch=data[0],
            height=data[2],
            width=data[3],
            in_channels=data[1],
            out_channels=weight[0],
            kernel=(weight[2], weight[3]),
            stride=_pair(stride),
            padding=(top, left, bottom, right),
            groups=integer(node.attributes, "group", 1),
            dilation=dilation,
            data_layout="NCHW" if layout_is_image else "NHWC",
            activation=activation,
            residual=residual,
            activation_last=activation_last,
        )

    def pool2d(self, node: Node) -> Call:
        return KernelCall(pool2d_of(node, self.shape(node.inputs[0])), (node.inputs[0],), (node.output,))

    def concat_or_norm(self, node: Node) -> Call:
        """Images joined and the batch norm that follows, or a batch norm alone; then the activation that follows."""
        shape, inputs = self.shape(node.output), node.inputs
        if (
            len(shape) != 4
            or integer(node.attributes, "axis", 1) != 1
            or self.graph.parameters.keys() & set(_images(node))
        ):
            return OpCall(node)
        last, norm = node, None
        if node.op_type == "BatchNormalization":
            norm, inputs = node, node.inputs[:1]
        elif (follower := self.only_reader(node)) is not None and follower.op_type == "BatchNormalization":
            last = norm = follower
            self.absorbed.add(follower.output)
        activation: Activation = "none"
        following = self.only_reader(last)
        found = activation_of(following) if following else None
        if following is not None and found is not None:
            last, activation = following, found
            self.absorbed.add(following.output)
        parts = tuple(self.shape(name)[1] for name in inputs)
        workload = Concat(shape[0], shape[2], shape[3], parts, norm is not None, activation)
        return KernelCall(workload, inputs, (last.output,), norm=norm)

    def channel_scale(self, node: Node) -> Call:
        for data, gate in (node.inputs, node.inputs[::-1]):
            shape = self.shape(data)
            if {data, gate} & self.graph.parameters.keys():
                continue  # a constant: TVM takes it into what is around
            is_image = len(shape) == 4 and (shape[2:] != (1, 1) or self.kernels.gates_one_pixel)
            if is_image and self.shape(gate) == (*shape[:2], 1, 1):
                n, c, h, w = shape
                return KernelCall(ChannelScale(n, h, w, c), (data, gate), (node.output,))
        return OpCall(node)

    def shape(self, name: str) -> Shape:
        return self.graph.values[name].shape


def _images(node: Node) -> tuple[str, ...]:
    """What a Concat or a batch norm joins or normalises."""
    return node.inputs if node.op_type == "Concat" else node.inputs[:1]


def activation_of(node: Node) -> Activation | None:
    """The epilogue that computes `node`, or None where no epilogue does."""
    if node.op_type == "Clip":
        low, high = number(node.attributes, "min"), number(node.attributes, "max")
        return "relu6" if (low, high) == (0.0, 6.0) else clip(low, high)
    if node.op_type in ("LeakyRelu", "Elu"):
        alpha = number(node.attributes, "alpha")
        return leaky_relu(alpha) if node.op_type == "LeakyRelu" else elu(alpha)
    if node.op_type == "Gelu":
        return "gelu_tanh" if str(node.attributes["approximate"]) == "tanh" else "gelu"
    if node.op_type == "HardSigmoid":
        return "hard_sigmoid" if is_usual_hard_sigmoid(node.attributes) else None
    return _ACTIVATIONS.get(node.op_type)


def pool2d_of(node: Node, shape: Shape) -> Pool2d:
    """The kernel of a MaxPool or AveragePool over an image of `shape` (NCHW)."""
    n, c, h, w = shape
    pads = ints(node.attributes, "pads", (0, 0, 0, 0))
    counted = (0, 0, 0, 0)
    if node.op_type == "AveragePool" and integer(node.attributes, "count_include_pad", 0):
        down, across = ints(node.attributes, "beyond", (0, 0))
        counted = (pads[0], pads[1], pads[2] - down, pads[3] - across)
    return Pool2d(
        mode="max" if node.op_type == "MaxPool" else "average",
        batch=n,
        height=h,
        width=w,
        channels=c,
        kernel=_pair(ints(node.attributes, "kernel_shape", (1, 1))),
        stride=_pair(ints(node.attributes, "strides", (1, 1))),
        padding=(pads[0], pads[1], pads[2], pads[3]),
        counted=counted,
        dilation=_pair(ints(node.attributes, "dilations", (1, 1))),
    )


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    first, second = values
    return first, second


_ACTIVATIONS: dict[str, Activation] = {
    "Swish": "silu",
    "Sigmoid": "sigmoid",
    "Relu": "relu",
    "HardSwish": "hard_swish",
    "Mish": "mish",
    "Tanh": "tanh",
}
