"""Where trials are kept: a storage URL -> an Optuna study that many workers share, with the same settings each."""

from __future__ import annotations

import json
import random
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from effgen.errors import StudyError
from effgen.method.studies.facts import first_difference, plain_facts
from effgen.method.studies.standings import as_retried, foreign_attribute, has_failed

_KINDS = (
    "sqlite:///FILE, postgresql://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE, journal:///FILE or grpc://HOST:PORT"
)

#: The driver of a database where the URL names none, and what installs it.
_DRIVERS = {"postgresql": ("psycopg", "effgen[postgres]"), "mysql": ("pymysql", "pymysql")}

#: Seconds: to reach a server; that a worker waits for the lock of an SQLite file; that it gives the study's maker to
#: write down the settings.
_CONNECT_S, _LOCK_S, _MAKER_S = 10, 60, 10.0

#: The attribute of a study that holds its settings.
_FACTS = "facts"

#: The one that holds the numbers of failed trials that do not count any more: a finished trial cannot be changed.
_RETRIED = "retried"


#: The end of a message about a study, or a part of one, that this command did not write.
_NOT_OURS = "it was not made by this command; give another --study"

#: What Optuna and SQLAlchemy raise of a journal or a table that holds something else, or of another version's.
_UNREADABLE = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, json.JSONDecodeError)
#: A ValueError, too, where nothing is told: else it is about that.
_WHILE_READING = (*_UNREADABLE, ValueError)


#: Characters of what others say of a value, which they quote whole.
_LONGEST = 200

_GO_ON = "start the same command again: it goes on where it was"


class UnreadableError(StudyError):
    """A storage that is there and holds something else: to wait does not help."""


@dataclass(frozen=True)
class SharedStudy:
    """An Optuna study that workers in several processes and machines share.

    `where` names study and storage in messages, without the password.
    """

    study: optuna.Study
    storage: BaseStorage
    where: str

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials as they are now, in the order of their numbers; the reason of those of `retry_failed` says so."""
        with _storage_errors(self.where, _GO_ON):
            retried = set(self.study.user_attrs.get(_RETRIED, ()))
            trials = self.study.get_trials(deepcopy=False)
        for trial in trials:
            wrong = foreign_attribute(trial)
            if wrong:
                raise UnreadableError(f"{self.where}: trial {trial.number}: {wrong}; {_NOT_OURS}")
        return [as_retried(trial) if trial.number in retried else trial for trial in trials]

    def retry_failed(self) -> int:
        """Let trials that failed, or lost their worker too often, count no more: how many there were since the last
        time."""
        failed = [trial.number for trial in self.trials if has_failed(trial)]
        with self.errors():
            if failed:
                self.study.set_user_attr(_RETRIED, sorted({*self.study.user_attrs.get(_RETRIED, ()), *failed}))
        return len(failed)

    def trial(self, number: int) -> optuna.Trial:
        """The running trial of this number, to be reported to."""
        with self.errors():
            study_id = self.storage.get_study_id_from_name(self.study.study_name)
            return optuna.Trial(self.study, self.storage.get_trial_id_from_study_id_trial_number(study_id, number))

    def close(self) -> None:
        """Give the connections back."""
        _close(self.storage)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What a storage raises inside as a StudyError of one line."""
        with _storage_errors(self.where, _GO_ON, unreadable=_UNREADABLE):
            yield


def open_study(
    url: str,
    name: str,
    facts: Mapping[str, Any],
    direction: Literal["maximize", "minimize"] = "maximize",
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
) -> SharedStudy:
    """The study `name` in the storage at `url`, made by whoever comes first.

    `facts` (plain data) are the settings that decide what a trial is: spec, data, recipe, plan. The maker writes them
    down; raises StudyError where this worker's differ, and where the storage cannot be reached or the URL names none.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage, shown = open_storage(url)
    where = f"study {name} in {shown}"
    try:
        with _storage_errors(where, "mend the storage, or give another one"):
            study, made = _made_or_loaded(storage, name, direction, sampler, pruner)
            if made:
                study.set_user_attr(_FACTS, plain_facts(facts))
            _check_direction(study, direction, where)
            _check_facts(study, plain_facts(facts), where)
    except BaseException:
        _close(storage)
        raise
    return SharedStudy(study, storage, where)


def load_study(url: str, name: str) -> SharedStudy:
    """A study that exists, to be looked at: nothing is made. Raises StudyError where there is none of this name."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage, shown = open_storage(url, exists=True)
    with _storage_errors(f"--storage {shown}", "give another one, or mend it"):
        known = sorted(study.study_name for study in storage.get_all_studies())
        if name not in known:
            _close(storage)
            raise StudyError(f"--study {name}: not in {shown}; known: {', '.join(known) or 'none'}")
        study, where = optuna.load_study(study_name=name, storage=storage), f"study {name} in {shown}"
        _check_direction(study, None, where)
        return SharedStudy(study, storage, where)


