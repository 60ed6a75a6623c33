"""The classes' names: one a line, UTF-8, in the order of the network's outputs."""

from __future__ import annotations

import ast
from pathlib import Path

from effgen.errors import BuildError, ImageError
from effgen.files.bounded import MIB, UnreadableError, read_bytes
from effgen.files.contents import kind_of_file
from effgen.runtime.library import find_package_file

#: A million names of 60 letters.
_MOST_BYTES = 64 * MIB


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """The names in the file. Raises ImageError: unreadable, not UTF-8, not one for each of the `classes`, or one that
    is empty or would disturb a terminal."""
    try:
        text = read_bytes(path, _MOST_BYTES).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        if (kind := kind_of_file(path)) is not None and text:
            raise ImageError(f"{path}: is {kind}")
    except UnicodeDecodeError:
        if (kind := kind_of_file(path)) is not None:
            raise ImageError(f"{path}: is {kind}") from None
        raise ImageError(f"{path}: not UTF-8 text; expected a class's name a line") from None
    except UnreadableError as error:
        raise ImageError(f"{path}: cannot be read: {error}") from None
    return checked_labels(text.removesuffix("\n").split("\n"), classes, str(path))


def checked_labels(labels: list[str], classes: int, where: str) -> tuple[str, ...]:
    """The labels without white space around them, as many as `classes`; errors as of `read_labels`."""
    if len(labels) != classes:
        raise ImageError(f"{where}: {len(labels)} labels: the network has {classes} classes; expected one a line")
    names = tuple(label.strip() for label in labels)
    for number, name in enumerate(names, 1):
        if not name or not name.isprintable():
            raise ImageError(f"{where}: line {number}: {name[:60]!r}: expected a name of printable characters")
    return names


#: The name that stands for the 1000 classes of ILSVRC-2012; a file of that name is `./imagenet`.
IMAGENET = "imagenet"

_IMAGENET_CLASSES = 1000


def labels_from_option(value: str, classes: int | None) -> tuple[str, ...]:
    """The names for a network of so many classes: `value` is a file's path or "imagenet".

    Raises ImageError or BuildError, one line: a network that is no classifier (None), an unreadable or odd file, not as
    many as classes, no package installed that knows ImageNet's.
    """
    if classes is None:
        raise BuildError(f"--labels {value}: the network is no classifier: expected one output (batch, classes)")
    if value != IMAGENET:
        return read_labels(Path(value), classes)
    if classes != _IMAGENET_CLASSES:
        raise BuildError(f"--labels {IMAGENET}: {_IMAGENET_CLASSES} names: the network has {classes} classes")
    names = _from_timm() or _from_torchvision()
    if names is None:
        raise BuildError(
            f"--labels {IMAGENET}: the names are timm's or torchvision's, and neither is installed: pip install timm, "
            f"or give a file of {_IMAGENET_CLASSES} lines"
        )
    return checked_labels(names, classes, f"--labels {IMAGENET}")


# Files of the packages, not the packages: importing either takes seconds, and fails where torchvision was built for
# another PyTorch.


def _from_timm() -> list[str] | None:
    synsets = _package_text("timm", "data/_info/imagenet_synsets.txt")
    lemmas = _package_text("timm", "data/_info/imagenet_synset_to_lemma.txt")
    if synsets is None or lemmas is None:
        return None
    names = dict(line.split("\t", 1) for line in lemmas.splitlines() if "\t" in line)
    return [names.get(synset, "") for synset in synsets.split()]


def _from_torchvision() -> list[str] | None:
    text = _package_text("torchvision", "models/_meta.py")
    if text is None:
        return None
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "_IMAGENET_CATEGORIES":
            return [str(name) for name in ast.literal_eval(statement.value)]
    return None


def _package_text(package: str, path: str) -> str | None:
    file = find_package_file(package, path)
    return None if file is None else file.read_text(encoding="utf-8")
