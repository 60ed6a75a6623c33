"""Tuning records: what a `record` is, the `database` of one's own, and those that are `shipped`.

`lookup` finds one; the `choice` of a kernel's schedule alone needs TVM.
"""
