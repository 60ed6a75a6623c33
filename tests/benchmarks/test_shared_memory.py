"""benchmarks/shared_memory.py: as many workers as asked for, and sums that hold."""

from pathlib import Path

import pytest
import shared_memory


@pytest.mark.parametrize("forked", [False, True], ids=["started", "forked"])
def test_workers_and_their_memory(forked: bool, tiny_bundle: Path) -> None:
    found = shared_memory.workers_of("effgen", tiny_bundle, 2, forked)
    assert len(found.rss) == len(found.pss) == len(found.uss) == 2
    for rss, pss, uss in zip(found.rss, found.pss, found.uss, strict=True):
        assert 0 < uss < pss < rss
    assert 1 << 20 < found.beyond < max(found.rss)
    assert len(shared_memory.cells(found)) == 5


def test_worker_that_cannot_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="a worker could not run the model"):
        shared_memory.workers_of("effgen", tmp_path, 1, False)
    assert "golden.npz" in capfd.readouterr().err
