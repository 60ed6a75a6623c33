"""Pictures as tensors: decoded once and kept where they fit into memory, else read anew by worker processes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effgen.errors import DataError, ImageError
from effgen.measure.carried.process import die_with
from effgen.method.training.data import DataSource, LabelledPictures
from effgen.runtime.picture import Preparation, check_header

#: Decoded pictures of a data set's part that are kept in memory.
KEPT_BYTES = 2**30

#: More threads or worker processes than this do not help one training.
_MOST_READERS = 8


class LabelledImages(Protocol):
    """Pictures of one size with their labels."""

    def __len__(self) -> int: ...

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels uint8 (n, channels, height, width) and labels int64 (n,), `size` at a time, the last perhaps less."""


def open_images(data: DataSource, pictures: LabelledPictures, preparation: Preparation, readers: int) -> LabelledImages:
    """`pictures` of `data` decoded as `preparation` says, all of one size, by at most so many `readers` at once.

    Raises DataError, which names the picture, for one that cannot be read: at once; where pictures are read anew, only
    for one whose first bytes tell, the others when they are reached.
    """
    if len(pictures) * preparation.channels * math.prod(preparation.size) <= KEPT_BYTES:
        return _kept(data.digest, pictures, preparation, min(_MOST_READERS, readers))
    _check_headers(pictures.files)
    return _StreamedImages(pictures, preparation, min(_MOST_READERS, readers))


class _KeptImages:
    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self._pixels, self._labels = pixels, labels

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in order.split(size):
            yield self._pixels[chosen], self._labels[chosen]


@lru_cache(maxsize=2)
def _kept(digest: str, pictures: LabelledPictures, preparation: Preparation, readers: int) -> _KeptImages:
    """Both parts of the data set used last: a search trains many networks on the same pictures."""
    with ThreadPoolExecutor(readers) as pool:
        decoded = list(pool.map(lambda file: _decoded(file, preparation), pictures.files))
    return _KeptImages(torch.from_numpy(np.stack(decoded)), torch.tensor(pictures.labels))


def _decoded(file: Path, preparation: Preparation) -> NDArray[np.uint8]:
    """`(channels, height, width)`. Raises DataError."""
    try:
        return preparation.pixels(file)
    except ImageError as error:
        raise DataError(str(error)) from None


def _check_headers(files: Sequence[Path]) -> None:
    for file in files:
        try:
            check_header(file)
        except ImageError as error:
            raise DataError(str(error)) from None


class _StreamedImages:
    def __init__(self, pictures: LabelledPictures, preparation: Preparation, readers: int) -> None:
        self._dataset, self._readers = _Dataset(pictures, preparation), readers
        self._labels = torch.tensor(pictures.labels)

    def __len__(self) -> int:
        return len(self._labels)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        chosen = order.split(size)
        loader = torch.utils.data.DataLoader(
            self._dataset,
            batch_sampler=[indices.tolist() for indices in chosen],
            num_workers=self._readers,
            collate_fn=_stacked,
            worker_init_fn=partial(_tied_to, os.getpid()),
        )
        for indices, pixels in zip(chosen, loader, strict=True):
            if isinstance(pixels, str):
                raise DataError(pixels)
            yield pixels, self._labels[indices]


def _tied_to(parent: int, number: int) -> None:
    """A worker process ends with the training: PyTorch's own look every 5 s is none where it waits for a picture."""
    die_with(parent)


def _stacked(pictures: Sequence[NDArray[np.uint8] | str]) -> Tensor | str:
    """The pictures as one tensor, or the first error among them."""
    errors = [picture for picture in pictures if isinstance(picture, str)]
    return errors[0] if errors else torch.from_numpy(np.stack(pictures))


class _Dataset(torch.utils.data.Dataset):  # type: ignore[misc]
    """Runs in worker processes: an error travels as its text, since the loader would make several lines of it."""

    def __init__(self, pictures: LabelledPictures, preparation: Preparation) -> None:
        self._files, self._preparation = pictures.files, preparation

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> NDArray[np.uint8] | str:
        try:
            return _decoded(self._files[index], self._preparation)
        except DataError as error:
            return str(error)
