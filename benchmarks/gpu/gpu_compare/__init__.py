"""effgen's CUDA bundles beside PyTorch on one GPU: what runs where the GPU is, with numpy, torch and the driver alone.

`benchmarks/gpu/make_folder.py` packs it, effgen's runtime and the bundles into one folder.
"""

from effgen.errors import EffgenError


class CompareError(EffgenError):
    """The comparison cannot be made here: no GPU, no PyTorch, a damaged folder, results of another GPU."""
