"""`--labels`: the classes' names that a bundle is given, from a file or from an installed timm or torchvision."""

from __future__ import annotations

import ast
from pathlib import Path

from effgen.errors import BuildError
from effgen.runtime.labels import checked_labels, read_labels
from effgen.runtime.library import find_package_file

#: The name that stands for the 1000 classes of ILSVRC-2012; a file of that name is `./imagenet`.
IMAGENET = "imagenet"

_IMAGENET_CLASSES = 1000


def labels_from_option(value: str, classes: int) -> tuple[str, ...]:
    """The names for a network of so many classes: `value` is a file's path or "imagenet".

    Raises ImageError or BuildError, one line: an unreadable or odd file, not as many as classes, no package installed
    that knows ImageNet's.
    """
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
