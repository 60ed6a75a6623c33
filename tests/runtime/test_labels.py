"""Where a bundle's labels come from, and which files are none."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from commands import one_line

from effgen.errors import BuildError, ImageError
from effgen.runtime import labels
from effgen.runtime.labels import read_labels


@pytest.mark.parametrize("text", ["a\nb\nc", "a\nb\nc\n", "a\r\nb\r\nc\r\n", "\ufeffa\nb \n\tc\n"])
def test_one_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "l.txt").write_bytes(text.encode())
    assert read_labels(tmp_path / "l.txt", 3) == ("a", "b", "c")


def test_other_alphabets(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("Föhre\n松\n", encoding="utf-8")
    assert read_labels(tmp_path / "l.txt", 2) == ("Föhre", "松")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\nb\n", "2 labels: the network has 3 classes"),
        (b"", "1 labels: the network has 3"),
        (b"a\n\nb\n", "line 2: '': expected a name"),
        (b"a\nb\n\x1b[31mred\n", "line 3: .*expected a name of printable characters"),
        (b"a\nb\n\xff\n", "not UTF-8 text"),
    ],
)
def test_files_that_are_no_labels(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "l.txt").write_bytes(data)
    with pytest.raises(ImageError, match=rf"l\.txt: {message}"):
        read_labels(tmp_path / "l.txt", 3)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"l\.txt: cannot be read: No such file"):
        read_labels(tmp_path / "l.txt", 3)


def test_imagenet_by_timm() -> None:
    timm_data = pytest.importorskip("zoo").external_module("timm.data")
    info = timm_data.ImageNetInfo()
    assert list(labels.labels_from_option("imagenet", 1000)) == [info.index_to_description(i) for i in range(1000)]


def _without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in packages else find(name))


def test_imagenet_by_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    categories = pytest.importorskip("zoo").external_module("torchvision.models._meta")._IMAGENET_CATEGORIES
    _without(monkeypatch, "timm")
    assert list(labels.labels_from_option("imagenet", 1000)) == categories


def test_imagenet_by_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, "timm", "torchvision")
    with pytest.raises(BuildError, match=r"--labels imagenet: .*neither is installed: pip install timm"):
        labels.labels_from_option("imagenet", 1000)


@pytest.mark.parametrize(("value", "message"), [("imagenet", "the network has 10 classes"), ("none.txt", "none.txt")])
def test_refused_before_the_work(run: Any, tmp_path: Path, tiny_spec: Path, value: str, message: str) -> None:
    assert message in one_line(run("compile", "--spec", tiny_spec, "-o", tmp_path / "b", "--labels", value))
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_something_else(tmp_path: Path) -> None:
    for name, data, what in (
        ("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
        ("page", b"<!DOCTYPE html><title>404</title>", "an HTML page"),
        ("packed", gzip.compress(b"a\nb\n"), "a gzip archive"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=f"{name}: is {what}"):
            read_labels(tmp_path / name, 3)
