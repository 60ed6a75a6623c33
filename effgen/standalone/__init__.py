"""The standalone library: a bundle's kernels, weights and a small driver (sources: `native/standalone/`) as a C library
that needs nothing of TVM. Nothing here loads TVM."""

from effgen.standalone.build import write_standalone
from effgen.standalone.check import CASE, check_standalone, standalone_logits
from effgen.standalone.names import (
    BUNDLE,
    EMITS,
    STANDALONE,
    c_name_from_text,
    check_emit,
    check_name,
    emits_from_texts,
    library_name,
    name_from_title,
)

__all__ = [
    "BUNDLE",
    "CASE",
    "EMITS",
    "STANDALONE",
    "c_name_from_text",
    "check_emit",
    "check_name",
    "check_standalone",
    "emits_from_texts",
    "library_name",
    "name_from_title",
    "standalone_logits",
    "write_standalone",
]
