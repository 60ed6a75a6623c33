"""Kernels: what each computes, and its code before a schedule.

A `workload` says what a kernel takes and gives, how many bytes and multiply-adds that is, and what it is called
(`names` has the grammar); its kinds are in `kinds/`. `packing` lays parameters out, `reference` computes in float64,
`tiles` are sizes and estimates. The other files write PrimFuncs, `cuda/` those for GPUs, and `lowering` makes code of
them.
"""
