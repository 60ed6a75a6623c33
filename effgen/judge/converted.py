"""Peers that read a format of their own: the bundle's ONNX file is converted, or compiled, first, outside the timing.

Each is held to float32. Nothing here is imported before its peer is asked for; what a conversion writes goes with it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from effgen.errors import EffgenError
from effgen.files.temporary import temporary_folder
from effgen.judge.job import PeerJob, Run
from effgen.machines.programs import tool_output
from effgen.machines.target import this_cpu
from effgen.runtime.answers import Answer, answer_of


def mnn(job: PeerJob) -> Run:
    """Alibaba's MNN. Its converter is called as the extension module that it is: the package around it runs pip
    when it is imported (findings/mnn_converter_installs_packages.sh)."""
    import _tools
    import MNN
    import MNN.expr

    graph = job.graph[0]
    with temporary_folder("mnn") as folder:
        file = str(folder / "model.mnn")
        words = ["-f", "ONNX", "--modelFile", str(job.model), "--MNNModel", file, "--bizCode", "effgen"]
        _tools.mnnconvert(["mnnconvert", *words])
        settings = {"backend": "CPU", "precision": "high", "numThread": job.threads}
        manager = MNN.nn.create_runtime_manager((settings,))
        names = [graph.input.name], list(graph.outputs)
        module = MNN.nn.load_module_from_file(file, *names, runtime_manager=manager)
        image = MNN.expr.const(job.image, list(job.image.shape), MNN.expr.NCHW)

        def run() -> Answer:
            found = module.onForward([image])
            return answer_of([np.array(MNN.expr.convert(output, MNN.expr.NCHW).read()) for output in found])

        run()
        return run


def ncnn(job: PeerJob) -> Run:
    """Tencent's ncnn, by pnnx. It has no batches."""
    import ncnn
    import pnnx

    if len(job.image) != 1:
        raise EffgenError(f"takes one image at a time, this bundle {len(job.image)}")
    with temporary_folder("ncnn") as folder:
        # It writes beside what it reads.
        (folder / "model.onnx").symlink_to(job.model.resolve())
        shape = ",".join(map(str, job.image.shape))
        command = [pnnx.EXEC_PATH, folder / "model.onnx", f"inputshape=[{shape}]f32", "fp16=0"]
        tool_output(command, "pnnx cannot convert the model")
        net = ncnn.Net()
        _hold_to_float32(net.opt)
        net.opt.num_threads = job.threads
        if net.load_param(str(folder / "model.ncnn.param")) or net.load_model(str(folder / "model.ncnn.bin")):
            raise EffgenError("ncnn cannot load what pnnx made of the model")
    (name,), outputs = net.input_names(), net.output_names()
    image = ncnn.Mat(np.ascontiguousarray(job.image[0])).clone()  # else it is numpy's memory, which nobody keeps

    def run() -> Answer:
        extractor = net.create_extractor()
        extractor.input(name, image)
        return answer_of([np.array(extractor.extract(output)[1])[None] for output in outputs])

    return run


def _hold_to_float32(options: Any) -> None:
    options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = options.use_bf16_storage = False


def iree(job: PeerJob) -> Run:
    """IREE's compiler for this CPU, and its runtime of tasks."""
    import iree.compiler
    import iree.runtime
    from iree.compiler.tools.import_onnx import __main__ as importer

    with temporary_folder("iree") as folder:
        imported = folder / "model.mlir"
        importer.main(importer.parse_arguments([str(job.model), "-o", str(imported)]))
        flags = ["--iree-llvmcpu-target-cpu=host", "--iree-opt-level=O3"]
        code = iree.compiler.compile_file(str(imported), target_backends=["llvm-cpu"], extra_args=flags)
    iree.runtime.flags.parse_flags(f"--task_topology_group_count={job.threads}")
    context = iree.runtime.SystemContext(config=iree.runtime.Config("local-task"))
    module = iree.runtime.VmModule.copy_buffer(context.instance, code)
    context.add_vm_module(module)
    # Beside it there are its asynchronous form, `NAME$async`, and `__init`.
    (name,) = (each for each in module.function_names if "$" not in each and not each.startswith("__"))
    function = context.modules[module.name][name]
    image = iree.runtime.asdevicearray(context.config.device, job.image)

    def run() -> Answer:
        found = function(image)
        return answer_of([each.to_host() for each in (found if isinstance(found, tuple | list) else [found])])

    return run


def executorch(job: PeerJob) -> Run:
    """PyTorch's ExecuTorch, on XNNPACK."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    from effgen.graph.reference import GraphModule

    image = torch.from_numpy(job.image)
    exported = torch.export.export(GraphModule(*job.graph).eval(), (image,))
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    with temporary_folder("executorch") as folder:
        file = Path(folder) / "model.pte"
        file.write_bytes(lowered.buffer)
        portable_lib._unsafe_reset_threadpool(job.threads)
        method = Runtime.get().load_program(str(file)).load_method("forward")

    def run() -> Answer:
        return answer_of([output.numpy() for output in method.execute([image])])

    return run


def litert(job: PeerJob) -> Run:
    """Google's LiteRT, once TensorFlow Lite, on XNNPACK, which has channels last: the image is given so, too."""
    import litert_torch
    import torch
    from ai_edge_litert.interpreter import Interpreter

    from effgen.graph.reference import GraphModule

    image = np.ascontiguousarray(job.image.transpose(0, 2, 3, 1))
    module = litert_torch.to_channel_last_io(GraphModule(*job.graph).eval(), args=[0])
    converted = litert_torch.convert(module, (torch.from_numpy(image),))
    with temporary_folder("litert") as folder:
        file = str(folder / "model.tflite")
        converted.export(file)
        interpreter = Interpreter(model_path=file, num_threads=job.threads)
        interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    # The interpreter lists outputs in an order of its own; the signature's names count them as the network does.
    named = interpreter.get_signature_runner().get_output_details()
    places = [named[f"output_{number}"]["index"] for number in range(len(named))]

    def run() -> Answer:
        interpreter.set_tensor(given["index"], image)
        interpreter.invoke()
        return answer_of([interpreter.get_tensor(place) for place in places])

    return run


def tvm(job: PeerJob) -> Run:
    """What TVM makes of the file on its own: its reader, its default pipeline for CPUs, nothing tuned, its VM."""
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    from effgen.graph.onnx import open_onnx

    # Its pool looks at this when it starts, with the first kernel that has parallel loops.
    os.environ["TVM_NUM_THREADS"] = str(job.threads)
    target = tvm.target.Target(this_cpu().tvm)
    main = relax.VirtualMachine(tvm.compile(from_onnx(open_onnx(job.model).model), target), tvm.cpu())["main"]
    image = tvm.runtime.tensor(job.image)

    def run() -> Answer:
        found = main(image)
        outputs = [found] if isinstance(found, tvm.runtime.Tensor) else found
        return answer_of([output.numpy() for output in outputs])

    return run
