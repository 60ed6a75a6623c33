"""`effgen run`: files, folders and standard input; one stream or several; what cannot be read stops nothing else."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import one_line
from pictures import encoded, pixels, write_picture

import effgen
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BundleError, ImageError
from effgen.network import NetworkRequest
from effgen.runtime import read_manifest
from effgen.runtime.run import RunRequest, run_bundle
from effgen.runtime.sources import sources_from_arguments


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pictures in three folders, and files that are none."""
    folder = tmp_path_factory.mktemp("album")
    names = ["b.png", "a.PNG", "sub/z.jpg", "sub/deep/c.bmp", "sub/y.webp", "z.tif", "sub/deep/d.ppm"]
    for seed, name in enumerate(names):
        write_picture(folder / name, seed)
    for name in ("notes.txt", ".hidden.png", ".cache/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def threes(tiny_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network for three images a call."""
    output = tmp_path_factory.mktemp("threes") / "bundle"
    compile_bundle(CompileRequest(NetworkRequest(spec=str(tiny_spec), batch=3), output))
    return output


def names(folder: Path) -> list[str]:
    return [os.path.relpath(source.name, folder) for source in sources_from_arguments([str(folder)])]


def test_folder_is_sorted_and_searched_to_its_ground(album: Path) -> None:
    assert names(album) == ["a.PNG", "b.png", "z.tif", "sub/y.webp", "sub/z.jpg", "sub/deep/c.bmp", "sub/deep/d.ppm"]


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert names(tmp_path) == ["a.png", "b.png"]


def test_arguments_keep_their_order_and_any_name_is_a_file(album: Path) -> None:
    given = [str(album / "z.tif"), str(album / "sub" / "deep"), str(album / "notes.txt")]
    found = [source.name for source in sources_from_arguments(given)]
    assert found == [given[0], *(f"{album}/sub/deep/{name}" for name in ("c.bmp", "d.ppm")), given[2]]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.png"
    Path(os.fsdecode(path)).write_bytes(encoded(pixels()))
    (source,) = sources_from_arguments([str(tmp_path)])
    assert source.name == f"{tmp_path}/?.png"


def test_one_picture(run: Any, tiny_bundle: Path, album: Path) -> None:
    path = album / "b.png"
    status, out, err = run("run", tiny_bundle, path, "--top", 3)
    assert (status, err) == (0, "")
    first, *rows = out.splitlines()
    assert first == str(path)
    expected = effgen.load(tiny_bundle).classify(path, top=3)
    assert [row.split() for row in rows] == [[f"{p.probability:.2%}", str(p.index)] for p in expected]


def test_labels_of_a_file(run: Any, tiny_bundle: Path, album: Path, tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("".join(f"thing {number}\n" for number in range(10)))
    status, out, _ = run("run", tiny_bundle, album / "b.png", "--top", "1", "--labels", tmp_path / "l.txt")
    index = effgen.load(tiny_bundle).classify(album / "b.png")[0].index
    assert status == 0 and f"{index}  thing {index}  {album / 'b.png'}" in out
    (tmp_path / "l.txt").write_text("one\n")
    assert "1 labels: the network has 10 classes" in one_line(
        run("run", tiny_bundle, album / "b.png", "--labels", tmp_path / "l.txt")
    )


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_standard_input_and_json(run: Any, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    feed(monkeypatch, encoded(pixels()))
    status, out, _ = run("run", tiny_bundle, "-", "--json", "-")
    report = json.loads(out)
    (answer,) = report["answers"]
    assert status == 0 and answer["image"] == "-" and answer["error"] is None
    expected = effgen.load(tiny_bundle).classify(pixels())
    assert [(p["index"], p["label"], p["probability"]) for p in answer["predictions"]] == [
        (p.index, p.label, p.probability) for p in expected
    ]
    assert report["model"] == "tiny phi=0" and report["streams"] == 1 and report["images_per_s"] > 0


def test_standard_input_that_is_no_picture(run: Any, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    feed(monkeypatch, b"")
    assert one_line(run("run", tiny_bundle, "-")) == "image: empty"
    assert "give it once" in one_line(run("run", tiny_bundle, "-", "-"))


@pytest.mark.parametrize("option", ["--throughput", "--quiet"])
def test_a_bad_picture_stops_nothing_else(run: Any, tiny_bundle: Path, album: Path, option: str) -> None:
    given = [album / "b.png", album / "notes.txt", album / "none.png", album / "z.tif"]
    status, out, err = run("run", tiny_bundle, *given, "--top", "1", option)
    assert status == 1
    assert [line.split()[-1] for line in out.splitlines()[:2]] == [str(given[0]), str(given[3])]
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert [error.split(": ")[1] for error in errors] == [str(given[1]), str(given[2])]
    assert "not a picture" in errors[0] and "No such file" in errors[1]


@pytest.mark.parametrize("option", ["--throughput", "--quiet"])
def test_a_folder_without_pictures_stops_nothing_else(
    run: Any, tiny_bundle: Path, album: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "empty").mkdir()
    given = [album / "b.png", tmp_path / "empty", album / "z.tif"]
    status, out, err = run("run", tiny_bundle, *given, "--top", "1", option)
    assert status == 1
    assert [line.split()[-1] for line in out.splitlines()[:2]] == [str(given[0]), str(given[2])]
    (error,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert error.startswith(f"error: {tmp_path}/empty: no pictures in this folder; expected files that end in .jpg")


def test_a_folder_that_cannot_be_read_stops_nothing_else(
    run: Any, tiny_bundle: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may read any
    status, out, err = run("run", tiny_bundle, album, "--json", "-", "--quiet")
    answers = {os.path.relpath(answer["image"], album): answer["error"] for answer in json.loads(out)["answers"]}
    message = f"{album}/sub/deep: cannot be read: Permission denied"
    assert status == 1 and err == f"error: {message}\n"
    assert answers == {**dict.fromkeys(["a.PNG", "b.png", "z.tif", "sub/y.webp", "sub/z.jpg"]), "sub/deep": message}
    line = one_line(run("run", tiny_bundle, album / "sub" / "deep"))
    assert line == message


def test_only_folders_without_pictures(run: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    line = one_line(run("run", tiny_bundle, tmp_path / "a", tmp_path / "b"))
    assert line.count("no pictures in this folder") == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [("notes.txt", "not a picture"), ("none.png", "No such file"), (".", "no pictures in this folder")],
)
def test_nothing_to_look_at(run: Any, tiny_bundle: Path, tmp_path: Path, given: str, expected: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    line = one_line(run("run", tiny_bundle, tmp_path / given))
    assert line.startswith(str(tmp_path))
    assert expected in line


def test_no_images_is_a_usage_error(run: Any, tiny_bundle: Path) -> None:
    status, _, err = run("run", tiny_bundle)
    assert status == 2 and "IMAGE" in err


def test_no_bundle(run: Any, album: Path, tmp_path: Path) -> None:
    assert "no bundle here" in one_line(run("run", tmp_path, album))


@pytest.mark.parametrize("throughput", [False, True])
def test_groups_of_the_batch(threes: Path, album: Path, throughput: bool) -> None:
    """Seven pictures and a bad one, three a call: each has its own answer, in order, told as it comes."""
    given = [str(album / "b.png"), str(album / "notes.txt"), str(album)]
    told: list[str] = []
    request = RunRequest(threes, tuple(given), top=10, throughput=throughput)
    report = run_bundle(request, lambda answer: told.append(answer.image))
    assert told == [answer.image for answer in report.answers] == [*given[:2], *(str(album / n) for n in names(album))]
    assert [answer.error is None for answer in report.answers] == [True, False, *[True] * 7]
    model = effgen.load(threes)
    for answer in report.answers:
        if answer.error is None:
            alone = {p.index: p.probability for p in model.classify(answer.image, top=10)}
            assert {p.index: p.probability for p in answer.predictions} == pytest.approx(alone, rel=1e-5)
    assert report.streams == (model.threads if throughput else 1)
    assert report.threads == (1 if throughput else model.threads)
    assert min(report.wall_s, report.prepare_s, report.inference_s) > 0


def test_streams_print_their_speed(run: Any, tiny_bundle: Path, album: Path) -> None:
    status, out, err = run("run", tiny_bundle, album, "--throughput", "--threads", "1", "--quiet")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].startswith("7 images in ") and " images/s (1 thread); an image: read and" in out


def test_a_bundle_that_says_nothing_of_pictures(tiny_bundle: Path, album: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "b")
    manifest = read_manifest(bundle)
    stated = {key: manifest.input[key] for key in ("name", "shape", "dtype", "layout")}
    (bundle / "manifest.json").write_text(replace(manifest, input=stated).to_json())
    with pytest.raises(BundleError, match="does not say how a picture is prepared"):
        run_bundle(RunRequest(bundle, (str(album),)))


def test_an_error_ends_all_streams(tiny_bundle: Path, album: Path) -> None:
    with pytest.raises(ImageError, match="top = 0"):
        run_bundle(RunRequest(tiny_bundle, (str(album),) * 20, top=0, throughput=True))
