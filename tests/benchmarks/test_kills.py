"""benchmarks/kills.py: what it counts as half, lost or doubled; and, slow, a few kills."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import kills
import pytest
from kills import archive_is_whole, bundle_is_whole, spec_is_whole
from networks import TINY

ROOT = Path(__file__).parents[2]


def test_a_bundle_is_whole_or_not_there(tmp_path: Path) -> None:
    bundle = tmp_path / "b"
    assert bundle_is_whole(bundle)
    bundle.mkdir()
    assert not bundle_is_whole(bundle)
    (bundle / "w").write_bytes(b"weights")
    (bundle / "manifest.json").write_text(json.dumps({"files": {"w": hashlib.sha256(b"weights").hexdigest()}}))
    assert bundle_is_whole(bundle)
    (bundle / "w").write_bytes(b"weigh")
    assert not bundle_is_whole(bundle)


def test_an_archive_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    assert archive_is_whole(path)
    files = {"w": b"weights" * 999, "SHA256SUMS": f"{hashlib.sha256(b'weights' * 999).hexdigest()}  w\n".encode()}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"top/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert archive_is_whole(path)
    path.write_bytes(path.read_bytes()[:-30])
    assert not archive_is_whole(path)


def test_a_spec_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    assert spec_is_whole(path)
    path.write_text(TINY)
    assert spec_is_whole(path)
    path.write_text(TINY[: len(TINY) // 2])
    assert not spec_is_whole(path)


def test_what_is_lost_or_doubled_is_counted(tmp_path: Path) -> None:
    stands = ["a", "b"]
    campaign = kills.Campaign("toy", tmp_path, lambda number: [], kept=lambda: stands)
    counts: kills.Counter[str] = kills.Counter()
    before = campaign._compare(["a", "b"], counts)
    assert not sum(counts.values())
    stands = ["a", "a", "c"]
    before = campaign._compare(before, counts)
    assert (counts["lost"], counts["doubled"]) == (1, 1)
    campaign._compare(before, counts)
    assert (counts["lost"], counts["doubled"]) == (1, 1)  # of each kill what it did


@pytest.mark.slow
def test_a_few_kills_do_no_harm() -> None:
    command = [sys.executable, "benchmarks/kills.py", "--kills", "2", "--only", "search on sqlite", "compare"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("2 kills") == 2
