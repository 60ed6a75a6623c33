"""Graph (as read from the ONNX file) -> Relax: kernel calls over NHWC tensors, packed weights as constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.tirx import PrimFunc

from effgen.compiler.blocks import kernel_calls, typed_calls
from effgen.compiler.calls import Call, KernelCall, Layer, OpCall, pool2d_of
from effgen.compiler.mean_pool_as_conv import mean_pool_as_conv
from effgen.compiler.repertoire import kernels_for
from effgen.errors import GraphError
from effgen.graph import Graph, Node, Weights
from effgen.graph.ops import Shape, number
from effgen.kernels.packing import pack_bias, pack_weight, weight_shape
from effgen.kernels.workload import Workload
from effgen.machines.machine import Machine

ENTRY = "main"
# The scheduled kernel of a workload, named like it.
MakeKernel: TypeAlias = Callable[[Workload], PrimFunc]


@dataclass(frozen=True)
class ImportedModule:
    """An IRModule whose `main` takes the image NCHW, and what each of its kernels computes, by function name."""

    mod: tvm.IRModule
    workloads: Mapping[str, Workload]


def relax_from_graph(
    graph: Graph, weights: Weights, machine: Machine, kernel: MakeKernel, dtype: str = "float32"
) -> ImportedModule:
    """One Relax function `main(image) -> output`, a tuple where there are several; kernels are as `kernel` makes them,
    equal workloads share one.

    An output may have another shape of the same size, and several may be one tensor.
    Weights are packed for `machine`'s vectors. Images are NHWC between kernels; the entry image stays NCHW. Between the
    entry image and the outputs, which are float32, activations and weights are of type `dtype`.
    Raises GraphError for an operator that has no Relax form here.
    """
    if not kernels_for(machine).mean_windows:
        graph, weights = mean_pool_as_conv(graph, weights)
    return _Importer(graph, weights, machine, kernel, dtype).run()


class _Importer:
    """`tensors` maps a graph tensor to its Relax value: NHWC where 4-D (but the entry image), else as it is."""

    def __init__(self, graph: Graph, weights: Weights, machine: Machine, kernel: MakeKernel, dtype: str) -> None:
        self.graph = graph
        self.dtype = dtype
        self.weights = weights
        self.machine = machine
        self.repertoire = kernels_for(machine)
        self.make_kernel = kernel
        self.builder = relax.BlockBuilder()
        self.tensors: dict[str, relax.Expr] = {}
        self.kernels: dict[Workload, relax.GlobalVar] = {}
        self.constants: dict[Layer, tuple[relax.Expr, relax.Expr]] = {}
        self.outputs: dict[relax.Expr, relax.Expr] = {}

    def run(self) -> ImportedModule:
        calls = typed_calls(kernel_calls(self.graph, self.repertoire), self.dtype)
        self.check(calls)
        image = relax.Var(self.graph.input.name, relax.TensorType(self.graph.input.shape, "float32"))
        with self.builder.function(ENTRY, [image]):
            with self.builder.dataflow():
                self.tensors[self.graph.input.name] = image
                for call in calls:
                    self.emit(call)
                outputs = [self.returned(name) for name in self.graph.outputs]
                output = self.builder.emit_output(relax.Tuple(outputs) if len(outputs) > 1 else outputs[0])
            self.builder.emit_func_output(output)
        workloads = {var.name_hint: workload for workload, var in self.kernels.items()}
        return ImportedModule(self.builder.finalize(), workloads)

    def emit(self, call: Call) -> None:
        if isinstance(call, KernelCall):
            self.kernel_call(call)
            return
        if call.node.op_type == "Identity":
            self.tensors[call.node.output] = self.tensors[call.node.inputs[0]]
            return
        self.tensors[call.node.output] = self.builder.emit(_OPS[call.node.op_type](self, call.node))

    def check(self, calls: Sequence[Call]) -> None:
        """Raise GraphError for an operator that has no Relax form here."""
        ours = self.repertoire
        for node in (call.node for call in calls if isinstance(call, OpCall)):
            if node.op_type not in {*_OPS, "Identity"} or node.op_type in ours.refused:
                raise GraphError(f"{node.output}: operator {node.op_type} cannot be compiled{ours.where} yet")

    def kernel_call(self, call: KernelCall) -> None:
        workload = self.looking_ahead(call)
        arguments = [self.shaped(self.data_of(call), workload.data_shape)]
        for layer in call.layers:
            arguments += self.packed(layer)
        arguments += self.further_inputs(call)
        arguments += [] if call.norm is None else [relax.const(array) for array in self.norm_arrays(call.norm)]
        arguments += [self.packed(layer)[0] for layer in call.ahead]
        types = [relax.TensorType(output.shape, output.dtype) for output in workload.outputs]
        result = self.builder.emit(
            relax.call_tir(self.kernel(workload), arguments, types if len(types) > 1 else types[0])
        )
        for index, name in enumerate(call.outputs):
            value = result if len(types) == 1 else self.builder.emit(relax.TupleGetItem(result, index))
            self.tensors[name] = self.shaped_as_declared(value, name)

    def further_inputs(self, call: KernelCall) -> list[relax.Expr]:
        """Gate and residual, or further images; a gate that dense layers made in the network's type is converted."""
        found = [self.nhwc(name) for name in call.inputs[1:]]
        gate = next((argument for argument in call.workload.inputs if argument.name == "gate"), None)
        if gate is not None:
            found[0] = self.converted(found[0], gate.dtype)
        return found

    def shaped_as_declared(self, value: relax.Expr, name: str) -> relax.Expr:
        """A kernel's output is 4-D; what the graph declares with fewer axes (after a Gemm) is reshaped."""
        declared = self.graph.values.get(name)  # None: an output of ours alone, such as row sums
        return value if declared is None or len(declared.shape) == 4 else self.shaped(value, declared.shape)

    def data_of(self, call: KernelCall) -> relax.Expr:
        if call.workload.data_layout == "NCHW":
            return self.tensors[call.inputs[0]]
        return self.nhwc(call.inputs[0])

    def looking_ahead(self, call: KernelCall) -> Workload:
        """The call's workload, with the shapes of the weights that it asks for ahead."""
        return call.workload.with_ahead(tuple(weight_shape(layer.conv, self.machine) for layer in call.ahead))

    def packed(self, layer: Layer) -> tuple[relax.Expr, relax.Expr]:
        """Weight and bias of a layer as constants; the same ones whenever it is asked for."""
        if layer not in self.constants:
            weight = self.weights[layer.weight]
            if weight.ndim == 2:  # Gemm, transB=1: [out, in] is a 1x1 kernel
                weight = weight[:, :, None, None]
            bias = self.weights[layer.bias] if layer.bias else np.zeros(layer.conv.out_channels, np.float32)
            packed = pack_weight(layer.conv, weight, self.machine), pack_bias(layer.conv, bias, self.machine)
            self.constants[layer] = (relax.const(packed[0]), relax.const(packed[1]))
        return self.constants[layer]

    def kernel(self, workload: Workload) -> relax.GlobalVar:
        if workload not in self.kernels:
            # Opaque to FuseOps: it is finished, nothing may be fused into it.
            func = self.make_kernel(workload).with_attr("op_pattern", 8)
            self.kernels[workload] = self.builder.add_func(func, workload.name)
        return self.kernels[workload]

    def operand(self, name: str) -> relax.Expr:
        """A tensor or a parameter, NHWC where it is 4-D."""
        if name in self.graph.parameters:
            array: NDArray[np.float32] = self.weights[name]
            array = np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array
            return relax.const(array.astype(self.dtype, copy=False))
        return self.nhwc(name)

    def nhwc(self, name: str) -> relax.Expr:
        if name != self.graph.input.name:
            return self.tensors[name]
        image = self.converted(self.tensors[name], self.dtype)
        return self.permuted(image, self.graph.input.shape, (0, 2, 3, 1)) if len(self.graph.input.shape) == 4 else image

    def as_declared(self, name: str) -> relax.Expr:
        """The tensor in the graph's own layout (NCHW)."""
        shape = self.graph.values[name].shape
        if len(shape) != 4 or name == self.graph.input.name:
            return self.tensors[name]
        n, c, h, w = shape
        return self.permuted(self.tensors[name], (n, h, w, c), (0, 3, 1, 2))

    def permuted(self, value: relax.Expr, shape: Shape, axes: Shape) -> relax.Expr:
        """A transposed tensor; where only ones move it is a reshape, which costs nothing."""
        moved = [axis for axis in axes if shape[axis] != 1]
        if moved == sorted(moved):
            return self.shaped(value, tuple(shape[axis] for axis in axes))
        return self.builder.emit(relax.op.permute_dims(value, axes))

    def converted(self, value: relax.Expr, dtype: str) -> relax.Expr:
        if value.ty.dtype == dtype:
            return value
        return self.builder.emit(relax.op.astype(value, dtype))

    def shaped(self, value: relax.Expr, shape: Shape) -> relax.Expr:
        if tuple(int(extent) for extent in value.ty.shape) == tuple(shape):
            return value
        return self.builder.emit(relax.op.reshape(value, shape))

    def returned(self, name: str) -> relax.Expr:
        """An output, in the graph's layout and float32; outputs that are one tensor are one value."""
        value = self.unshaped(self.as_declared(name))
        if value not in self.outputs:
            self.outputs[value] = self.converted(value, "float32")
        return self.outputs[value]

    def unshaped(self, value: relax.Expr) -> relax.Expr:
        """What a reshape was made of. The entry's arrays are flat, but reshaping what is returned would be a copy."""
        made = self.builder.lookup_binding(value) if isinstance(value, relax.Var) else None
        while isinstance(made, relax.Call) and getattr(made.op, "name", "") == "relax.reshape":
            value = made.args[0]
            made = self.builder.lookup_binding(value)
        return value

    def flatten(self, node: Node) -> relax.Expr:
        return self.shaped(self.as_declared(node.inputs[0]), self.graph.values[node.output].shape)

    def batchnorm(self, node: Node) -> relax.Expr:
        """As a multiply-add along the last (channel) axis."""
        factor, summand = (relax.const(array.astype(self.dtype)) for array in self.norm_arrays(node))
        scaled = self.builder.emit(relax.op.multiply(self.operand(node.inputs[0]), factor))
        return relax.op.add(scaled, summand)

    def norm_arrays(self, node: Node) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What a batch norm multiplies by and adds, a number a channel each."""
        scale, shift, mean, var = (self.weights[name].astype(np.float64) for name in node.inputs[1:])
        factor = scale / np.sqrt(var + number(node.attributes, "epsilon"))
        return factor.astype(np.float32), (shift - mean * factor).astype(np.float32)

    def max_pool(self, node: Node) -> relax.Expr:
        pool = pool2d_of(node, self.graph.values[node.inputs[0]].shape)
        return relax.op.nn.max_pool2d(
            self.operand(node.inputs[0]), pool.kernel, pool.stride, pool.padding, pool.dilation, layout="NHWC"
        )

    def concat(self, node: Node) -> relax.Expr:
        tensors = [self.operand(name) for name in node.inputs]
        return relax.op.concat(tensors, axis=3 if len(self.graph.values[node.output].shape) == 4 else 1)

    def slice(self, node: Node) -> relax.Expr:
        start, end = (int(number(node.attributes, key)) for key in ("start", "end"))
        return relax.op.strided_slice(self.operand(node.inputs[0]), [3], [start], [end])

    def shuffle(self, node: Node) -> relax.Expr:
        n, c, h, w = self.graph.values[node.output].shape
        group = int(number(node.attributes, "group"))
        split = self.builder.emit(relax.op.reshape(self.operand(node.inputs[0]), (n, h, w, group, c // group)))
        swapped = self.builder.emit(relax.op.permute_dims(split, (0, 1, 2, 4, 3)))
        return relax.op.reshape(swapped, (n, h, w, c))

    def hard_sigmoid(self, x: relax.Expr, alpha: float, beta: float) -> relax.Expr:
        line = relax.op.add(relax.op.multiply(x, relax.const(alpha, self.dtype)), relax.const(beta, self.dtype))
        return relax.op.clip(self.builder.emit(line), 0, 1)

    def hard_swish(self, node: Node) -> relax.Expr:
        x = self.operand(node.inputs[0])
        return relax.op.multiply(x, self.builder.emit(self.hard_sigmoid(x, 1 / 6, 0.5)))


def _unary(op: Callable[[relax.Expr], relax.Expr]) -> Callable[[_Importer, Node], relax.Expr]:
    return lambda importer, node: op(importer.operand(node.inputs[0]))


def _binary(op: Callable[[relax.Expr, relax.Expr], relax.Expr]) -> Callable[[_Importer, Node], relax.Expr]:
    return lambda importer, node: op(*(importer.operand(name) for name in node.inputs))


_OPS: Mapping[str, Callable[[_Importer, Node], relax.Expr]] = {
    "Add": _binary(relax.op.add),
    "Mul": _binary(relax.op.multiply),
    "Relu": _unary(relax.op.nn.relu),
    "Sigmoid": _unary(relax.op.sigmoid),
    "Swish": _unary(relax.op.nn.silu),
    "Clip": lambda importer, node: relax.op.clip(
        importer.operand(node.inputs[0]), number(node.attributes, "min"), number(node.attributes, "max")
    ),
    "HardSigmoid": lambda importer, node: importer.hard_sigmoid(
        importer.operand(node.inputs[0]), number(node.attributes, "alpha"), number(node.attributes, "beta")
    ),
    "HardSwish": _Importer.hard_swish,
    "LeakyRelu": lambda importer, node: relax.op.nn.leakyrelu(
        importer.operand(node.inputs[0]), number(node.attributes, "alpha")
    ),
    "Softmax": lambda importer, node: relax.op.nn.softmax(importer.operand(node.inputs[0]), axis=1),
    "BatchNormalization": _Importer.batchnorm,
    "MaxPool": _Importer.max_pool,
    "Concat": _Importer.concat,
    "Slice": _Importer.slice,
    "ChannelShuffle": _Importer.shuffle,
    "Flatten": _Importer.flatten,
}
