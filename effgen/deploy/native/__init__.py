"""Bundles run outside this process: `effgen-run` (sources: `native/`), built for this machine or another one, run
as it is or under an emulator. Nothing here loads TVM."""

from effgen.deploy.native.build import build_runner
from effgen.deploy.native.libraries import runtime_libraries
from effgen.deploy.native.run import NativeReport, Runner, run_bundle, run_images

__all__ = [
    "NativeReport",
    "Runner",
    "build_runner",
    "run_bundle",
    "run_images",
    "runtime_libraries",
]