def url_of_file(path: Path) -> str:
    """The URL of an SQLite file. Raises StudyError where SQLAlchemy cannot express it (by version: not all names)."""
    url: str = URL.create("sqlite", database=str(path)).render_as_string()
    if make_url(url).database != str(path):
        raise StudyError(f"{path}: cannot be named in a storage's URL; expected a name without ? and %")
    return url


def open_storage(url: str, exists: bool = False) -> tuple[BaseStorage, str]:
    """The storage that a URL names, and how messages call it. Raises StudyError (one line, no password).

    `exists`: nothing is made, neither file nor tables; StudyError where there is none.
    """
    kind, separator, rest = url.partition("://")
    if not separator or not rest.strip("/"):
        raise StudyError(f"--storage {_without_password(url)}: expected {_KINDS}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if kind == "journal":
            return _journal(Path(rest), exists), url
        if kind == "grpc":
            return _grpc(url, rest), url
    return _database(url, exists)


def _check_exists(path: Path, shown: str) -> None:
    if not path.is_file():
        raise StudyError(f"--storage {shown}: no such file; expected the storage of a search")


def _journal(path: Path, exists: bool) -> BaseStorage:
    if exists:
        _check_exists(path, f"journal://{path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    except (OSError, *_WHILE_READING) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no journal of trials, or of another Optuna"
        raise StudyError(f"--storage journal://{path}: cannot be opened: {reason}; give another file") from None


def _grpc(url: str, address: str) -> BaseStorage:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise StudyError(f"--storage {url}: expected grpc://HOST:PORT")
    try:
        proxy = GrpcStorageProxy(host=host, port=int(port))
        proxy.wait_server_ready(timeout=_CONNECT_S)
    except ModuleNotFoundError:
        raise StudyError(f"--storage {url}: gRPC is not installed: pip install grpcio protobuf") from None
    except ConnectionError:
        raise StudyError(f"--storage {url}: no answer in {_CONNECT_S} s; start Optuna's gRPC proxy there") from None
    return proxy


def _database(text: str, exists: bool) -> tuple[BaseStorage, str]:
    url = _database_url(text)
    shown = url.render_as_string(hide_password=True)
    arguments: dict[str, Any] = {"pool_pre_ping": True, "connect_args": {"connect_timeout": _CONNECT_S}}
    if url.get_backend_name() == "sqlite":
        arguments = {"connect_args": {"timeout": _LOCK_S}}
        file = _file_of(url, shown)
        if exists:
            _check_exists(file, shown)
        else:
            _make_folder(file, shown)
    # Optuna puts its version into braces.
    full = _with_driver(url).render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    with _storage_errors(f"--storage {shown}", "give another one, or mend it", url.password):
        return _found(full, arguments, shown) if exists else _with_tables(full, arguments), shown


def _database_url(text: str) -> URL:
    try:
        url = make_url(text.replace("postgres://", "postgresql://", 1) if text.startswith("postgres://") else text)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise StudyError(f"--storage {_without_password(text)}: no URL of a database; expected {_KINDS}") from None
    if backend not in ("sqlite", *_DRIVERS):
        shown = url.render_as_string(hide_password=True)
        raise StudyError(f"--storage {shown}: unknown kind of storage; expected {_KINDS}")
    return url


def _with_driver(url: URL) -> URL:
    """The URL with the driver that effgen's extras install, unless it names one itself."""
    if url.drivername not in _DRIVERS:
        return url
    return url.set(drivername=f"{url.drivername}+{_DRIVERS[url.drivername][0]}")


def _file_of(url: URL, shown: str) -> Path:
    if not url.database or url.database == ":memory:":
        raise StudyError(f"--storage {shown}: expected sqlite:///FILE: trials in memory are lost with the worker")
    return Path(url.database)


def _make_folder(file: Path, shown: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"--storage {shown}: cannot be opened: {error.strerror}; give another file") from None


def _found(url: str, arguments: dict[str, Any], shown: str) -> RDBStorage:
    """Optuna's storage, its tables as they are. Raises StudyError where there are none."""
    engine = create_engine(url.format(), **arguments)
    try:
        if not inspect(engine).has_table("studies"):
            raise StudyError(f"--storage {shown}: holds no search; expected the storage of one")
    finally:
        engine.dispose()
    return RDBStorage(url, engine_kwargs=dict(arguments), skip_table_creation=True)


def _with_tables(url: str, arguments: dict[str, Any]) -> RDBStorage:
    """Optuna's storage, its tables made. Of two workers that make them at once the later one has to try again."""
    for _ in range(10):
        try:
            return RDBStorage(url, engine_kwargs=dict(arguments))
        except SQLAlchemyError as error:
            if not isinstance(error, IntegrityError | ProgrammingError) and "already exists" not in str(error):
                raise
            time.sleep(random.uniform(0.05, 0.5))
    return RDBStorage(url, engine_kwargs=dict(arguments))


def _made_or_loaded(
    storage: BaseStorage,
    name: str,
    direction: str,
    sampler: optuna.samplers.BaseSampler | None,
    pruner: optuna.pruners.BasePruner | None,
) -> tuple[optuna.Study, bool]:
    """The study, and whether it was made here: of several workers that start at once, by one."""
    keys: dict[str, Any] = {"study_name": name, "storage": storage, "sampler": sampler, "pruner": pruner}
    try:
        return optuna.create_study(direction=direction, **keys), True
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(**keys), False


def _check_direction(study: optuna.Study, direction: str | None, where: str) -> None:
    """Raise StudyError for a study of several objectives, or of another direction than this one (None: any)."""
    there = [each.name.lower() for each in study.directions]
    if len(there) != 1 or (direction is not None and there != [direction]):
        raise StudyError(f"{where}: its direction is {', '.join(there)}, expected {direction or 'one'}; {_NOT_OURS}")


def _check_facts(study: optuna.Study, here: dict[str, Any], where: str) -> None:
    """Raise StudyError unless the study's settings are `here`. Its maker is given time to write them down."""
    end = time.monotonic() + _MAKER_S
    while (there := study.user_attrs.get(_FACTS)) is None:
        # A maker writes them down before there are trials.
        if study.get_trials(deepcopy=False) and study.user_attrs.get(_FACTS) is None:
            raise StudyError(f"{where}: was not made by this command; give another --study")
        if time.monotonic() > end:
            study.set_user_attr(_FACTS, here)  # whoever made it was killed in between
        time.sleep(0.1)
    difference = first_difference(there, here)
    if difference is not None:
        raise StudyError(f"{where}: {difference}; give the same settings as its other workers, or another --study")


def _close(storage: BaseStorage) -> None:
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()
    elif isinstance(storage, GrpcStorageProxy):
        storage.close()


@contextmanager
def _storage_errors(
    where: str, advice: str, password: str | None = None, unreadable: tuple[type[Exception], ...] = _WHILE_READING
) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise StudyError(f"{where}: {_missing_driver(error)}") from None
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, OSError) as error:
        raise StudyError(f"{where}: {_reason(error, password)}; {advice}") from None
    except UpdateFinishedTrialError:  # a worker that is too late
        raise
    except unreadable as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0][:_LONGEST]
        raise UnreadableError(
            f"{where}: holds what Optuna {optuna.__version__} cannot read ({text}); {advice}"
        ) from None
    except Exception as error:
        if not type(error).__module__.startswith("grpc"):
            raise
        details = getattr(error, "details", None)
        reason = details() if callable(details) else error
        raise StudyError(f"{where}: the gRPC proxy failed: {reason}; {advice}") from None


def _missing_driver(error: ImportError) -> str:
    module = getattr(error.__cause__, "name", None) or error.name or "a driver"
    package = next((package for driver, package in _DRIVERS.values() if driver == module), module)
    return f"{module} is not installed: pip install '{package}'"


def _reason(error: Exception, password: str | None) -> str:
    """The first line of what the database's driver says."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    original = getattr(error, "orig", None) or error
    text = (str(original).strip() or type(original).__name__).splitlines()[0]
    for secret in (password, quote(password, safe="")) if password else ():
        text = text.replace(secret, "***")
    return text


def _without_password(url: str) -> str:
    """A URL that could not be read, safe to print."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://***@{tail}" if at else url
