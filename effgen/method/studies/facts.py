"""What makes two workers' searches the same one: settings, kept with the study, compared before any work."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any

_ABSENT = object()


def plain_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """`facts` as they come back from a storage: JSON's lists for tuples, its strings for keys."""
    plain: dict[str, Any] = json.loads(json.dumps(facts, allow_nan=False))
    return plain


def first_difference(there: Any, here: Any, where: str = "") -> str | None:
    """Where two trees of plain data differ first, e.g. `recipe.epochs is 5 there and 10 here`; None: nowhere."""
    if isinstance(there, dict) and isinstance(here, dict):
        pairs = [
            (f"{where}.{key}" if where else key, key) for key in [*there, *(key for key in here if key not in there)]
        ]
        found = (first_difference(there.get(key, _ABSENT), here.get(key, _ABSENT), path) for path, key in pairs)
        return next((text for text in found if text is not None), None)
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        found = (
            first_difference(*pair, f"{where}[{index}]") for index, pair in enumerate(zip(there, here, strict=True))
        )
        return next((text for text in found if text is not None), None)
    if there == here:
        return None
    return f"{where} is {_text(there)} there and {_text(here)} here"


def _text(value: Any) -> str:
    return "absent" if value is _ABSENT else reprlib.repr(value)
