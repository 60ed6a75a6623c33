"""Folders of toy kernels, and running them as on another machine: without this environment, by the folder alone."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from toy_spaces import HANGS, MACHINE, WORKLOAD, bad_space_of

from effgen.measure.carried.lines import PLAN, RESULTS, digest_of
from effgen.tuning.offline.folder import write_folder
from effgen.tuning.offline.plan import plan_round
from effgen.tuning.search import KernelSearch


def toy_folder(folder: Path) -> dict[str, Any]:
    """A folder with every kind of bad candidate. Returns its plan."""
    folder.mkdir()
    space = bad_space_of(WORKLOAD, MACHINE)
    assert space is not None
    search = KernelSearch(WORKLOAD, 1, space)
    plan, unbuilt = write_folder(folder, plan_round([search]), MACHINE)
    assert [one.error for one in unbuilt] == ["ValueError: no such schedule"]
    return plan


def plan_of(folder: Path) -> dict[str, Any]:
    """The folder's plan."""
    plan: dict[str, Any] = json.loads((folder / PLAN).read_text())
    return plan


def rewrite(folder: Path, plan: dict[str, Any]) -> str:
    """Write a plan with the id that its content has; returns that."""
    content = {key: value for key, value in plan.items() if key != "id"}
    (folder / PLAN).write_text(json.dumps({"id": digest_of(content), **content}))
    return digest_of(content)


def without_what_hangs(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan but for its hanging candidate, with more time for each than any takes on a busy machine."""
    kernels = [
        {**kernel, "candidates": [one for one in kernel["candidates"] if one["decisions"]["mode"] != HANGS]}
        for kernel in plan["kernels"]
    ]
    return {**plan, "kernels": kernels, "limit_s": 1000.0}


def run_folder(folder: Path, *words: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """`run.py` in an empty environment, by a Python that sees neither this package nor any other."""
    return subprocess.run(runner(folder, *words, python=python), capture_output=True, text=True, env={})


def runner(folder: Path, *words: str, python: str = sys.executable) -> list[str]:
    """The command of `run_folder`."""
    return [python, "-I", "-S", str(folder / "run.py"), *words]


def results_of(folder: Path) -> list[dict[str, Any]]:
    """The results that the folder holds."""
    return [json.loads(line) for line in (folder / RESULTS).read_text().splitlines()]


def modes_of(plan: dict[str, Any], results: list[dict[str, Any]]) -> dict[int, str]:
    """What became of each toy mode."""
    decisions = {c["index"]: c["decisions"] for kernel in plan["kernels"] for c in kernel["candidates"]}
    assert len(results) == len({line["candidate"] for line in results})
    return {decisions[line["candidate"]]["mode"]: line["status"] for line in results}


def toys_only(monkeypatch: Any, provider: str) -> None:
    """`effgen tune` in this process finds one toy kernel, whatever the network."""
    import effgen.tuning.request

    request = functools.partial(effgen.tuning.request.TuneRequest, provider=f"toy_spaces:{provider}")
    monkeypatch.setattr(effgen.tuning.request, "TuneRequest", request)
    monkeypatch.setattr(effgen.tuning.request, "calls_of_network", lambda network, kernels=None: Counter({WORKLOAD: 3}))
