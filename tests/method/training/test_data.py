"""Folders of pictures: what is found, how it is split, and what is refused."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from learning import CLASSES, striped_data, write_stripes
from networks import tiny_spec

from effgen.errors import DataError
from effgen.method.training.data import DataSource, LabelledPictures, fitted_to, open_data


def names(data: DataSource, part: LabelledPictures) -> list[str]:
    return [f"{file.relative_to(data.root)} {label}" for file, label in zip(part.files, part.labels, strict=True)]


def test_class_folders_are_split(tmp_path: Path) -> None:
    data = open_data(write_stripes(tmp_path / "d", each=10), val_share=0.3)
    assert data.classes == CLASSES
    assert (len(data.train), len(data.val)) == (14, 6)
    assert data.val.labels == (0, 0, 0, 1, 1, 1)
    assert sorted(data.train.files + data.val.files) == sorted((tmp_path / "d").glob("*/*.png"))


def test_the_split_depends_on_names_and_seed_alone(tmp_path: Path) -> None:
    write_stripes(tmp_path / "a", each=10)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    a, b = open_data(tmp_path / "a"), open_data(tmp_path / "b")
    assert names(a, a.val) == names(b, b.val) and a.digest == b.digest
    other = open_data(tmp_path / "a", seed=1)
    assert names(other, other.val) != names(a, a.val) and other.digest != a.digest


@given(share=st.floats(0.001, 0.999))
def test_no_class_is_left_without_pictures(share: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "few"
    if not folder.exists():
        write_stripes(folder, each=3)
    data = open_data(folder, val_share=share)
    assert set(data.train.labels) == set(data.val.labels) == {0, 1}
    assert not set(data.train.files) & set(data.val.files)


def test_split_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    write_stripes(tmp_path / "train", each=5)
    write_stripes(tmp_path / "val", each=2)
    data = open_data(tmp_path)
    assert (len(data.train), len(data.val)) == (10, 4)
    assert names(data, data.val)[0] == "val/level/000.png 0"


def test_a_share_of_what_is_split_already_is_refused(tmp_path: Path) -> None:
    for name in ("train", "val"):
        write_stripes(tmp_path / name, each=2)
    with pytest.raises(
        DataError, match=r"taken as they are: --val-share 0\.2 is for class folders alone; leave it out"
    ):
        open_data(tmp_path, val_share=0.2)


def test_digest_follows_the_content(tmp_path: Path) -> None:
    folder = write_stripes(tmp_path / "d")
    before = open_data(folder).digest
    with (folder / "level" / "000.png").open("ab") as file:
        file.write(b"more")
    assert open_data(folder).digest != before


@pytest.mark.parametrize("why", ["gone", "a link to nothing"])
def test_digest_of_a_picture_that_is_not_there(why: str, tmp_path: Path) -> None:
    data = striped_data(tmp_path / "d")
    (tmp_path / "d" / "level" / "003.png").unlink()
    if why == "a link to nothing":
        (tmp_path / "d" / "level" / "003.png").symlink_to("nothing")
        data = open_data(tmp_path / "d")
    with pytest.raises(DataError, match=r"level/003\.png: cannot be read: No such file"):
        data.digest  # noqa: B018


def test_other_files_are_left_out(tmp_path: Path) -> None:
    folder = write_stripes(tmp_path / "d")
    before = open_data(folder)
    (folder / "level" / "notes.txt").write_text("no picture")
    (folder / "level" / ".hidden.png").write_text("no picture")
    (folder / ".cache").mkdir()
    (folder / "README").write_text("no class")
    assert open_data(folder) == before


def test_classes_of_the_spec_follow_the_data(tmp_path: Path) -> None:
    data = striped_data(tmp_path / "d")
    assert fitted_to(tiny_spec(), data).classifier.classes == 2
    odd = tiny_spec().model_copy(update={"input": tiny_spec().input.model_copy(update={"channels": 4})})
    with pytest.raises(DataError, match=r"input\.channels = 4: expected 1 \(grey\) or 3"):
        fitted_to(odd, data)


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    def refused(folder: Path, *words: str) -> None:
        with pytest.raises(DataError) as error:
            open_data(folder)
        assert "\n" not in str(error.value)
        for word in words:
            assert word in str(error.value)

    refused(tmp_path / "absent", "absent: does not exist", "expected a folder")
    refused(tmp_path, "holds no folders of classes")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "file: is no folder")
    one = write_stripes(tmp_path / "one")
    shutil.rmtree(one / "level")
    refused(one, "holds one class, upright")
    (one / "empty").mkdir()
    refused(one, "empty: no pictures", ".jpg")
    shutil.copy(one / "upright" / "000.png", one / "empty")
    refused(one, "empty: 1 picture; expected at least 2 of a class")
    write_stripes(tmp_path / "split" / "train")
    refused(tmp_path / "split", "holds train/ but no val/", "expected both", f"give {tmp_path / 'split' / 'train'}")
    write_stripes(tmp_path / "split" / "val")
    (tmp_path / "split" / "val" / "level").rename(tmp_path / "split" / "val" / "slanted")
    refused(tmp_path / "split", "class level is in train/ and not in val/")
    write_stripes(tmp_path / "line")
    (tmp_path / "line" / "level").rename(tmp_path / "line" / "le\nvel")
    refused(tmp_path / "line", r"'le\nvel'")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_shares_that_are_none(share: float, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a share above 0, below 1"):
        open_data(write_stripes(tmp_path / "d"), val_share=share)
