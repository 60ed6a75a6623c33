"""Peers that read a format of their own: the bundle's ONNX file is converted, or compiled, first, outside the timing.

That is done by a process of its own (`judge.conversion`): what converters take and leave behind is none of what running
takes. Each peer is held to float32. Nothing here is imported before its peer is asked for; what a conversion writes
goes once it is loaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effgen.errors import EffgenError
from effgen.files.temporary import temporary_folder
from effgen.judge.job import PeerJob, Run
from effgen.judge.messages import Conversion, Refused
from effgen.machines.programs import tool_output
from effgen.machines.target import this_cpu
from effgen.measure.answering import AnsweringProcess
from effgen.measure.pipe import PipeClosedError
from effgen.runtime.answers import Answer, answer_of


@dataclass(frozen=True)
class Form:
    """How a job's model becomes files in a folder, and how they are run; the folder goes when `load` has returned."""

    convert: Callable[[PeerJob, Path], None]
    load: Callable[[PeerJob, Path], Run]


def prepare_converted(peer: str, job: PeerJob) -> Run:
    """A call of the model converted for a peer. Raises EffgenError where its converter refuses or crashes."""
    with temporary_folder(peer) as folder:
        with AnsweringProcess("effgen.judge.conversion", {}) as process:
            try:
                refused: Refused | None = process.ask(Conversion(peer, job, folder))
            except PipeClosedError:
                raise EffgenError(f"its converter ended: {process.how_it_died()}") from None
        if refused is not None:
            raise EffgenError(refused.reason)
        return FORMS[peer].load(job, folder)


def _mnn_file(job: PeerJob, folder: Path) -> None:
    """Alibaba's MNN. Its converter is called as the extension module that it is: the package around it runs pip
    when it is imported (findings/mnn_converter_installs_packages.sh)."""
    import _tools

    words = [
        "-f",
        "ONNX",
        "--modelFile",
        str(job.model),
        "--MNNModel",
        str(folder / "model.mnn"),
        "--bizCode",
        "effgen",
    ]
    _tools.mnnconvert(["mnnconvert", *words])
    graph = job.graph[0]
    (folder / "names.json").write_text(json.dumps([[graph.input.name], list(graph.outputs)]))


def _mnn(job: PeerJob, folder: Path) -> Run:
    import MNN
    import MNN.expr

    settings = {"backend": "CPU", "precision": "high", "numThread": job.threads}
    manager = MNN.nn.create_runtime_manager((settings,))
    names = json.loads((folder / "names.json").read_text())
    module = MNN.nn.load_module_from_file(str(folder / "model.mnn"), *names, runtime_manager=manager)
    image = MNN.expr.const(job.image, list(job.image.shape), MNN.expr.NCHW)

    def run() -> Answer:
        found = module.onForward([image])
        return answer_of([np.array(MNN.expr.convert(output, MNN.expr.NCHW).read()) for output in found])

    run()
    return run


def _ncnn_files(job: PeerJob, folder: Path) -> None:
    """Tencent's ncnn, by pnnx. It has no batches."""
    import pnnx

    if len(job.image) != 1:
        raise EffgenError(f"takes one image at a time, this bundle {len(job.image)}")
    # It writes beside what it reads.
    (folder / "model.onnx").symlink_to(job.model.resolve())
    shape = ",".join(map(str, job.image.shape))
    command = [pnnx.EXEC_PATH, folder / "model.onnx", f"inputshape=[{shape}]f32", "fp16=0"]
    tool_output(command, "pnnx cannot convert the model")


def _ncnn(job: PeerJob, folder: Path) -> Run:
    import ncnn

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


def _iree_code(job: PeerJob, folder: Path) -> None:
    """IREE's compiler for this CPU."""
    import iree.compiler
    from iree.compiler.tools.import_onnx import __main__ as importer

    imported = folder / "model.mlir"
    importer.main(importer.parse_arguments([str(job.model), "-o", str(imported)]))
    flags = ["--iree-llvmcpu-target-cpu=host", "--iree-opt-level=O3"]
    code = iree.compiler.compile_file(str(imported), target_backends=["llvm-cpu"], extra_args=flags)
    (folder / "model.vmfb").write_bytes(code)


