"""The classes' names: one a line, UTF-8, in the order of the network's outputs."""

from __future__ import annotations

from pathlib import Path

from effgen.errors import ImageError


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """The names in the file. Raises ImageError: unreadable, not UTF-8, not one for each of the `classes`, or one that
    is empty or would disturb a terminal."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ImageError(f"{path}: not UTF-8 text; expected a class's name a line") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from None
    return checked_labels(text.removesuffix("\n").split("\n"), classes, str(path))


def checked_labels(labels: list[str], classes: int, where: str) -> tuple[str, ...]:
    """The labels without white space around them, as many as `classes`; errors as of `read_labels`."""
    names = tuple(label.strip() for label in labels)
    if len(names) != classes:
        raise ImageError(f"{where}: {len(names)} labels: the network has {classes} classes; expected one a line")
    for number, name in enumerate(names, 1):
        if not name or not name.isprintable():
            raise ImageError(f"{where}: line {number}: {name!r}: expected a name of printable characters")
    return names
