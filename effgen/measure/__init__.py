"""Candidates and bundles, timed.

A `measurer` looks after one process of `worker`; `lanes` hands jobs to many of them and takes back what a lost device
leaves. What crosses the pipe is in `protocol`, the way to a target in `routes`. Kernels are measured by `kernels` here
and by `remote` through TVM's RPC (`session`, `tracker`, `serve`), bundles by `bundle`; `probes` are kernels that
measure the machine itself. `carried/` is what every place shares, and travels as it is to machines with Python 3.8 and
no TVM.
"""