def _iree(job: PeerJob, folder: Path) -> Run:
    """IREE's runtime of tasks."""
    import iree.runtime

    iree.runtime.flags.parse_flags(f"--task_topology_group_count={job.threads}")
    context = iree.runtime.SystemContext(config=iree.runtime.Config("local-task"))
    module = iree.runtime.VmModule.copy_buffer(context.instance, (folder / "model.vmfb").read_bytes())
    context.add_vm_module(module)
    # Beside it there are its asynchronous form, `NAME$async`, and `__init`.
    (name,) = (each for each in module.function_names if "$" not in each and not each.startswith("__"))
    function = context.modules[module.name][name]
    image = iree.runtime.asdevicearray(context.config.device, job.image)

    def run() -> Answer:
        found = function(image)
        return answer_of([each.to_host() for each in (found if isinstance(found, tuple | list) else [found])])

    return run


def _executorch_program(job: PeerJob, folder: Path) -> None:
    """PyTorch's ExecuTorch, on XNNPACK."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from effgen.graph.reference import GraphModule

    exported = torch.export.export(GraphModule(*job.graph).eval(), (torch.from_numpy(job.image),))
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    (folder / "model.pte").write_bytes(lowered.buffer)


def _executorch(job: PeerJob, folder: Path) -> Run:
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    image = torch.from_numpy(job.image)
    portable_lib._unsafe_reset_threadpool(job.threads)
    method = Runtime.get().load_program(str(folder / "model.pte")).load_method("forward")

    def run() -> Answer:
        return answer_of([output.numpy() for output in method.execute([image])])

    return run


def _litert_file(job: PeerJob, folder: Path) -> None:
    """Google's LiteRT, once TensorFlow Lite, on XNNPACK, which has channels last: the image is given so, too."""
    import litert_torch
    import torch

    from effgen.graph.reference import GraphModule

    module = litert_torch.to_channel_last_io(GraphModule(*job.graph).eval(), args=[0])
    litert_torch.convert(module, (torch.from_numpy(_channels_last(job)),)).export(str(folder / "model.tflite"))


def _litert(job: PeerJob, folder: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(folder / "model.tflite"), num_threads=job.threads)
    interpreter.allocate_tensors()
    image, (given,) = _channels_last(job), interpreter.get_input_details()
    # The interpreter lists outputs in an order of its own; the signature's names count them as the network does.
    named = interpreter.get_signature_runner().get_output_details()
    places = [named[f"output_{number}"]["index"] for number in range(len(named))]

    def run() -> Answer:
        interpreter.set_tensor(given["index"], image)
        interpreter.invoke()
        return answer_of([interpreter.get_tensor(place) for place in places])

    return run


def _channels_last(job: PeerJob) -> Any:
    return np.ascontiguousarray(job.image.transpose(0, 2, 3, 1))


def _tvm_library(job: PeerJob, folder: Path) -> None:
    """What TVM makes of the file on its own: its reader, its default pipeline for CPUs, nothing tuned."""
    import tvm
    from tvm.relax.frontend.onnx import from_onnx

    from effgen.graph.onnx import open_onnx

    built = tvm.compile(from_onnx(open_onnx(job.model).model), tvm.target.Target(this_cpu().tvm))
    built.export_library(str(folder / "model.so"))


def _tvm(job: PeerJob, folder: Path) -> Run:
    """TVM's VM."""
    import tvm
    from tvm import relax

    # Its pool looks at this when it starts, with the first kernel that has parallel loops.
    os.environ["TVM_NUM_THREADS"] = str(job.threads)
    main = relax.VirtualMachine(tvm.runtime.load_module(str(folder / "model.so")), tvm.cpu())["main"]
    image = tvm.runtime.tensor(job.image)

    def run() -> Answer:
        found = main(image)
        outputs = [found] if isinstance(found, tvm.runtime.Tensor) else found
        return answer_of([output.numpy() for output in outputs])

    return run


FORMS: Mapping[str, Form] = {
    "executorch": Form(_executorch_program, _executorch),
    "iree": Form(_iree_code, _iree),
    "litert": Form(_litert_file, _litert),
    "mnn": Form(_mnn_file, _mnn),
    "ncnn": Form(_ncnn_files, _ncnn),
    "tvm": Form(_tvm_library, _tvm),
}
