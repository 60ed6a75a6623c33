"""The README tells the truth: its commands exist with their options, its two make targets too, and its run is real."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from effgen.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [line.split("#")[0] for line in README.splitlines() if re.match(r"effgen [a-z]", line)]


def test_commands_are_found() -> None:
    assert {line.split()[1] for line in COMMANDS} >= {"inspect", "compile", "export", "verify", "bench", "doctor"}


@pytest.mark.parametrize("line", COMMANDS)
def test_command_parses(line: str) -> None:
    _, name, *words = shlex.split(line)
    group = typer.main.get_command(app)
    command = group.commands[name]  # type: ignore[attr-defined]
    command.make_context(name, words)  # raises on an option or argument that does not exist


def test_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)


def test_links_and_paths_exist() -> None:
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        assert path.startswith("http") or (ROOT / path).exists(), path


def test_no_placeholder_is_left() -> None:
    assert "@@" not in README
