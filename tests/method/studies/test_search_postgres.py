"""Searches that share a PostgreSQL server, started here from Debian's package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import PostgresServer, postgres_server, programs
from searches import kill_one_of_two, kill_one_of_two_around_a_baseline

from effgen.errors import StudyError
from effgen.method.studies.storage import open_study

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed: apt-get install postgresql"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


def test_a_worker_killed_in_a_trial_loses_nothing(server: PostgresServer, tmp_path: Path) -> None:
    kill_one_of_two(server.url(), tmp_path)


@pytest.mark.parametrize("hanging", [{"HANG": "3"}, {"HANG_SEED": "1"}], ids=["searching", "confirming"])
def test_a_baseline_search_loses_nothing_either(
    server: PostgresServer, tmp_path: Path, hanging: dict[str, str]
) -> None:
    kill_one_of_two_around_a_baseline(server.url(), tmp_path, **hanging)


@pytest.mark.parametrize(
    "wrong, reason",
    [
        ({"password": "s3cret"}, 'password authentication failed for user "effgen"'),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ],
    ids=["password", "database"],
)
def test_what_the_server_refuses_is_told_without_the_password(
    server: PostgresServer, wrong: dict[str, str], reason: str
) -> None:
    with pytest.raises(StudyError, match=reason) as told:
        open_study(server.url(**wrong), "any", {})
    assert "\n" not in str(told.value)
    assert not any(secret in str(told.value) for secret in ("s3cret", "pass/word", "pass%2Fword"))


def test_other_settings_are_refused(server: PostgresServer) -> None:
    open_study(server.url(), "settings", {"recipe": {"epochs": 5}}).close()
    with pytest.raises(StudyError, match=r"recipe\.epochs is 5 there and 10 here"):
        open_study(server.url(), "settings", {"recipe": {"epochs": 10}})
