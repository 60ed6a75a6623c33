"""Machines as the compiler sees them: a `target` is a `Cpu` or a `Gpu`, read from a TOML (`target_file`) or detected
(`detection`). This computer: its `processor`, what it is for reports (`host`, `identity`), what it can do with a target
(`abilities`), its programs (`programs`, `toolchain`), its CUDA driver."""
