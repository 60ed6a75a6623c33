"""Kernels for NVIDIA GPUs, written out thread by thread; `effgen.kernels` holds those for CPUs."""
