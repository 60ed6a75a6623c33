"""The standalone library: a bundle's kernels, weights and a small driver (sources: `native/standalone/`) as a C library
that needs nothing of TVM. Nothing here loads TVM."""

from effgen.deploy.standalone.build import write_standalone
from effgen.deploy.standalone.emit import BUNDLE, EMITS, STANDALONE, check_emit, check_name, emits_from_texts
from effgen.deploy.standalone.run import standalone_answer

__all__ = [
    "BUNDLE",
    "EMITS",
    "STANDALONE",
    "check_emit",
    "check_name",
    "emits_from_texts",
    "standalone_answer",
    "write_standalone",
]
