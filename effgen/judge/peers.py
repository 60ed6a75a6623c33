"""Other ways to run the same ONNX file on this CPU: what a bundle's latency is set beside.

Every peer gets the bundle's folded graph, float32, the same thread count, and its input in the form that it likes best
(made outside the timing). Nothing here is imported before its peer is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from effgen.errors import EffgenError, candidates
from effgen.judge.converted import prepare_converted
from effgen.judge.job import PeerJob, Run
from effgen.judge.onnx_runtime import onnxruntime_module
from effgen.runtime.answers import Answer, answer_of
from effgen.runtime.standalone import load_standalone


@dataclass(frozen=True)
class Peer:
    """A peer: the distribution that has to be installed, the extra of effgen that brings it (none for what effgen
    itself needs), and how to set it up."""

    distribution: str
    extra: str
    prepare: Callable[[PeerJob], Run]


def check_peer_names(names: Iterable[str], option: str = "--peers") -> None:
    """Raise EffgenError for a name that is no peer, listing those that are."""
    for name in names:
        if name not in PEERS:
            raise EffgenError(f"{option} {name}: unknown peer; {candidates(name, PEERS)}")


def names_from_text(text: str) -> list[str]:
    """What stands between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def peers_from_text(more: str, skip: str) -> list[str]:
    """The default peers and those of `more`, without those of `skip`; both are names with commas between.

    Raises EffgenError for a name that is no peer.
    """
    added, dropped = names_from_text(more), names_from_text(skip)
    check_peer_names(added)
    check_peer_names(dropped, "--skip")
    return [name for name in dict.fromkeys((*DEFAULT_PEERS, *added)) if name not in dropped]


def peer_version(name: str) -> str | None:
    """The installed version of what runs the peer, None where it is not installed."""
    try:
        return version(PEERS[name].distribution)
    except PackageNotFoundError:
        return None


def _eager(job: PeerJob) -> Run:
    return _no_grad(_module(job), _tensor(job))


def _channels_last(job: PeerJob) -> Run:
    import torch

    form: Any = torch.channels_last
    return _no_grad(_module(job).to(memory_format=form), _tensor(job).contiguous(memory_format=form))


def _inductor(job: PeerJob) -> Run:
    """Compiles in the first call, which the caller makes outside the timing; frozen weights are its best form."""
    import torch
    from torch._inductor import config

    form: Any = torch.channels_last
    module = torch.compile(_module(job).to(memory_format=form), fullgraph=True, dynamic=False)
    run = _no_grad(module, _tensor(job).contiguous(memory_format=form))
    with config.patch(freezing=True):
        run()
    return run


def _module(job: PeerJob) -> Any:
    import torch

    from effgen.graph.reference import GraphModule

    torch.set_num_threads(job.threads)
    return GraphModule(*job.graph).eval()


def _tensor(job: PeerJob) -> Any:
    import torch

    return torch.from_numpy(job.image)


def _no_grad(module: Any, image: Any) -> Run:
    import torch

    def run() -> Answer:
        with torch.no_grad():
            found = module(image)
        return answer_of([output.numpy() for output in (found if isinstance(found, tuple) else (found,))])

    return run


def _onnxruntime(job: PeerJob) -> Run:
    onnxruntime = onnxruntime_module()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(str(job.model), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: job.image}

    return lambda: answer_of(session.run(None, feed))


def _openvino(job: PeerJob) -> Run:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(job.model), "CPU", openvino_settings("LATENCY", job.threads))
    request, outputs = compiled.create_infer_request(), compiled.outputs

    def run() -> Answer:
        found = request.infer([job.image], share_inputs=True, share_outputs=True)
        return answer_of([found[output] for output in outputs])

    return run


def openvino_settings(hint: str, threads: int) -> dict[str, Any]:
    """Without the type the plugin takes bfloat16 where the CPU has it: another computation than the one compared."""
    return {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": hint, "INFERENCE_NUM_THREADS": threads}


def _standalone(job: PeerJob) -> Run:
    """The C library beside the ONNX file: the bundle's own kernels, without TVM's runtime."""
    model = load_standalone(job.model.parent, job.threads)
    return lambda: model(job.image)


PEERS: Mapping[str, Peer] = {
    "pytorch": Peer("torch", "torch", _eager),
    "pytorch-channels-last": Peer("torch", "torch", _channels_last),
    "torch.compile": Peer("torch", "torch", _inductor),
    "onnxruntime": Peer("onnxruntime", "peers", _onnxruntime),
    "openvino": Peer("openvino", "peers", _openvino),
    "standalone": Peer("effgen", "standalone", _standalone),
    "executorch": Peer("executorch", "executorch", partial(prepare_converted, "executorch")),
    "iree": Peer("iree-base-runtime", "iree", partial(prepare_converted, "iree")),
    "litert": Peer("ai-edge-litert", "litert", partial(prepare_converted, "litert")),
    "mnn": Peer("MNN", "mnn", partial(prepare_converted, "mnn")),
    "ncnn": Peer("ncnn", "ncnn", partial(prepare_converted, "ncnn")),
    "tvm": Peer("apache-tvm", "", partial(prepare_converted, "tvm")),
}

#: Measured by every `effgen bench` unless left out.
DEFAULT_PEERS = ("pytorch", "pytorch-channels-last", "torch.compile")
