"""What a command refuses: in one line, before any work, leaving what was there."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import one_line


def spec_file(folder: Path, text: str, old: str, new: str) -> Path:
    assert old in text
    path = folder / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_bad_specs(run: Any, tiny_spec: Path, tmp_path: Path) -> None:
    text = tiny_spec.read_text()
    path = spec_file(tmp_path, text, "kernel = 3", "kernel = 4")
    message = one_line(run("inspect", "--spec", path))
    assert f"{path}: stages[0].kernel = 4: expected an odd number" in message and "3 or 5" in message
    path = spec_file(tmp_path, text, "squeeze_excite", "squeeze_exite")
    message = one_line(run("compile", "--spec", path, "-o", tmp_path / "out"))
    assert "stages[0].squeeze_exite: unknown key; did you mean squeeze_excite?" in message
    assert "cannot read the spec" in one_line(run("inspect", "--spec", tmp_path / "absent.toml"))
    assert "did you mean efficientnet?" in one_line(run("inspect", "--spec", "efficentnet"))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--phi", "-1"], "--phi -1: expected 0 or more"),
        (["--phi", "b9"], "--phi b9: expected a number or the name of a published row"),
        (["--phi", "nan"], "--phi nan: expected a number"),
        (["--resolution", "31"], "--resolution 31: expected from 32"),
        (["--resolution", "0.1x"], "--resolution 0.1x (22 pixels): expected from 32 (the network's total stride) to"),
        (["--resolution", "2.5"], "--resolution 2.5: expected whole pixels, or a multiple"),
        (["--resolution", "infx"], "--resolution infx: expected a multiple above 0 of the baseline's 224 pixels"),
        (["--width", "0"], "--width 0: expected a multiplier above 0"),
        (["--batch", "0"], "--batch 0: expected from 1"),
        (["--norm-eps", "x"], "--norm-eps x: expected pytorch, tensorflow or a number"),
    ],
)
def test_networks_that_make_no_sense(words: list[str], text: str, run: Any, tmp_path: Path) -> None:
    assert text in one_line(run("inspect", *words))
    assert text in one_line(run("compile", *words, "-o", tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_text_in_brackets_is_printed_as_it_is(run: Any) -> None:
    assert "--phi [bold]x: expected" in one_line(run("inspect", "--phi", "[bold]x"))
    assert "[red]x" in one_line(run("inspect", "--spec", "./[red]x"))


@pytest.mark.parametrize("words", [["inspect"], ["doctor"], ["verify", "/absent"]])
def test_json_path_that_cannot_be_written_is_refused_before_the_work(
    words: list[str], run: Any, tmp_path: Path
) -> None:
    assert "is a directory" in one_line(run(*words, "--json", tmp_path))
    assert "is no directory" in one_line(run(*words, "--json", tmp_path / "absent" / "x.json"))


def test_unknown_target_lists_the_known_ones(run: Any, tiny_spec: Path, tmp_path: Path) -> None:
    message = one_line(run("compile", "--spec", tiny_spec, "--target", "x86-64-v5", "-o", tmp_path / "out"))
    assert "x86-64-v5" in message and "cpu, cuda, " in message
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_that_is_none(run: Any, tiny_spec: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 cut off")
    words = ("--spec", tiny_spec, "--weights", tmp_path / "broken.pth", "-o", tmp_path / "out")
    assert "broken.pth" in one_line(run("compile", *words))
    assert [path.name for path in tmp_path.iterdir()] == ["broken.pth"]


def test_output_that_exists_needs_force(run: Any, tiny_spec: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "out")
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    words = ("compile", "--spec", tiny_spec, "-o", tmp_path / "out")
    assert "--force" in one_line(run(*words))
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    code, out, err = run(*words, "--force", "-v")
    assert code == 0 and "compiled in" in out and "rule:pointwise, 1 in a run" in err


@pytest.mark.parametrize("words", [["compile"], ["export"]])
def test_path_that_cannot_be_written(words: list[str], run: Any, tiny_spec: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    one_line(run(*words, "--spec", tiny_spec, "-o", tmp_path / "file" / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "file").unlink()
    (tmp_path / "broken.pth").write_bytes(b"")
    one_line(run(*words, "--spec", tiny_spec, "-o", tmp_path / "new" / "out", "--weights", tmp_path / "broken.pth"))
    assert [path.name for path in tmp_path.iterdir()] == ["broken.pth"]


def test_quiet_and_verbose_exclude_each_other(run: Any) -> None:
    assert run("inspect", "-q", "-v")[0] == 2
