"""Text as a terminal may have it. Names of layers, labels, files and machines come out of files that anybody may have
written; a terminal obeys what it is sent."""

from __future__ import annotations

import unicodedata


def terminal_text(text: str) -> str:
    """`text` on one line, every character that a terminal would obey or not show written out: `\\x1b`, `\\u202e`.

    Those are control characters and line ends, marks that turn the direction of writing round, half characters, and
    what has no shape. Spaces of any width stay.
    """
    if text.isprintable():
        return text
    return "".join(character if _is_shown(character) else _written_out(character) for character in text)


def error_line(prefix: str, error: BaseException) -> str:
    """What a command says of an error, whatever files have put into its words."""
    return f"{prefix}: {terminal_text(' '.join(str(error).split()))}"


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
