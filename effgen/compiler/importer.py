"""Graph (as read from the ONNX file) -> Relax: kernel calls over NHWC tensors, packed weights as constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.tirx import PrimFunc

from effgen.compiler.blocks import kernel_calls, typed_calls
from effgen.compiler.calls import Call, KernelCall, Layer, OpCall
from effgen.compiler.codes import parameters_of, stored_codes, with_signed_weights
from effgen.compiler.conv_transpose_as_conv import conv_transpose_as_conv
from effgen.compiler.mean_pool_as_conv import mean_pool_as_conv
from effgen.compiler.operators import OPERATORS, lowered, norm_arrays
from effgen.compiler.repertoire import kernels_for
from effgen.compiler.tensors import NHWC, Tensors
from effgen.errors import GraphError
from effgen.graph import Graph, Weights
from effgen.kernels.packing import pack, weight_shape
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
    graph, weights = conv_transpose_as_conv(with_signed_weights(graph, weights), weights)
    if not kernels_for(machine).mean_windows:
        graph, weights = mean_pool_as_conv(graph, weights)
    return _Importer(graph, weights, machine, kernel, dtype).run()


class _Importer:
    """Calls in their order as Relax: kernels of ours take and give images NHWC, the rest any layout."""

    def __init__(self, graph: Graph, weights: Weights, machine: Machine, kernel: MakeKernel, dtype: str) -> None:
        self.graph = graph
        self.weights = weights
        self.machine = machine
        self.repertoire = kernels_for(machine)
        self.make_kernel = kernel
        dot = self.repertoire.dot
        self.tensors = Tensors(graph, weights, dtype, stored_codes(graph, dot) if dot else {})
        self.builder = self.tensors.builder
        self.kernels: dict[Workload, relax.GlobalVar] = {}
        self.constants: dict[Layer, list[relax.Expr]] = {}
        self.outputs: dict[relax.Expr, relax.Expr] = {}

    def run(self) -> ImportedModule:
        tensors = self.tensors
        calls = typed_calls(kernel_calls(self.graph, self.repertoire), tensors.dtype)
        self.check(calls)
        image = relax.Var(self.graph.input.name, relax.TensorType(self.graph.input.shape, "float32"))
        with self.builder.function(ENTRY, [image]):
            with self.builder.dataflow():
                tensors.put(self.graph.input.name, image)
                for call in calls:
                    self.emit(call)
                outputs = [self.returned(name) for name in self.graph.outputs]
                output = self.builder.emit_output(relax.Tuple(outputs) if len(outputs) > 1 else outputs[0])
            self.builder.emit_func_output(output)
        workloads = {var.name_hint: workload for workload, var in self.kernels.items()}
        return ImportedModule(self.builder.finalize(), workloads)

    def returned(self, name: str) -> relax.Expr:
        """An output, in the graph's layout and float32; outputs that are one tensor are one value.

        Raises GraphError for a view of the image, which is the caller's memory.
        """
        tensors = self.tensors
        value = tensors.unshaped(tensors.declared(name))
        if value not in self.outputs:
            if value.same_as(tensors.raw(self.graph.input.name)):
                raise GraphError(
                    f"output {name}: is the input itself, in another shape: expected what the network computes; "
                    "--outputs can leave it out"
                )
            self.outputs[value] = tensors.converted(value, "float32")
        return self.outputs[value]

    def emit(self, call: Call) -> None:
        if isinstance(call, KernelCall):
            self.kernel_call(call)
        else:
            lowered(self.tensors, call.node)

    def check(self, calls: Sequence[Call]) -> None:
        """Raise GraphError for an operator that has no Relax form here."""
        ours = self.repertoire
        for node in (call.node for call in calls if isinstance(call, OpCall)):
            if node.op_type not in OPERATORS or node.op_type in ours.refused:
                raise GraphError(f"{node.output}: operator {node.op_type} cannot be compiled{ours.where} yet")

    def kernel_call(self, call: KernelCall) -> None:
        tensors, workload = self.tensors, self.looking_ahead(call)
        arguments = [tensors.shaped(self.data_of(call), workload.data_shape)]
        for layer in call.layers:
            arguments += self.packed(layer)
        arguments += self.further_inputs(call)
        arguments += [] if call.read is None else [_constants(call.read.scale, call.read.zero_point)]
        arguments += [] if call.rounded is None else [_constants(1.0 / call.rounded.scale, call.rounded.zero_point)]
        arguments += [] if call.norm is None else [relax.const(array) for array in norm_arrays(tensors, call.norm)]
        arguments += [self.packed(layer)[0] for layer in call.ahead]
        types = [relax.TensorType(output.shape, output.dtype) for output in workload.outputs]
        result = self.builder.emit(
            relax.call_tir(self.kernel(workload), arguments, types if len(types) > 1 else types[0])
        )
        for index, name in enumerate(call.outputs):
            value = result if len(types) == 1 else self.builder.emit(relax.TupleGetItem(result, index))
            self.put_output(name, value)

    def put_output(self, name: str, value: relax.Expr) -> None:
        """A kernel's output is NHWC; what the graph declares with fewer axes (after a Gemm) is reshaped."""
        declared = self.graph.values.get(name)  # None: an output of ours alone, such as row sums
        if declared is None:
            self.tensors.put_ours(name, value)
        elif len(declared.shape) == 4:
            self.tensors.put(name, value, NHWC)
        else:
            self.tensors.put(name, self.tensors.shaped(value, declared.shape))

    def further_inputs(self, call: KernelCall) -> list[relax.Expr]:
        """Gate and residual, or further images; a gate that dense layers made in the network's type is converted."""
        found = [self.tensors.images(name) for name in call.inputs[1:]]
        gate = next((argument for argument in call.workload.inputs if argument.name == "gate"), None)
        if gate is not None:
            found[0] = self.tensors.converted(found[0], gate.dtype)
        return found

    def data_of(self, call: KernelCall) -> relax.Expr:
        if call.workload.data_layout == "NCHW":
            return self.tensors.raw(call.inputs[0])
        return self.tensors.images(call.inputs[0])

    def looking_ahead(self, call: KernelCall) -> Workload:
        """The call's workload, with the shapes of the weights that it asks for ahead."""
        return call.workload.with_ahead(tuple(weight_shape(layer.conv, self.machine) for layer in call.ahead))

    def packed(self, layer: Layer) -> list[relax.Expr]:
        """A layer's parameters as constants, the weight first; the same ones whenever it is asked for."""
        if layer not in self.constants:
            parameters = zip(layer.conv.parameters(), self.parameters(layer), strict=True)
            self.constants[layer] = [
                relax.const(pack(parameter, array, self.machine)) for parameter, array in parameters
            ]
        return self.constants[layer]

    def parameters(self, layer: Layer) -> list[NDArray[Any]]:
        weight, grid = self.weights[layer.weight], self.graph.parameters[layer.weight].grid
        bias = self.weights[layer.bias] if layer.bias else np.zeros(layer.conv.out_channels, np.float32)
        if layer.data is not None:
            assert grid is not None, layer
            return parameters_of(layer, grid, weight, bias)
        # Gemm, transB=1: [out, in] is a 1x1 kernel.
        return [weight[:, :, None, None] if weight.ndim == 2 else weight, bias]

    def kernel(self, workload: Workload) -> relax.GlobalVar:
        if workload not in self.kernels:
            # Opaque to FuseOps: it is finished, nothing may be fused into it.
            func = self.make_kernel(workload).with_attr("op_pattern", 8)
            self.kernels[workload] = self.builder.add_func(func, workload.name)
        return self.kernels[workload]


def _constants(*numbers: float) -> relax.Expr:
    return relax.const(np.array(numbers, np.float32))
