"""A bundle beyond this process.

`native/` builds and runs effgen-run, `standalone/` makes a C library, `pack` and `unpack` an archive (`archive` is its
format, and refuses what is none), `executors` run a bundle wherever it can be run.
"""
