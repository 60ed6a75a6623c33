"""Machines as the compiler sees them, and this computer.

A `machine` is a `Cpu` or a `Gpu`; a `target` is one read from a TOML (`target_file`) or detected (`detection`). This
computer: its `processor` and which `microarchitecture` that is, what it is for reports (`host`, `identity`), what it
can do with a target (`abilities`), its programs (`programs`, `toolchain`), its CUDA driver.
"""
