"""Pictures as tensors, kept in memory or read by worker processes: the same ones."""

from pathlib import Path

import pytest
import torch
from learning import striped_data

from effgen.errors import DataError
from effgen.method.training import images
from effgen.method.training.data import DataSource, open_data
from effgen.method.training.images import open_images
from effgen.runtime.picture import Preparation

PREPARATION = Preparation(1, 8, 8, "bilinear", (0.0,), (1.0,))


def batches_of(data: DataSource) -> list[tuple[torch.Tensor, torch.Tensor]]:
    found = open_images(data, data.train, PREPARATION, 2)
    assert len(found) == len(data.train)
    return list(found.batches(torch.tensor([3, 0, 20, 5, 11]), 2))


def test_kept_and_streamed_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = striped_data(tmp_path / "d")
    kept = batches_of(data)
    monkeypatch.setattr(images, "KEPT_BYTES", 0)
    streamed = batches_of(data)
    assert [labels.tolist() for _, labels in kept] == [[0, 0], [1, 0], [0]]
    for (pixels, labels), (other, others) in zip(kept, streamed, strict=True):
        assert pixels.dtype == torch.uint8 and pixels.shape[1:] == (1, 8, 8)
        assert torch.equal(pixels, other) and torch.equal(labels, others)


def test_pictures_are_decoded_once_for_many_trainings(tmp_path: Path) -> None:
    data = striped_data(tmp_path / "d")
    assert open_images(data, data.train, PREPARATION, 2) is open_images(
        open_data(data.root), data.train, PREPARATION, 2
    )


def test_a_picture_that_is_none_is_named_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = striped_data(tmp_path / "d")
    data.train.files[3].write_bytes(b"no picture")
    for limit in (2**30, 0):
        monkeypatch.setattr(images, "KEPT_BYTES", limit)
        with pytest.raises(DataError, match=r"level/\d+\.png: not a picture; expected JPEG") as error:
            open_images(open_data(data.root), data.train, PREPARATION, 2)
        assert "\n" not in str(error.value)


def test_a_damaged_picture_is_named_where_it_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = striped_data(tmp_path / "d")
    content = data.train.files[3].read_bytes()
    data.train.files[3].write_bytes(content[: len(content) // 2])
    monkeypatch.setattr(images, "KEPT_BYTES", 0)
    with pytest.raises(DataError, match=r"level/\d+\.png: damaged") as error:
        batches_of(data)
    assert "\n" not in str(error.value)
