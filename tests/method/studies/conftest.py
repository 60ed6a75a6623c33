"""Storages that workers of a test share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from effgen.method.studies.storage import SharedStudy, open_study


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/trials.db"


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedStudy]:
    """A study of one worker, in the storage that opens fastest."""
    with closing(open_study(f"journal://{tmp_path}/log", "mine", {})) as study:
        yield study
