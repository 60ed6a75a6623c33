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

# A word with an underscore is no name of C's or C++'s but these, and types that end in `_t`.
_KEYWORDS = {
    "and_eq",
    "not_eq",
    "or_eq",
    "xor_eq",
    "co_await",
    "co_return",
    "co_yield",
    "static_assert",
    "thread_local",
}
_KEYWORDS |= {f"{kind}_cast" for kind in ("const", "dynamic", "reinterpret", "static")}


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


def check_name(name: str | None, emit: Iterable[str]) -> None:
    """Raise BuildError where the library cannot be called so, or none was asked for."""
    if name is None:
        return
    if STANDALONE not in emit:
        raise BuildError(f"--name {name}: is what a C library is called; expected --emit {STANDALONE} beside it")
    if c_name_from_text(name) != name:
        raise BuildError(
            f"--name {name!r}: expected a C name that is no keyword: lower-case letters, digits, single underscores, "
            f"at least one of the last two, {_LONGEST} characters at most, e.g. {c_name_from_text(name)}"
        )


def library_name(network: Network) -> str:
    """The C name of a scaled network: family and published row, `efficientnet_b0`, else phi, `efficientnet_phi1_5`;
    then what was set by hand, so that variants can be linked into one program: `efficientnet_b0_batch8_r160`."""
    return c_name_from_text("_".join([network.spec.name, _size(network), *_by_hand(network)]))


def name_from_title(title: str, batch: int | None) -> str:
    """The C name of a network in a file called `title`; `batch`: of a call, where it was set by hand."""
    return c_name_from_text("_".join([title, *_batch(batch)]))


def _size(network: Network) -> str:
    by = network.coefficients
    if by.law == "published":
        for row in network.spec.scaling.published:
            if network.request.phi == row.name or (by.phi is not None and by.phi == row.phi):
                return row.name
    return f"phi{by.phi:g}"


def _by_hand(network: Network) -> list[str]:
    asked = network.request.overrides
    numbers = {
        "r": asked.resolution,
        "c": asked.classes,
        "w": asked.width,
        "d": asked.depth,
        "eps": asked.norm_eps,
    }
    words = [f"{letter}{value}".removesuffix(".0") for letter, value in numbers.items() if value is not None]
    return [*_batch(network.request.batch), *words, *([asked.padding] if asked.padding else [])]


def _batch(batch: int | None) -> list[str]:
    return [] if batch in (None, 1) else [f"batch{batch}"]


def c_name_from_text(text: str) -> str:
    """An identifier of C and C++ made of any text: lower case, whatever is neither letter nor digit as underscores.

    A single word, which could be a keyword or a name of C's library, gets one before it, as keywords with an underscore
    and the types of C's library do.
    """
    name = re.sub(r"[^0-9a-z]+", "_", text.lower())[:_LONGEST].strip("_")
    usual = re.fullmatch(r"[a-z].*[0-9_].*", name) and name not in _KEYWORDS and not name.endswith("_t")
    return name if usual else f"model_{name.removesuffix('_t')}"[:_LONGEST].rstrip("_")
