"""Kernels: workload (what is computed), tiles and packing (how it is laid out), compute (the PrimFunc), lowering."""
