"""The sources of `effgen-run`, built by `effgen.native` or by hand with CMake (docs/native.md)."""
