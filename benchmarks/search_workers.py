"""How many trainings two search workers do in the time of one: `python benchmarks/search_workers.py`.

Runs `effgen search scaling` on scikit-learn's digits by one worker and by several in turn, each for the same time once
all have begun, and counts trainings that came to their end in it. Needs a machine that is otherwise quiet: what else
worked meanwhile is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from effgen.errors import StudyError
from effgen.machines.host import watch_other_work
from effgen.machines.processor import default_threads
from effgen.method.studies.storage import load_study

_ROOT = Path(__file__).parent.parent
_STUDY = "workers"

#: A training of a second or so.
_RECIPE = "epochs = 3\nbatch_size = 64\nlearning_rate = 8e-3\nwarmup_epochs = 1\n"


def finished(storage: str) -> list[tuple[str, float, int | None]]:
    """Worker, Unix time of the end and threads of each training that is done."""
    with suppress(StudyError), closing(load_study(storage, _STUDY)) as shared:
        done = [trial for trial in shared.trials if trial.state.name == "COMPLETE" and trial.datetime_complete]
        return [
            (trial.user_attrs["worker"], trial.datetime_complete.timestamp(), trial.user_attrs.get("threads"))
            for trial in done
        ]
    return []


def trainings(data: Path, folder: Path, workers: int, seconds: float) -> dict[str, Any]:
    """Trainings that so many workers end within `seconds`, which begin when each has ended one."""
    storage = f"sqlite:///{folder}/trials.db"
    words = ["search", "scaling", "--spec", "examples/digits.toml"]
    words += [
        "--recipe",
        folder.parent / "recipe.toml",
        "--data",
        data,
        "--seeds",
        "1000",
        "--no-latency",
        "--quiet",
        "--workers",
        workers,
    ]
    words += ["--storage", storage, "--study", _STUDY, "--work", folder / "work"]
    command = [sys.executable, "-c", "from effgen.cli import main; main()", *map(str, words)]
    process = subprocess.Popen(command, cwd=_ROOT)
    try:
        while len({worker for worker, _, _ in finished(storage)}) < workers:
            if process.poll() is not None:
                raise SystemExit(f"error: the search ended with status {process.returncode}")
            time.sleep(2)
        began = time.time()
        time.sleep(seconds)
        ended = time.time()
    finally:
        if process.poll() is None:
            process.terminate()  # SIGINT is ignored by what a shell starts in the background
        process.wait()
    found = [(at, threads) for _, at, threads in finished(storage) if began < at <= ended]
    counts = sorted({threads for _, threads in found if threads})
    return {"workers": workers, "trainings": len(found), "seconds": round(ended - began, 1), "threads": counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs, ratios = list[dict[str, Any]](), list[float]()
    with tempfile.TemporaryDirectory(prefix="effgen-workers-") as folder:
        data = Path(folder) / "digits"
        (Path(folder) / "recipe.toml").write_text(_RECIPE)
        subprocess.run([sys.executable, "examples/digits.py", data], cwd=_ROOT, check=True, stdout=subprocess.DEVNULL)
        for number in range(options.rounds):
            rates = {}
            for workers in (1, options.workers):
                with watch_other_work() as other:
                    run = trainings(data, Path(folder) / f"{number}-{workers}", workers, options.seconds)
                run["other_cpus"] = None if other.cpus is None else round(other.cpus, 2)
                print(f"round {number + 1}: {run}", flush=True)
                runs.append(run)
                rates[workers] = run["trainings"] / run["seconds"]
            ratios.append(rates[options.workers] / rates[1] if rates[1] else float("nan"))
    median = statistics.median(ratios)
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"{options.workers} workers on {default_threads()} cores: {median:.2f} times the trainings of one ({each})")
    if options.json:
        report = {"cores": default_threads(), "runs": runs, "ratios": ratios, "median": median}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
