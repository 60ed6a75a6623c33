"""ONNX -> Graph, of files that others exported as of effgen's own.

file.py         load, check what it is, fix the batch
reader.py       the walk: constants folded, every other node given to its converter
windows.py, arithmetic.py, shapes.py, activations.py      the converters, a family a file

What a file says with several operators and the Graph with one is found by passes over the Graph: `effgen.graph.passes`.
"""

from effgen.graph.onnx.file import OnnxFile, open_onnx
from effgen.graph.onnx.read import Understood, graph_from_file, graph_from_onnx, read_file

__all__ = ["OnnxFile", "Understood", "graph_from_file", "graph_from_onnx", "open_onnx", "read_file"]
