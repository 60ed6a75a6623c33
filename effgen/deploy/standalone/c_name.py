"""What a network is called in C where nobody says otherwise, and what may be a name there."""

from __future__ import annotations

import re

from effgen.network import Network
from effgen.network.file_network import OnnxNetwork

#: Characters of a name at most.
LONGEST = 64

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


def library_name(network: Network | OnnxNetwork) -> str:
    """The C name of a network. Of a scaled one: family and published row, `efficientnet_b0`, else phi,
    `efficientnet_phi1_5`; then what was set by hand, so that variants can be linked into one program:
    `efficientnet_b0_batch8_r160`. Of a file's: its title, and the batch where that was set by hand."""
    if isinstance(network, OnnxNetwork):
        return c_name_from_text("_".join([network.title, *_batch(network.request.batch)]))
    return c_name_from_text("_".join([network.spec.name, _size(network), *_by_hand(network)]))


def _size(network: Network) -> str:
    by = network.coefficients
    if by.law == "published":
        for row in network.spec.scaling.published:
            if network.request.phi == row.name or (by.phi is not None and by.phi == row.phi):
                return row.name
    return f"phi{by.phi:g}"


def _by_hand(network: Network) -> list[str]:
    asked = network.request.overrides
    wide = "" if asked.image_width is None else f"x{asked.image_width}"
    numbers = {
        "r": None if asked.resolution is None else f"{asked.resolution}{wide}",
        "c": asked.classes,
        "w": asked.width,
        "d": asked.depth,
        "eps": asked.norm_eps,
        "stem": asked.stem_channels,
        "head": asked.head_channels,
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
    name = re.sub(r"[^0-9a-z]+", "_", text.lower())[:LONGEST].strip("_")
    usual = re.fullmatch(r"[a-z].*[0-9_].*", name) and name not in _KEYWORDS and not name.endswith("_t")
    return name if usual else f"model_{name.removesuffix('_t')}"[:LONGEST].rstrip("_")
