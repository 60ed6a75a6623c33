"""Real ImageNet weights: the README's example, and logits beside those of the weights' own PyTorch model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lite_pictures import PICTURES, compiled, missing_packages, rows_of, weights_of

from effgen.runtime.library import find_package_file

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing := missing_packages([0])), reason=f"not installed: {', '.join(missing)}"),
]


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(0, tmp_path_factory.mktemp("lite"))


def test_logits_are_those_of_the_packages_model(lite0: Path) -> None:
    rows = rows_of(0, lite0)
    assert len(rows) == 12
    assert [row for row in rows if not row.right] == []


def test_cat_cup_and_rocket(lite0: Path, run: Any) -> None:
    files = [str(find_package_file(picture.package, picture.path)) for picture in PICTURES[:3]]
    code, out, _ = run("run", lite0, *files, "--top", "1")
    assert code == 0
    assert [label in out for label in ("cat", "espresso", "missile")] == [True] * 3


def test_nothing_speaks_against_the_options() -> None:
    from effgen.network import NetworkRequest, build_network
    from effgen.network.checkpoints import load_checkpoint

    found = load_checkpoint(weights_of(0), build_network(NetworkRequest("efficientnet_lite")).graph)
    assert (found.naming, found.model, found.warnings) == ("efficientnet_pytorch", "efficientnet_lite0", ())
