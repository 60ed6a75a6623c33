"""README and guides tell the truth: commands, options, make targets and paths exist, examples work."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from pictures import encoded, pixels

from effgen.cli import app
from effgen.machines.target import load_target
from effgen.network.lowering.network import lower
from effgen.network.scaling import coefficients_for, scale
from effgen.network.spec import parse_spec

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "run.md").read_text()
TRAINING = (ROOT / "docs" / "training.md").read_text()
COMMANDS = [
    line.split("#")[0].split(" < ")[0]
    for line in (README + GUIDE + TRAINING).splitlines()
    if re.match(r"effgen [a-z]", line)
]


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
    assert "@@" not in README + GUIDE


@pytest.mark.parametrize("number", [0, 1])
def test_python_of_the_guide_runs(number: int, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "b0").symlink_to(tiny_bundle)
    (tmp_path / "cat.jpg").write_bytes(encoded(pixels(), "JPEG"))
    code = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[number]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=600)


def test_spec_of_the_guide_makes_a_network() -> None:
    text = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "write-a-spec.md").read_text(), re.DOTALL)[0]
    spec = parse_spec(text, where="docs/write-a-spec.md")
    scaled = scale(spec, coefficients_for(spec, 1.5))
    assert lower(scaled).values["logits"].shape == (1, 10)


def test_target_of_the_guide_is_a_target(tmp_path: Path) -> None:
    text = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "add-a-target.md").read_text(), re.DOTALL)[0]
    (tmp_path / "guide.toml").write_text(text)
    assert load_target(tmp_path / "guide.toml").vector_registers == 16
