"""Judging how an ONNX file was read: the Graph beside the file in another runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.errors import VerifyError
from effgen.graph.output_kind import output_kind
from effgen.judge.case import relative_l2
from effgen.judge.onnx_runtime import onnxruntime_module
from effgen.network.file_network import OnnxNetwork
from effgen.runtime.answers import Answer, outputs_of
from effgen.words import OutputKind

#: How far the graph as it was read may be from what onnxruntime computes with the file itself: relative L2; and where
#: the file computes in a type of fewer digits, whose roundings add up from layer to layer.
READING_TOLERANCE, REDUCED_TOLERANCE = 1e-4, 2e-2


@dataclass(frozen=True)
class Reading:
    """Whether the graph computes what the file says: by whom that was checked and how far apart the answers are
    (relative L2), or why it was not checked."""

    checked_by: str = ""
    rel_l2: float = 0.0
    not_checked: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest says of it."""
        if self.not_checked:
            return {"not_checked": self.not_checked}
        return {"checked_by": self.checked_by, "rel_l2": self.rel_l2}

    @property
    def agreement(self) -> str:
        """In words, of a file that was checked."""
        return f"agrees with the file by {self.checked_by}: relative L2 {self.rel_l2:.1e}"


def _distance(one: NDArray[np.float32], other: NDArray[np.float32], kind: OutputKind) -> float:
    """Relative L2; 0 for probabilities that agree to a millionth. Of such below 1e-4 onnxruntime's Sigmoid has few
    digits right, and there may be no others: a detector's map of an image in which nothing is."""
    alike = kind in ("labels", "probabilities") and one.shape == other.shape
    if alike and np.abs(one - other).max() <= 1e-6:
        return 0.0
    return relative_l2(one, other)


def check_reading(network: OnnxNetwork, image: NDArray[np.float32], expected: Answer, of_codes: float = 0.0) -> Reading:
    """Hold `expected`, what PyTorch computes with the graph as it was read, to what the file itself says.

    Raises VerifyError where they disagree. `image` (N, C, H, W); `of_codes`: relative L2 that two computations of a
    network with codes may differ by.
    """
    try:
        onnxruntime = onnxruntime_module()
    except ModuleNotFoundError:
        return Reading(not_checked="onnxruntime is not installed")
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # Further optimisations round: a MatMul with dequantised weights is computed in int8 then.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        session = onnxruntime.InferenceSession(network.file.for_others(), options, ["CPUExecutionProvider"])
        if network.file_layout == "NHWC":
            image = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
        found = session.run(list(network.file.outputs), {network.file.input.name: image})
    except Exception as error:  # onnxruntime's errors share no base of their own
        reason = " ".join(str(error).split())
        return Reading(not_checked=f"onnxruntime cannot run it: {reason[:120]}")
    distances = [
        _distance(one, other, output_kind(network.graph, name))
        for name, one, other in zip(network.graph.outputs, outputs_of(expected), found, strict=True)
    ]
    difference = max(distances)
    tolerance = max(of_codes, REDUCED_TOLERANCE) if network.reduced else READING_TOLERANCE
    if not difference <= tolerance:
        worst = network.file.outputs[distances.index(difference)]
        about = f" about {worst}" if len(distances) > 1 else ""
        raise VerifyError(
            f"{network.request.file}: onnxruntime and the graph that was read disagree{about}: relative L2 "
            f"{difference:.2e}, "
            f"expected at most {tolerance:g}: the file was misread, or its answers hang on the last digits"
        )
    return Reading(f"onnxruntime {onnxruntime.__version__}", difference)
