"""Lines of results: what the runner writes and the desk reads, each with a digest that shows an edit.

A copy of this file goes with every folder: it uses nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Names in the folder.
PLAN, RESULTS = "plan.json", "results.jsonl"

STATUSES = ("ok", "wrong", "crashed", "timeout")


def value_from_line(text: bytes) -> Any:
    """What a line of JSON holds; raises ValueError where it is torn, or no JSON."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of the content without its `digest`; a result names its plan, so it is of one plan alone.

    It shows a slip of an editor. It is no signature: who means to deceive can compute it too.
    """
    text = json.dumps({key: value for key, value in content.items() if key != "digest"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its digest."""
    return {**content, "digest": digest_of(content)}


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Whether the content is what its digest was made of."""
    return content.get("digest") == digest_of(content)
