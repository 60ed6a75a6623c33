"""Load and run a bundle: numpy only, Pillow where a picture is read. Nothing here imports torch or onnx; of TVM, only
what others ask `effgen.runtime.library` for."""

from effgen.runtime.classify import Prediction
from effgen.runtime.cuda import CudaModel
from effgen.runtime.manifest import FORMAT_VERSION, Manifest, read_manifest
from effgen.runtime.model import LoadedModel, load

__all__ = ["FORMAT_VERSION", "CudaModel", "LoadedModel", "Manifest", "Prediction", "load", "read_manifest"]
