"""A user's own judge of networks: found, called, and its answers checked."""

import re
from pathlib import Path

import pytest
from networks import tiny_spec

from effgen.errors import TrainingError
from effgen.method.training.entry_point import load_entry_point

PROGRAM = """
import numpy, torch
from helper_of_mine import bonus

def accuracy(spec, seed):
    return 0.5 + bonus + seed / 100 + spec.stem.channels / 1000

def array(spec, seed): return numpy.float32(0.25)
def tensor(spec, seed): return torch.tensor(0.75)
def nothing(spec, seed): pass
def nan(spec, seed): return float("nan")
def percent(spec, seed): return 93.5
def words(spec, seed): return "0.9"
def yes(spec, seed): return True
def several(spec, seed): return torch.zeros(2)
def fails(spec, seed): raise ValueError("two\\nlines")
def leaves(spec, seed): raise SystemExit(0)
def huge(spec, seed): return 10**400
def interrupted(spec, seed): raise KeyboardInterrupt
constant = 3
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judge_of_mine.py").write_text(PROGRAM)
    (tmp_path / "helper_of_mine.py").write_text("bonus = 0.25")
    return tmp_path / "judge_of_mine.py"


@pytest.mark.parametrize("where", ["{path}", "judge_of_mine", "judge_of_mine.py"])
def test_file_or_module(where: str, program: Path) -> None:
    evaluate = load_entry_point(f"{where.format(path=program)}:accuracy")
    assert evaluate(tiny_spec(), 3) == 0.5 + 0.25 + 0.03 + 0.008


@pytest.mark.parametrize(("name", "expected"), [("array", 0.25), ("tensor", 0.75)])
def test_numbers_of_all_kinds(name: str, expected: float, program: Path) -> None:
    answer = load_entry_point(f"{program}:{name}")(tiny_spec(), 0)
    assert answer == expected and type(answer) is float


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "returned None: expected an accuracy, a number from 0 to 1"),
        ("nan", "returned nan: expected"),
        ("percent", "returned 93.5: expected"),
        ("words", "returned '0.9': expected"),
        ("yes", "returned True: expected"),
        ("several", "returned tensor([0., 0.]): expected"),
        ("huge", "returned 1000"),
        ("fails", "raised ValueError: two lines"),
        ("leaves", "raised SystemExit: 0"),
    ],
)
def test_answers_that_are_none(name: str, message: str, program: Path) -> None:
    with pytest.raises(TrainingError, match=re.escape(message)) as error:
        load_entry_point(f"{program}:{name}")(tiny_spec(), 0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("judge_of_mine", "expected module:function or file.py:function"),
        (":accuracy", "expected module:function or file.py:function"),
        ("absent_module:accuracy", "no module absent_module here or among the installed ones"),
        ("absent.py:accuracy", "no file absent.py"),
        ("judge_of_mine:absent", "judge_of_mine holds no such name 'absent'; expected a function"),
        ("judge_of_mine:constant", "holds int, not a function 'constant'"),
        ("broken.py:accuracy", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("broken:accuracy", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("leaving.py:accuracy", "cannot be imported: SystemExit: usage: leaving"),
        ("leaving:accuracy", "cannot be imported: SystemExit: usage: leaving"),
    ],
)
def test_entry_points_that_are_none(text: str, message: str, program: Path) -> None:
    program.with_name("broken.py").write_text("import nowhere")
    program.with_name("leaving.py").write_text("import sys; sys.exit('usage: leaving')")
    with pytest.raises(TrainingError, match=re.escape(message)):
        load_entry_point(text)


def test_ctrl_c_is_no_error_of_the_program(program: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        load_entry_point(f"{program}:interrupted")(tiny_spec(), 0)
