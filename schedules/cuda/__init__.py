"""Schedule rules for NVIDIA GPUs, one family of kernels a file."""
