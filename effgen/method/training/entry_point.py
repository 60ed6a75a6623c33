"""A user's own program as the judge of a network: `module:function` or `file.py:function`."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from effgen.errors import TrainingError
from effgen.network.spec import NetworkSpec

#: (scaled spec, seed) -> accuracy on data that was not learned from, 0..1.
Evaluate: TypeAlias = Callable[[NetworkSpec, int], float]

#: What a user's program may raise, `sys.exit()` among it: that would end a search's worker as if its work were done.
_RAISED = (Exception, SystemExit)


def load_entry_point(text: str) -> Evaluate:
    """The function that `text` names, `package.module:function` or `path/file.py:function`, with its answers checked.

    Modules are looked for in the current folder too, and what a file imports beside the file. Raises TrainingError with
    one line where there is none; the function returned raises it where the user's raises anything, or answers with
    anything but a number from 0 to 1.
    """
    where, colon, name = text.rpartition(":")
    if not colon or not where or not name:
        raise TrainingError(f"{text}: expected module:function or file.py:function")
    module = _module_from_file(Path(where), text) if where.endswith(".py") else _module_by_name(where, text)
    function = getattr(module, name, None)
    if not callable(function):
        found = "no such name" if function is None else f"{type(function).__name__}, not a function"
        raise TrainingError(f"{text}: {where} holds {found} {name!r}; expected a function (spec, seed) -> accuracy")

    def evaluate(spec: NetworkSpec, seed: int) -> float:
        try:
            answer = function(spec, seed)
        except _RAISED as error:
            raise TrainingError(f"{text}: raised {_described(error)}") from error
        return _accuracy(answer, text)

    return evaluate


def _module_by_name(name: str, text: str) -> ModuleType:
    _make_importable(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise TrainingError(f"{text}: no module {name} here or among the installed ones") from None
        raise TrainingError(f"{text}: cannot be imported: {_described(error)}") from error
    except _RAISED as error:
        raise TrainingError(f"{text}: cannot be imported: {_described(error)}") from error


def _module_from_file(path: Path, text: str) -> ModuleType:
    if not path.is_file():
        raise TrainingError(f"{text}: no file {path}")
    _make_importable(path.resolve().parent)
    name = f"entry_point_{path.stem}"  # which hides no module of the file's name
    description = importlib.util.spec_from_file_location(name, path)
    assert description is not None and description.loader is not None, path
    module = importlib.util.module_from_spec(description)
    sys.modules[name] = module  # as for an import: dataclasses and pickle look a class's module up
    try:
        description.loader.exec_module(module)
    except _RAISED as error:
        del sys.modules[name]
        raise TrainingError(f"{text}: cannot be imported: {_described(error)}") from error
    return module


def _make_importable(folder: Path) -> None:
    """First, as Python does with a script's folder, and for good: a function may import when it is called."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _accuracy(answer: Any, text: str) -> float:
    try:
        number = math.nan if isinstance(answer, str | bytes | bool) else float(answer)
    except Exception:  # a tensor of several numbers, a whole number beyond floats, what a class of the user's raises
        number = math.nan
    if not 0 <= number <= 1:
        raise TrainingError(f"{text}: returned {_short(answer)}: expected an accuracy, a number from 0 to 1")
    return number


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _short(answer: Any) -> str:
    words = " ".join(repr(answer).split())
    return words if len(words) <= 80 else f"{words[:77]}..."
