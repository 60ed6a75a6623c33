"""Names in files that would command the terminal: they are shown, in tables, lines, logs and errors alike."""

import logging
import shutil
from pathlib import Path

import damage
import pytest
from rich.table import Table
from rich.text import Text

from effgen.cli.console import Output

EVIL = "evil\x1b[2J\x1b]0;owned\x07\u202e\nrow"


def test_everything_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(quiet=False, verbose=True)
    table = Table(EVIL)
    table.add_row(EVIL)
    table.add_row(Text(EVIL))
    output.result([table, Text(EVIL)], {})
    output.lines([EVIL])
    output.info(EVIL)
    output.warn(EVIL)
    output.problem(EVIL)
    output.details([EVIL])
    logging.getLogger("effgen").error("%s", EVIL)
    captured = capsys.readouterr()
    both = captured.out + captured.err
    assert both.count(r"evil\x1b[2J") == 10
    assert not {"\x1b", "\x07", "\u202e"} & set(both)
    assert sum(line.startswith("row") for line in both.splitlines()) == 1  # a Text that is a result of its own


@pytest.mark.parametrize("words", [("bench",), ("verify",), ("run", "x.png"), ("eval", "--data", ".")])
def test_manifest_of_odd_names(run, tiny_bundle: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")

    def change(data: dict) -> None:
        data["name"] = data["target"]["name"] = EVIL
        data["target"]["features"] = [EVIL]

    damage.edit_manifest(bundle, change)
    status, out, err = run(words[0], bundle, *words[1:])
    assert status == 1 and not {"\x1b", "\x07", "\u202e"} & set(out + err)
    assert err.splitlines()[-1].startswith("error: ") and "Traceback" not in err
