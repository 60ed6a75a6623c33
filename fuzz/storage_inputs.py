"""Storages of trials that are wrong somewhere: journals, and SQLite files whose pages or whose rows have changed."""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from mutations import changed_bytes, changed_tree, changed_value, json_text

from effgen.method.studies.standings import has_failed

STUDY, FACTS = "fuzz", {"spec": "small", "epochs": 3}


@cache
def good_storage(scheme: str) -> bytes:
    """A study of four trials, as a search leaves it: finished, failed, pruned, running."""
    from optuna.trial import TrialState

    from effgen.method.studies.storage import open_study

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "storage"
        shared = open_study(f"{scheme}:///{path}", STUDY, FACTS)
        for state in (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, None):
            trial = shared.study.ask()
            trial.suggest_float("alpha", 1.0, 2.0)
            trial.set_user_attr("reason", "of a test")
            trial.report(0.5, 1)
            if state is not None:
                shared.study.tell(trial, 0.75 if state == TrialState.COMPLETE else None, state)
        shared.close()
        return path.read_bytes()


def journal_input(rng: random.Random) -> bytes:
    """Lines of which some changed, and bytes."""
    lines = good_storage("journal").decode().splitlines()
    for number in rng.sample(range(len(lines)), rng.choice((1, 1, 2))):
        lines[number] = json_text(changed_tree(json.loads(lines[number]), rng))
    data = ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")
    return changed_bytes(data, rng) if rng.random() < 0.3 else data


def sqlite_input(rng: random.Random) -> bytes:
    """Bytes of any page, or values of any table."""
    if rng.random() < 0.3:
        return changed_bytes(good_storage("sqlite"), rng)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "storage"
        path.write_bytes(good_storage("sqlite"))
        connection = sqlite3.connect(path)
        try:
            for _ in range(rng.choice((1, 1, 2, 3))):
                _change_a_value(connection, rng)
            connection.commit()
        finally:
            connection.close()
        return path.read_bytes()


def _change_a_value(connection: sqlite3.Connection, rng: random.Random) -> None:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    filled = [name for name in tables if connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]]
    table = rng.choice(filled)
    column = rng.choice([row[1] for row in connection.execute(f"PRAGMA table_info({table})")])
    row, old = rng.choice(connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall())
    value = changed_value(old, rng)
    stored = value if isinstance(value, int | float | str) and not isinstance(value, bool) else json_text(value)
    try:
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (stored, row))
    except (sqlite3.Error, OverflowError, UnicodeEncodeError):  # the table itself refuses it
        return


def read_storage(scheme: str) -> Callable[[Path], None]:
    """As a worker of the same search opens it, and as who looks at it does."""

    def read(path: Path) -> None:
        from effgen.method.studies.storage import load_study, open_study

        url = f"{scheme}:///{path}"
        for opened in (partial(open_study, url, STUDY, FACTS), partial(load_study, url, STUDY)):
            shared = opened()
            try:
                for trial in shared.trials:
                    has_failed(trial)
            finally:
                shared.close()

    return read
