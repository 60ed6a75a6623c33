"""What is timed: effgen's bundle, and PyTorch in three forms, each on images that lie on the device."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.runtime.cuda import CudaModel

#: How PyTorch computes beside a bundle of each dtype: "tf32" is float32 arrays whose products tensor cores round.
PRECISIONS: Mapping[str, Sequence[str]] = {"float32": ("float32", "tf32"), "float16": ("float16",)}

#: A peer whose logits are further from PyTorch's in float32 (relative L2) computes something else: it gets no time.
#: Half precision keeps few digits of a network's first, small logits.
WRONG_ANSWER: Mapping[str, float] = {"float32": 1e-4, "tf32": 2e-2, "float16": 1e-1}

OURS = "effgen"


@dataclass(frozen=True)
class Backend:
    """Something to time. `device_ms` and `host_ms` give the milliseconds of each of so many runs.

    By the device's clock a run begins and ends with the batch on the device; by the host's, it begins with an array of
    numpy's and ends with one. `prepare` is called before each burst.
    """

    name: str
    precision: str
    device_ms: Callable[[int], list[float]]
    host_ms: Callable[[int], list[float]]
    prepare: Callable[[], None] = lambda: None
    rel_l2: float | None = None


@dataclass(frozen=True)
class LeftOut:
    """A backend without a time, and why."""

    name: str
    precision: str
    reason: str


def relative_l2(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """|found - expected| / |expected|; NaN and infinity stay what they are."""
    wide = expected.astype(np.float64)
    return float(np.linalg.norm(found.astype(np.float64) - wide) / max(float(np.linalg.norm(wide)), 1e-300))


def effgen_backend(model: CudaModel, image: NDArray[np.float32]) -> Backend:
    """The loaded bundle."""
    return Backend(
        name=OURS,
        precision=model.manifest.dtype,
        device_ms=lambda runs: model.resident_ms(image, runs),
        host_ms=lambda runs: [_timed(lambda: model(image)) for _ in range(runs)],
    )


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


class TorchJob:
    """A network for PyTorch's peers: the float32 module on the CPU and the image; one configuration's."""

    def __init__(self, torch: Any, module: Any, image: NDArray[np.float32]) -> None:
        self.torch, self.module, self.image = torch, module, image
        torch.set_grad_enabled(False)

    def reference(self) -> NDArray[np.float32]:
        """The logits by plain PyTorch in float32 on the GPU, TF32 off."""
        set_precision(self.torch, "float32")
        logits = self.module_on_gpu("float32")(self.torch.from_numpy(self.image).cuda())
        return _to_numpy(logits)

    def module_on_gpu(self, precision: str) -> Any:
        """A copy of the module in the peer's type, channels last."""
        import copy

        module = copy.deepcopy(self.module).to(device="cuda", dtype=self.dtype(precision))
        return module.to(memory_format=self.torch.channels_last)

    def dtype(self, precision: str) -> Any:
        """The type of the peer's arrays."""
        return self.torch.float16 if precision == "float16" else self.torch.float32

    def resident(self, precision: str) -> Any:
        """The image on the device in the peer's best form."""
        image = self.torch.from_numpy(self.image).to(device="cuda", dtype=self.dtype(precision))
        return image.contiguous(memory_format=self.torch.channels_last)


def set_precision(torch: Any, precision: str) -> None:
    """Whether products of float32 arrays may be rounded to TF32, for convolutions and matrices."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def torch_peer(
    job: TorchJob, name: str, precision: str, expected: NDArray[np.float32], limit_s: float
) -> Backend | LeftOut:
    """A peer of `PEERS` set up and run, or why it gets no time: any exception, a wrong answer, or `limit_s` is over."""
    try:
        with time_limit(limit_s):
            set_precision(job.torch, precision)
            image = job.resident(precision)
            run = PEERS[name](job, precision, image)
            for _ in range(3):  # torch.compile records its CUDA graph in the second call
                logits = _to_numpy(run())
    except OutOfTime:
        return LeftOut(name, precision, f"not ready after {limit_s:g} s; give it more with --compile-limit")
    except Exception as error:  # other people's code: anything is a reason
        first_line = (str(error).strip() or "no message").splitlines()[0]
        return LeftOut(name, precision, f"{type(error).__name__}: {first_line}")
    distance = relative_l2(logits, expected)
    if not distance <= WRONG_ANSWER[precision]:
        return LeftOut(name, precision, f"wrong answer: relative L2 {distance:.1e} from PyTorch's in float32")
    return _backend(job, name, precision, image, run, distance)


def _backend(job: TorchJob, name: str, precision: str, image: Any, run: Callable[[], Any], distance: float) -> Backend:
    torch = job.torch
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    on_host = torch.from_numpy(job.image).to(job.dtype(precision))

    def device_run() -> float:
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

    def whole_run() -> None:
        image.copy_(on_host)
        _to_numpy(run())

    return Backend(
        name=name,
        precision=precision,
        device_ms=lambda runs: [device_run() for _ in range(runs)],
        host_ms=lambda runs: [_timed(whole_run) for _ in range(runs)],
        prepare=lambda: set_precision(torch, precision),
        rel_l2=distance,
    )


def _to_numpy(logits: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = logits.float().cpu().numpy()
    return array


def _eager(job: TorchJob, precision: str, image: Any) -> Callable[[], Any]:
    module = job.module_on_gpu(precision)
    return lambda: module(image)


def _graphed(job: TorchJob, precision: str, image: Any) -> Callable[[], Any]:
    """Eager's kernels, captured once: no Python and no launches of single kernels any more."""
    torch, module = job.torch, job.module_on_gpu(precision)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # libraries choose and load their kernels outside of the capture
        for _ in range(3):
            module(image)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = module(image)

    def run() -> Any:
        graph.replay()
        return logits

    return run


def _compiled(job: TorchJob, precision: str, image: Any) -> Callable[[], Any]:
    torch = job.torch
    torch._dynamo.reset()
    torch._dynamo.mark_static_address(image)  # else its CUDA graph copies the image in every run
    module = torch.compile(job.module_on_gpu(precision), mode="max-autotune", fullgraph=True, dynamic=False)
    return lambda: module(image)


#: Name -> a function that sets the peer up and returns what runs it once on the resident image.
PEERS: Mapping[str, Callable[[TorchJob, str, Any], Callable[[], Any]]] = {
    "eager": _eager,
    "graphed": _graphed,
    "compiled": _compiled,
}


class OutOfTime(BaseException):
    """No Exception: compilers catch those and try something else."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block, which runs in the main thread, once it has taken so long."""

    def stop(number: int, frame: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5)  # and again, where the first is lost in a callback
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
