"""Files that are not what they should be are named; what readers take themselves is left to them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from checkpoint_files import FOREIGN

from effgen.files.contents import PYTORCH, kind_of_bytes, kind_of_file


@pytest.mark.parametrize(("data", "message"), FOREIGN, ids=[message[:20] for _, message in FOREIGN])
def test_kinds(tmp_path: Path, data: bytes, message: str) -> None:
    assert str(kind_of_bytes(data)).startswith(message)
    (tmp_path / "a").write_bytes(data)
    assert str(kind_of_file(tmp_path / "a")).startswith(message)


def test_what_is_no_foreign_kind(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": 1}, buffer)
    assert kind_of_bytes(buffer.getvalue()) is PYTORCH
    assert kind_of_bytes(buffer.getvalue()[:200]) is None
    assert kind_of_bytes(b"hello") is None
    assert kind_of_file(tmp_path / "none") is None
    assert kind_of_file(tmp_path) is None


def test_names_in_archives_cannot_disturb_a_terminal() -> None:
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("\x1b[31mred\n", "hello")
    assert "\x1b" not in str(kind_of_bytes(buffer.getvalue())) and "\n" not in str(kind_of_bytes(buffer.getvalue()))
