"""How far a quantised network may be from its float32 one."""

from __future__ import annotations

from effgen.errors import BuildError


def loss_from_text(text: str) -> float:
    """`--max-loss 3%` -> 0.03. Raises BuildError for anything but a percentage above 0."""
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not text.endswith("%") or not 0 < percent < 1000:
        raise BuildError(f"--max-loss {text}: expected a percentage, e.g. 3%")
    return percent / 100
