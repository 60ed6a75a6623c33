"""From the Graph to a library.

In order: `calls` finds which nodes become one kernel and `blocks` which kernels are joined, within the `repertoire` of
the machine's `backend`; `importer` makes Relax of them, `pipeline` schedules the rest and plans memory, `program` is
what remains: steps over flat arrays. `entry` makes one function of it, `build` and `link` a library, `cuda_build`
machine code for GPUs. `dump` writes each stage's text.
"""
