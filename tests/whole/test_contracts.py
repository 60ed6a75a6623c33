"""The contracts in pyproject.toml hold, and break where they should: on a copy of the package laid out as installed.

In an editable install schedules/ and targets/ are mapped into the package, where import-linter does not see them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = (ROOT / "pyproject.toml").read_text()
CONTRACTS = [contract["name"] for contract in tomllib.loads(CONFIG)["tool"]["importlinter"]["contracts"]]

#: One import that may not be, with what the report says of it: of every contract at least one.
BAD_IMPORTS = {
    "graph/ops.py": ("from effgen.compiler import program", "effgen.graph is not allowed to import effgen.compiler"),
    "schedules/conv2d.py": ("from effgen import driver", "effgen.schedules is not allowed to import effgen.driver"),
    "judge/case.py": ("from effgen.tuning import ledger", "effgen.judge is not allowed to import effgen.tuning"),
    "method/training/data.py": ("from effgen.method.studies import grid", "effgen.method.training is not allowed to"),
    "graph/graph.py": ("import torch", "effgen.graph.graph is not allowed to import torch"),
    "deploy/pack.py": ("def late():\n    import tvm", "effgen.deploy is not allowed to import tvm"),
    "kernels/tiles.py": ("from torch import Tensor", "effgen.kernels is not allowed to import torch"),
    "judge/reading.py": ("import onnx", "effgen is not allowed to import onnx"),
    "report/tables.py": ("import optuna", "effgen is not allowed to import optuna"),
    "measure/carried/timing.py": ("import numpy", "effgen.measure.carried is not allowed to import numpy"),
    "measure/carried/lines.py": (
        "from effgen.files import strict",
        "effgen.measure.carried is not allowed to import effgen.files",
    ),
    "compiler/calls.py": (
        "def late():\n    from effgen.compiler import importer",
        "No cycles are allowed in effgen.compiler",
    ),
    "misc.py": ("", "effgen.misc"),  # a room without a place in the order
}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the package's modules as an installation has them."""
    for source, package in (("effgen", "."), ("schedules", "schedules"), ("targets", "targets")):
        for file in (ROOT / source).rglob("*.py"):
            copy = tmp_path / "effgen" / package / file.relative_to(ROOT / source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    return tmp_path


def broken(installed: Path, config: str = CONFIG) -> tuple[list[str], str]:
    """Names of the contracts that do not hold, and the report."""
    (installed / "contracts.toml").write_text(config)
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    words = [sys.executable, "-c", command, "--no-logo", "contracts.toml"]
    done = subprocess.run(words, cwd=installed, capture_output=True, text=True, env={"COLUMNS": "300"})
    found = [name for name in CONTRACTS if f"\n{name} BROKEN" in done.stdout]
    kept = [name for name in CONTRACTS if f"\n{name} KEPT" in done.stdout]
    assert sorted(found + kept) == sorted(CONTRACTS), done.stdout + done.stderr
    assert done.returncode == bool(found)
    return found, done.stdout


def test_contracts_hold(installed: Path) -> None:
    found, report = broken(installed)
    assert found == [], report


def test_a_layer_upside_down_breaks_the_order(installed: Path) -> None:
    right, wrong = '"compiler",\n    "records",\n', '"records",\n    "compiler",\n'
    assert right in CONFIG
    found, report = broken(installed, CONFIG.replace(right, wrong))
    assert found == CONTRACTS[:1]
    assert "effgen.compiler is not allowed to import effgen.records" in report


def test_a_bad_import_breaks_its_contract(installed: Path) -> None:
    for name, (line, _) in BAD_IMPORTS.items():
        with (installed / "effgen" / name).open("a") as file:
            file.write(f"\n{line}\n")
    found, report = broken(installed)
    assert found == CONTRACTS
    assert [words for _, words in BAD_IMPORTS.values() if words not in report] == []
