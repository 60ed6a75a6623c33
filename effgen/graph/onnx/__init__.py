"""ONNX -> Graph, of files that others exported as of effgen's own.

wire.py         its bytes before anybody makes objects of them
file.py         load, check what it is, fix its sizes
functions.py    its own functions, unfolded
schema.py       what ONNX says of an operator, held against a node
order.py        its nodes in an order in which they can run
cost.py, folding.py     what depends on constants alone: what computing it costs; computed within a budget
reader.py       the walk: every other node given to its converter
windows.py, borders.py, arithmetic.py, norms.py, reductions.py, shapes.py, activations.py    the converters, by family
read.py         all of it, and the passes that follow
write.py, write_ops.py      Graph -> ONNX

What a file says with several operators and the Graph with one is found by passes over the Graph: `effgen.graph.passes`.
"""

from effgen.graph.onnx.file import OnnxFile, open_onnx
from effgen.graph.onnx.read import Understood, graph_from_file, graph_from_onnx, read_file

__all__ = ["OnnxFile", "Understood", "graph_from_file", "graph_from_onnx", "open_onnx", "read_file"]
