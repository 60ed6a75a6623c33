"""What `--emit` takes, and what a model is called in C."""

from __future__ import annotations

import re
from collections.abc import Iterable

from effgen.errors import BuildError, candidates
from effgen.network import Network
from effgen.target_file import TargetFile

BUNDLE, STANDALONE, EXECUTABLE = "bundle", "standalone", "executable"

#: What `effgen compile --emit` writes: the bundle always; the C library; the program, with the library.
EMITS = (BUNDLE, STANDALONE, EXECUTABLE)

_LONGEST = 64


def emits_from_texts(texts: Iterable[str]) -> tuple[str, ...]:
    """`--emit a,b --emit c` as names, in the order of EMITS, BUNDLE among them.

    Raises BuildError for a name that is none.
    """
    wanted = {name.strip() for text in texts for name in text.split(",") if name.strip()}
    for name in sorted(wanted - set(EMITS)):
        raise BuildError(f"--emit {name}: {candidates(name, EMITS)}")
    if EXECUTABLE in wanted:
        wanted.add(STANDALONE)
    return tuple(name for name in EMITS if name == BUNDLE or name in wanted)


def check_emit(emit: Iterable[str], target: str, stated: TargetFile) -> None:
    """Raise BuildError where what was asked for cannot be had of the target called so."""
    wanted = [name for name in emit if name != BUNDLE]
    if wanted and stated.is_cuda:
        raise BuildError(
            f"--emit {wanted[-1]}: --target {target} compiles for a GPU, which a C library alone cannot run; "
            "expected a CPU target"
        )


def library_name(network: Network) -> str:
    """The C name of a scaled network: family and published row, `efficientnet_b0`, else phi, `efficientnet_phi1_5`."""
    family, by = network.spec.name, network.coefficients
    if by.law == "published":
        for row in network.spec.scaling.published:
            if network.request.phi == row.name or (by.phi is not None and by.phi == row.phi):
                return c_name_from_text(f"{family}_{row.name}")
    return c_name_from_text(f"{family}_phi{by.phi:g}")


def c_name_from_text(text: str) -> str:
    """An identifier of C and C++ made of any text: lower case, whatever is neither letter nor digit as underscores.

    A single word gets one before it: it could be a keyword, or a name of C's library.
    """
    name = re.sub(r"[^0-9a-z]+", "_", text.lower())[:_LONGEST].strip("_")
    return name if re.fullmatch(r"[a-z].*[0-9_].*", name) else f"model_{name}".rstrip("_")
