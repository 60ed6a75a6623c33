"""Strict frozen data from TOML and JSON, and its problems as one line: where, what was found, what was expected."""

from __future__ import annotations

import reprlib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from effgen.errors import candidates

#: Of a model, and of a dataclass.
_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")


#: Unknown keys are errors, and so is a value of another type: "3" is not 3, 1.5 is no number of channels. For
#: dataclasses, by pydantic's `with_config`.
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

#: Whole numbers as they may stand in a line that pydantic reads, which takes some of any length.
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class StrictModel(BaseModel):
    """A model that is read as `STRICT` says."""

    model_config = ConfigDict(**STRICT, frozen=True)


def first_problem(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The first of pydantic's findings as `key.path[2].leaf = found: expected ...`, and how many more there are.

    `model` gives the keys that an unknown one is compared with; None where the data is no model's.
    """
    problems = error.errors()
    # A misspelt key is told before the key that it leaves missing.
    first = min(problems, key=lambda problem: problem["type"] not in _UNKNOWN_KEY)
    where = dotted_path(first["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] in _UNKNOWN_KEY and model is None:
        return f"{where}: unknown key{more}"
    if first["type"] == "extra_forbidden":
        assert model is not None
        return f"{where}: unknown key; {candidates(str(first['loc'][-1]), _sibling_keys(first['loc'], model))}{more}"
    if not where:  # a rule that spans several keys
        return f"{_expectation(first)}{more}"
    if first["type"] == "missing":
        return f"{where}: missing; add it{more}"
    return f"{where} = {reprlib.repr(first['input'])}: {_expectation(first)}{more}"


def _expectation(problem: Any) -> str:
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"] == "model_type":
        return "expected a table"
    # "Input should be a valid integer", "List should have at least 1 item", "String should match pattern ...".
    wanted = problem["msg"].partition(" should ")[2].partition(" after validation")[0]
    return f"expected {wanted.removeprefix('be ')}" if wanted.startswith("be ") else f"expected to {wanted}"


def dotted_path(location: tuple[int | str, ...]) -> str:
    """`("stages", 3, "kernel")` as `stages[3].kernel`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _sibling_keys(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """The keys allowed where the unknown key at `location` inside `model` stands."""
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        model = _model_inside(model.model_fields[part].annotation)
    return list(model.model_fields)


def _model_inside(annotation: Any) -> type[BaseModel]:
    """The model class within `list[Model]`, `Model | None` or `Annotated[...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if argument is not type(None):
            return _model_inside(argument)
    raise AssertionError(f"no model inside {annotation}")
