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

# A model's name is a type: no keyword of C or C++, and no name of the driver's own.
_RESERVED = frozenset(
    """
    alignas alignof and asm auto bitand bitor block bool break case catch char class compl concept const constexpr continue
    decltype default delete do double else enum explicit export extern false feature float for friend goto if inline int
    long main model mutable namespace new noexcept not nullptr operator options or pool private protected public register requires restrict
    return short signed sizeof static struct switch template this throw true try typedef typeid typename typeof union
    unsigned using virtual void volatile while worker xor
    """.split()
)
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
            f"--emit {wanted[-1]}: --target {target} compiles for a GPU, which a C library alone cannot run; expected a "
            "CPU target"
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
    """An identifier of C and C++ made of any text: lower case, whatever is neither letter nor digit as underscores."""
    name = re.sub(r"[^0-9a-z]+", "_", text.lower())[:_LONGEST].strip("_")
    plain = name and not name[0].isdigit() and name not in _RESERVED
    return name if plain else f"model_{name}".rstrip("_")
