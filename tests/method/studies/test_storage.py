"""Where trials are kept: URLs, errors without passwords, and settings that have to agree."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState
from sqlalchemy.engine import make_url

from effgen.errors import StudyError
from effgen.method.studies.facts import first_difference, plain_facts
from effgen.method.studies.standings import reason_of
from effgen.method.studies.storage import SharedStudy, UnreadableError, load_study, open_study, url_of_file
from effgen.method.studies.workers import patiently


def refusal(url: str, facts: dict[str, Any] | None = None) -> str:
    """The one line that opening a study here ends with."""
    with pytest.raises(StudyError) as told:
        open_study(url, "mine", facts or {})
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.fixture(params=["sqlite", "journal"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/new/trials.db" if request.param == "sqlite" else f"journal://{tmp_path}/new/log"


def test_a_study_is_made_once_and_found_again(url: str) -> None:
    with closing(open_study(url, "mine", {"phi": 1.0, "grid": (0.1, 0.2)})) as first:
        first.study.set_user_attr("mark", 1)
    with closing(open_study(url, "mine", {"phi": 1.0, "grid": (0.1, 0.2)})) as second:
        assert second.study.user_attrs["mark"] == 1
    with closing(load_study(url, "mine")) as third:
        assert third.study.user_attrs["mark"] == 1


def test_a_study_that_is_not_there_names_those_that_are(url: str) -> None:
    open_study(url, "mine", {}).close()
    with pytest.raises(StudyError, match=r"--study other: not in .*; known: mine$"):
        load_study(url, "other")


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_to_look_at_a_storage_makes_nothing(kind: str, tmp_path: Path) -> None:
    missing = f"{kind}:///{tmp_path}/no/trials.db".replace("journal:///", "journal://")
    with pytest.raises(StudyError, match=r"--storage .*no/trials\.db: no such file; expected the storage of a search"):
        load_study(missing, "mine")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content, told", [(b"", "holds no search; expected"), (b"text\n" * 200, "not a database")], ids=["empty", "text"]
)
def test_a_file_without_trials_stays_as_it_is(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "trials.db"
    file.write_bytes(content)
    with pytest.raises(StudyError, match=told):
        load_study(f"sqlite:///{file}", "mine")
    assert file.read_bytes() == content and list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(not sqlalchemy.__version__.startswith("2.1"), reason="earlier ones have no URL for all of these")
@pytest.mark.parametrize("name", ["a?b", "a%20b", "a{b}#c"])
def test_a_folder_may_have_an_odd_name(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / "trials.db"
    open_study(url_of_file(file), "mine", {}).close()
    assert file.is_file() and list(tmp_path.iterdir()) == [file.parent]
    load_study(url_of_file(file), "mine").close()


def test_a_name_that_no_url_can_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("effgen.method.studies.storage.make_url", lambda url: make_url("sqlite:///a"))
    with pytest.raises(StudyError, match=r"^a\?b: cannot be named in a storage's URL; expected a name without"):
        url_of_file(Path("a?b"))


def test_a_journal_that_fails_later_is_one_line(tmp_path: Path) -> None:
    with closing(open_study(f"journal://{tmp_path}/log", "mine", {})) as shared:
        (tmp_path / "log").unlink()
        with pytest.raises(StudyError, match=r"study mine in .*: .*No such file.*; start the same command again"):
            _ = shared.trials


def test_what_failed_counts_no_more_where_it_is_to_be_tried_again(url: str) -> None:
    def make(state: TrialState, **attributes: str) -> None:
        value = 1.0 if state == TrialState.COMPLETE else None
        shared.study.add_trial(optuna.create_trial(state=state, value=value, user_attrs=attributes))

    with closing(open_study(url, "mine", {})) as shared:
        assert shared.retry_failed() == 0
        make(TrialState.FAIL, reason="error", error="no luck")
        make(TrialState.FAIL)
        make(TrialState.FAIL, reason="duplicate")
        make(TrialState.COMPLETE)
        assert shared.retry_failed() == 2 and shared.retry_failed() == 0
        make(TrialState.FAIL, reason="error")
        expected = ["retried", "retried", "duplicate", None, "error"]
        assert [reason_of(trial) for trial in shared.trials] == expected
        assert shared.trials[0].user_attrs["error"] == "no luck"
    with closing(open_study(url, "mine", {})) as again:
        assert [reason_of(trial) for trial in again.trials] == expected
        assert again.retry_failed() == 1


def test_other_settings_are_refused_by_what_differs(url: str) -> None:
    open_study(url, "mine", {"recipe": {"epochs": 5}, "seeds": 3}).close()
    line = refusal(url, {"recipe": {"epochs": 10}, "seeds": 3})
    assert "study mine in " in line and "recipe.epochs is 5 there and 10 here; give the same settings" in line


def test_of_workers_that_start_at_once_one_decides_the_settings(url: str) -> None:
    opened: list[SharedStudy] = []
    refused: list[str] = []
    together = threading.Barrier(6)

    def work(seeds: int) -> None:
        together.wait()
        try:
            opened.append(open_study(url, "mine", {"seeds": seeds}))
        except StudyError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=work, args=(number % 2,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == len(refused) == 3
    assert all("seeds is" in line for line in refused)
    for shared in opened:
        shared.close()


def test_a_study_of_another_tool_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/theirs.db"
    storage = optuna.storages.RDBStorage(url)
    study = optuna.create_study(study_name="mine", storage=storage)
    study.optimize(lambda trial: 0.0, n_trials=1)
    storage.engine.dispose()
    monkeypatch.setattr("effgen.method.studies.storage._MAKER_S", 0.1)
    assert "was not made by this command" in refusal(url)


def test_a_maker_that_was_killed_before_it_wrote_the_settings_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/half.db"
    storage = optuna.storages.RDBStorage(url)
    optuna.create_study(study_name="mine", storage=storage, direction="maximize")
    storage.engine.dispose()
    monkeypatch.setattr("effgen.method.studies.storage._MAKER_S", 0.1)
    open_study(url, "mine", {"seeds": 3}).close()
    assert "seeds is 3 there and 4 here" in refusal(url, {"seeds": 4})


@pytest.mark.parametrize(
    "url, told",
    [
        ("nonsense", "expected sqlite:///FILE, postgresql://"),
        ("sqlite://", "expected sqlite:///FILE, postgresql://"),
        ("sqlite:///:memory:", "trials in memory are lost with the worker"),
        ("oracle://me:s3cret@host/db", "--storage oracle://me:***@host/db: unknown kind of storage"),
        ("postgresql://me:s3cret@127.0.0.1:1/db", "Connection refused"),
        ("postgres://me:s3cret@127.0.0.1:1/db", "--storage postgresql://me:***@127.0.0.1:1/db: "),
        ("postgresql+nodriver://me:s3cret@host/db", "nodriver"),
        ("postgresql://me:s3cret@host:port/db", "no URL of a database"),
        ("grpc://host", "expected grpc://HOST:PORT"),
        ("sqlite:////proc/nowhere/trials.db", "cannot be opened"),
        ("journal:///proc/nowhere/log", "cannot be opened"),
    ],
    ids=["nonsense", "empty", "memory", "kind", "server", "alias", "driver", "port", "grpc", "folder", "journal"],
)
def test_what_cannot_be_opened_is_told_in_one_line(url: str, told: str) -> None:
    line = refusal(url)
    assert told in line and "--storage" in line and "s3cret" not in line


def test_a_missing_driver_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert refusal("postgresql://me:s3cret@127.0.0.1:1/db").endswith(
        "psycopg is not installed: pip install 'effgen[postgres]'"
    )


def test_a_proxy_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("effgen.method.studies.storage._CONNECT_S", 0.2)
    assert "no answer in 0.2 s; start Optuna's gRPC proxy there" in refusal("grpc://127.0.0.1:1")


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(_PLAIN, _PLAIN)
def test_trees_differ_somewhere_or_nowhere(there: Any, here: Any) -> None:
    assert (first_difference(there, here, "x") is None) == (there == here)
    assert first_difference(here, here, "x") is None


@given(st.dictionaries(st.text(max_size=3), _PLAIN, max_size=4))
def test_settings_come_back_from_a_storage_as_they_went(facts: dict[str, Any]) -> None:
    assert plain_facts(plain_facts(facts)) == plain_facts(facts)


@pytest.mark.parametrize(
    "line",
    ['{"op_code": 99, "worker_id": "x"}', '{"op_code": 4}', "[]", "7", "null", "garbage\n{}", '{"worker_id": "x"}'],
)
def test_a_journal_with_an_entry_that_is_none_is_one_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with closing(open_study(f"journal://{path}", "mine", {})) as shared:
        with path.open("a") as file:
            file.write(line + "\n")
        with pytest.raises(UnreadableError, match=r"study mine in journal://.*: holds what Optuna") as told:
            patiently(lambda: shared.trials, lambda: pytest.fail("tried again"))
        assert "\n" not in str(told.value)
    assert f"journal://{path}" in refusal(f"journal://{path}")
    with pytest.raises(StudyError, match="log") as told_again:
        load_study(f"journal://{path}", "mine")
    assert "\n" not in str(told_again.value)


@pytest.mark.parametrize("directions", [["minimize"], ["maximize", "minimize"]])
def test_a_study_of_another_kind_is_refused(directions: list[str], url: str, tmp_path: Path) -> None:
    open_study(url, "ours", {}).close()
    with closing(load_study(url, "ours")) as ours:
        optuna.create_study(study_name="mine", storage=ours.storage, directions=directions)
    assert f"its direction is {', '.join(directions)}, expected maximize; it was not made by" in refusal(url)
    if len(directions) > 1:
        with pytest.raises(StudyError, match="expected one; it was not made by this command"):
            load_study(url, "mine")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("item", ["a"]), ("reason", 3), ("network", {}), ("beat", "x"), ("grace_s", "x"), ("grace_s", float("nan")),
        ("grace_s", 1e9), ("grace_s", -1), ("accuracy", "high"), ("seconds", True), ("epochs", -1),
    ],
)  # fmt: skip
def test_a_trial_that_another_tool_made_is_one_line(name: str, value: Any, tmp_path: Path) -> None:
    with closing(open_study(f"sqlite:///{tmp_path}/t.db", "mine", {})) as shared:
        shared.study.ask().set_user_attr(name, value)
        with pytest.raises(StudyError, match=rf"trial 0: attribute {name} is .*; it was not made by this") as told:
            shared.trials  # noqa: B018
        assert "\n" not in str(told.value)
