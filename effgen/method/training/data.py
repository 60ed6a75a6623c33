"""A data set to learn from: a folder of pictures, one folder a class."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from effgen.errors import DataError
from effgen.network.spec import NetworkSpec
from effgen.runtime.picture import SUFFIXES, printable
from effgen.runtime.sources import folders_in, pictures_below

#: The two folders of a data set that is split already.
SPLITS = ("train", "val")

#: Of pictures that are not split: the share to judge by.
VAL_SHARE = 0.2

#: A class of one picture cannot be both learned and judged.
_LEAST_OF_A_CLASS = 2


@dataclass(frozen=True)
class LabelledPictures:
    """Picture files and the number of the class of each."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class DataSource:
    """A data set that was looked over: class names in the order of their numbers, pictures to learn and to judge by.

    Nothing is decoded yet. The order of the pictures is the same on every machine.
    """

    root: Path
    classes: tuple[str, ...]
    train: LabelledPictures
    val: LabelledPictures

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the classes and of each picture's path below the root, size and part: the same on every machine.

        A picture that was exchanged for another of the same size in bytes goes unnoticed. Raises DataError for one that
        is gone, and for a link to nothing.
        """
        content = hashlib.sha256(repr(self.classes).encode())
        for name, part in zip(SPLITS, (self.train, self.val), strict=True):
            for file in part.files:
                line = f"{name}\0{printable(file.relative_to(self.root).as_posix())}\0{_size(file)}\n"
                content.update(line.encode())
        return content.hexdigest()


def open_data(path: Path, val_share: float | None = None, seed: int = 0) -> DataSource:
    """Look over the folder `path`: `train/` and `val/` with a folder for each class, or the class folders alone.

    Class folders alone are split: of each class the share `val_share` (None: VAL_SHARE; at least one picture) is kept
    for judging, the same ones for the same `seed` on every machine, and nearly the same ones when pictures are added.
    Files that are no pictures by their suffix, and what begins with a dot, are left out; folders below a class's belong
    to it. Raises DataError with one line for a folder that holds no such data set, or is split and given a share.
    """
    if val_share is not None and not 0 < val_share < 1:
        raise DataError(f"{val_share:g} of the pictures for validation: expected a share above 0, below 1")
    if not path.is_dir():
        found = "is no folder" if path.exists() else "does not exist"
        raise DataError(f"{printable(path)}: {found}; expected a folder with one folder of pictures for each class")
    there = [name for name in SPLITS if (path / name).is_dir()]
    if len(there) == 1:
        missing = next(name for name in SPLITS if name not in there)
        raise DataError(
            f"{printable(path)}: holds {there[0]}/ but no {missing}/; expected both, or class folders alone with none "
            f"of that name: to have what is in {there[0]}/ split, give {printable(path / there[0])}"
        )
    if there and val_share is not None:
        raise DataError(
            f"{printable(path)}: holds train/ and val/, which are taken as they are: --val-share {val_share:g} is for "
            f"class folders alone; leave it out"
        )
    return _split_already(path) if there else _split_here(path, val_share or VAL_SHARE, seed)


def fitted_to(spec: NetworkSpec, data: DataSource) -> NetworkSpec:
    """The spec with as many classes as the data set has. Raises DataError where its input is no picture's.

    Grey pictures feed a network of 3 channels and colour ones a network of 1: they are converted.
    """
    if spec.input.channels not in (1, 3):
        raise DataError(
            f"{spec.name}: input.channels = {spec.input.channels}: expected 1 (grey) or 3 (colour) for pictures"
        )
    classifier = spec.classifier.model_copy(update={"classes": len(data.classes)})
    return spec.model_copy(update={"classifier": classifier})


def _split_already(path: Path) -> DataSource:
    train, val = (_pictures_by_class(path / name) for name in SPLITS)
    if train.keys() != val.keys():
        odd = sorted(train.keys() ^ val.keys())[0]
        has, lacks = SPLITS if odd in train else reversed(SPLITS)
        raise DataError(f"{printable(path)}: class {odd} is in {has}/ and not in {lacks}/; expected the same classes")
    return DataSource(path, tuple(train), _labelled(train), _labelled(val))


def _split_here(path: Path, val_share: float, seed: int) -> DataSource:
    train, val = {}, {}
    for name, files in _pictures_by_class(path).items():
        if len(files) < _LEAST_OF_A_CLASS:
            raise DataError(
                f"{printable(path / name)}: {len(files)} picture; expected at least {_LEAST_OF_A_CLASS} of a class, "
                f"one to learn from and one to judge by"
            )
        kept = min(max(1, round(len(files) * val_share)), len(files) - 1)
        drawn = sorted(files, key=lambda file: _draw(file.relative_to(path), seed))
        chosen = set(drawn[:kept])
        val[name] = [file for file in files if file in chosen]
        train[name] = [file for file in files if file not in chosen]
    return DataSource(path, tuple(train), _labelled(train), _labelled(val))


def _draw(name: Path, seed: int) -> bytes:
    """A number for each picture that depends on its name and the seed alone."""
    return hashlib.sha256(f"{seed}\0{printable(name.as_posix())}".encode()).digest()


def _pictures_by_class(folder: Path) -> dict[str, list[Path]]:
    """Class name -> its pictures, both in alphabetical order; at least two classes, none empty."""
    classes = {entry.name: pictures_below(entry) for entry in folders_in(folder)}
    if len(classes) < 2:
        found = f"one class, {next(iter(classes))}" if classes else "no folders of classes"
        raise DataError(
            f"{printable(folder)}: holds {found}; expected a folder of pictures for each of 2 classes or more"
        )
    for name, files in classes.items():
        if not name.isprintable():
            raise DataError(
                f"{printable(folder)}: {name!r}: expected folders named after classes in printable characters"
            )
        if not files:
            raise DataError(
                f"{printable(folder / name)}: no pictures; expected files that end in {', '.join(SUFFIXES)}"
            )
    return classes


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise DataError(f"{printable(file)}: cannot be read: {error.strerror or error}") from None


def _labelled(by_class: dict[str, list[Path]]) -> LabelledPictures:
    pairs = [(file, label) for label, files in enumerate(by_class.values()) for file in files]
    return LabelledPictures(tuple(file for file, _ in pairs), tuple(label for _, label in pairs))
