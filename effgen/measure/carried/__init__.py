"""Measuring on a machine that no network reaches: a folder of candidates goes there, a file of results comes back.

This room goes with the folder, whole: it is for Python 3.8 and imports nothing but `effgen.errors`,
`effgen.machines.identity` and `effgen.machines.cuda_driver`, which go too. How a candidate is checked and timed,
`candidate` and `timing` say for every place of measuring. The desk's side is `effgen.tuning.offline`.
"""
