"""Pictures to judge a classifier by, and the class that each is of where folders tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from effgen.errors import DataError
from effgen.runtime.picture import SUFFIXES, printable
from effgen.runtime.sources import folders_in, pictures_below, pictures_in

#: How folders became classes: by the bundle's labels, as class numbers, or in the order of their names.
Matched = Literal["labels", "numbers", "order"]

#: A data set for training has these; as classes of a network that has two they would be nonsense.
_SPLITS = {"train", "val"}

#: Names that an error tells, at most.
_TOLD = 3


@dataclass(frozen=True)
class LabelledFolder:
    """Pictures by folder and name, the same order on every machine; `truth` has the class of each, None: unlabelled.

    `names` has one for each of the network's classes: its label, else its folder's name, else its number.
    """

    files: tuple[Path, ...]
    truth: tuple[int, ...] | None
    matched: Matched | None
    names: tuple[str, ...]


def open_labelled(folder: Path, classes: int, labels: Sequence[str] | None) -> LabelledFolder:
    """Look over `folder`: one folder of pictures a class, or pictures alone. Nothing is decoded yet.

    A folder of a class may hold others, and none of its pictures; files that are no pictures by their suffix, and what
    begins with a dot, are left out. Raises DataError, one line: no pictures, or folders that are not the network's
    classes.
    """
    if not folder.is_dir():
        found = "is no folder" if folder.exists() else "does not exist"
        raise DataError(f"--data {printable(folder)}: {found}; expected pictures, one folder a class")
    by_class = {entry.name: pictures_below(entry) for entry in folders_in(folder)}
    files = [file for found in by_class.values() for file in found]
    direct = pictures_in(folder)
    if not files and not direct:
        raise DataError(f"--data {printable(folder)}: no pictures; expected files that end in {', '.join(SUFFIXES)}")
    if not files:
        return LabelledFolder(tuple(direct), None, None, _names({}, classes, labels))
    if direct:
        raise DataError(
            f"--data {printable(folder)}: holds {printable(direct[0].name)} beside folders; expected one folder a "
            f"class, or pictures alone"
        )
    try:
        matched, numbers = match_folders(list(by_class), classes, labels)
    except DataError as error:
        raise DataError(f"--data {printable(folder)}: {error}") from None
    truth = tuple(numbers[name] for name, found in by_class.items() for _ in found)
    names = _names(numbers if matched == "order" else {}, classes, labels)
    return LabelledFolder(tuple(files), truth, matched, names)


def match_folders(
    folders: Sequence[str], classes: int, labels: Sequence[str] | None
) -> tuple[Matched, Mapping[str, int]]:
    """How the sorted `folders` are classes, and the number of each. Raises DataError where they are not.

    Where a few are labels, and others none, the order of all would be a guess: refused.
    """
    # A name that two classes have (ImageNet's cranes) says neither.
    numbers = {label: number for number, label in enumerate(labels or ()) if (labels or ()).count(label) == 1}
    strangers = [name for name in folders if name not in numbers]
    if not strangers:
        return "labels", {name: numbers[name] for name in folders}
    if all(name.isascii() and name.isdecimal() for name in folders):
        return "numbers", _class_numbers(folders, classes)
    if len(strangers) < len(folders):
        raise DataError(f"{_told(strangers)}: not in the bundle's labels, where other folders are; expected all there")
    if set(folders) == _SPLITS:
        raise DataError("holds train/ and val/; expected one of them, with one folder a class")
    if len(folders) != classes:
        other = "named by labels or class numbers" if labels else "named by class numbers"
        raise DataError(
            f"{len(folders)} folders ({_told(folders)}): the network has {classes} classes; expected one folder for "
            f"each, or some {other}"
        )
    return "order", {name: number for number, name in enumerate(folders)}


def _class_numbers(folders: Sequence[str], classes: int) -> dict[str, int]:
    beyond = [name for name in folders if int(name) >= classes]
    if beyond:
        raise DataError(f"folder {_told(beyond)}: the network has {classes} classes; expected 0 to {classes - 1}")
    return {name: int(name) for name in folders}


def _names(numbers: Mapping[str, int], classes: int, labels: Sequence[str] | None) -> tuple[str, ...]:
    if labels is not None:
        return tuple(labels)
    folders = {number: printable(name) for name, number in numbers.items()}
    return tuple(folders.get(number, str(number)) for number in range(classes))


def _told(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_TOLD])
    return f"{shown}, ..." if len(names) > _TOLD else shown
