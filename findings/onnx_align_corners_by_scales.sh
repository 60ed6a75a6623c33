#!/usr/bin/env bash
# Resize by scales with align_corners: ONNX's reference evaluator and onnxruntime put the last pixel in different places.
#
# `align_corners` is to map the last pixel of the result to the last of the image. One would guess that this holds
# whether the node is given scales or sizes, since the size follows from the scales, rounded down.
#
# What happens (2026-11-30): where scale x size is no whole number, the evaluator divides by the size before it was
# rounded down, onnxruntime by the size that the result has. Of a row 1 2 3 4 scaled by 0.6, to two pixels, the last is
# 3.14 for the one and 4 for the other. By sizes both give 4. ONNX's own test cases hold the evaluator's number.
#
# Why it matters to who compiles ConvNets: a compiler that is held to onnx's tests and to onnxruntime cannot be right by
# both. effgen refuses the form with the way out (sizes instead of scales).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/python -m pip install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > both.py <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
row = np.array([1, 2, 3, 4], np.float32).reshape(1, 1, 1, 4)


def both(inputs, constants):
    node = helper.make_node(
        "Resize", ["x", "", *inputs], ["y"], mode="linear", coordinate_transformation_mode="align_corners"
    )
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, row.shape)
    graph = helper.make_graph([node], "resize", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    evaluated = ReferenceEvaluator(model).run(None, {"x": row})[0].ravel()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return evaluated, session.run(None, {"x": row})[0].ravel()


scales = numpy_helper.from_array(np.array([1, 1, 1, 0.6], np.float32), "scales")
sizes = numpy_helper.from_array(np.array([1, 1, 1, 2], np.int64), "sizes")
evaluator, runtime = both(["scales"], [scales])
print("by scales: evaluator", evaluator, "onnxruntime", runtime)
same_evaluator, same_runtime = both(["", "sizes"], [sizes])
print("by sizes:  evaluator", same_evaluator, "onnxruntime", same_runtime)
assert abs(evaluator[-1] - 3.142857) < 1e-4 and runtime[-1] == 4, "the two agree by scales now, or differ otherwise"
assert same_evaluator[-1] == same_runtime[-1] == 4, "the two differ by sizes now"
PY
env/bin/python both.py
