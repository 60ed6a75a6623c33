"""The sources of `effgen-run`, built by `effgen.deploy.native` or by hand with CMake (docs/native.md)."""
