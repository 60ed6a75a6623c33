"""Groups of options: said once, a command takes them as one parameter, and a user gives them option by option."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter
from typing import Annotated, Any, get_args, get_origin, get_type_hints


class Only(tuple[str, ...]):
    """The options of a group that a command has, `Annotated[Group, Only((...))]`; the others keep their defaults."""


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer is to see it: in place of each group stand its options, in the order of its fields."""
    shown: list[Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        group, names = _group_of(parameter.annotation)
        if group is None:
            shown.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
        else:
            groups[parameter.name] = group, names
            shown += [option for option in _options_of(group) if option.name in names]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, (group, options) in groups.items():
            given[name] = group(**{option: given.pop(option) for option in options})
        command(**given)

    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return run


def _group_of(annotation: Any) -> tuple[type | None, list[str]]:
    """The group that a parameter stands for, None where it is an option itself, and which options of it."""
    only = None
    if get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        only = next((one for one in extra if isinstance(one, Only)), None)
    if not is_dataclass(annotation) or not isinstance(annotation, type):
        return None, []
    return annotation, [item.name for item in fields(annotation) if only is None or item.name in only]


def _options_of(group: type) -> list[Parameter]:
    types = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            item.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if item.default is MISSING else item.default,
            annotation=types[item.name],
        )
        for item in fields(group)
    ]
