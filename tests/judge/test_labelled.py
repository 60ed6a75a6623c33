"""Which class a folder's pictures are of, and which folders are refused."""

import re
from pathlib import Path

import pytest
from pictures import write_picture

from effgen.errors import DataError
from effgen.judge.labelled import match_folders, open_labelled


def folders(root: Path, *names: str) -> Path:
    for name in names:
        write_picture(root / name / "x.png")
    return root


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (["cat", "dog"], ["dog", "cat", "owl"], ("labels", {"cat": 1, "dog": 0})),
        (["0", "2"], ["2", "1", "0"], ("labels", {"0": 2, "2": 0})),
        (["0", "02"], ["dog", "cat", "owl"], ("numbers", {"0": 0, "02": 2})),
        (["n1", "n2", "n3"], ["dog", "cat", "owl"], ("order", {"n1": 0, "n2": 1, "n3": 2})),
        (["n1", "n2", "n3"], None, ("order", {"n1": 0, "n2": 1, "n3": 2})),
    ],
)
def test_how_folders_are_classes(
    names: list[str], labels: list[str] | None, expected: tuple[str, dict[str, int]]
) -> None:
    assert match_folders(names, 3, labels) == expected


@pytest.mark.parametrize(
    ("names", "labels", "text"),
    [
        (["cat", "dgo", "owl"], ["dog", "cat", "owl"], "dgo: not in the bundle's labels"),
        (["cat", "crane", "owl"], ["crane", "crane", "cat"], "crane, owl: not in"),
        (["1", "3"], None, "folder 3: the network has 3 classes; expected 0 to 2"),
        (["a", "b", "c", "d"], None, "4 folders (a, b, c, ...): the network has 3 classes"),
        (["train", "val"], None, "expected one of them"),
    ],
)
def test_folders_that_are_no_classes(names: list[str], labels: list[str] | None, text: str) -> None:
    with pytest.raises(DataError, match=re.escape(text)):
        match_folders(names, 2 if "val" in names else 3, labels)


def test_pictures_and_their_classes(tmp_path: Path) -> None:
    """In order, those of folders below a class's too; one that has none is a class still."""
    write_picture(folders(tmp_path, "b", "a") / "b" / "more" / "y.png")
    (tmp_path / "c").mkdir()
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    found = open_labelled(tmp_path, 3, None)
    assert [file.relative_to(tmp_path).as_posix() for file in found.files] == ["a/x.png", "b/x.png", "b/more/y.png"]
    assert (found.truth, found.matched, found.names) == ((0, 1, 1), "order", ("a", "b", "c"))
    assert open_labelled(tmp_path, 3, ["x", "y", "z"]).names == ("x", "y", "z")


def test_pictures_alone_have_no_classes(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG"):
        write_picture(tmp_path / name)
    found = open_labelled(tmp_path, 2, None)
    assert [file.name for file in found.files] == ["a.JPG", "b.png"]
    assert (found.truth, found.matched, found.names) == (None, None, ("0", "1"))


def test_folders_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: does not exist"):
        open_labelled(tmp_path / "absent", 2, None)
    with pytest.raises(DataError, match=r"no pictures; expected files that end in \.jpg"):
        open_labelled(tmp_path, 2, None)
    write_picture(folders(tmp_path, "a", "b") / "x.png")
    with pytest.raises(DataError, match=r"holds x\.png beside folders"):
        open_labelled(tmp_path, 2, None)
    with pytest.raises(DataError, match="is no folder"):
        open_labelled(tmp_path / "x.png", 2, None)
