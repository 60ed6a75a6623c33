"""Reading at the desk what a runner wrote, and remembering the plans that were given out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from effgen.errors import TuneError
from effgen.files.bounded import (
    MOST_JSON_BYTES,
    MOST_LINE_BYTES,
    MissingError,
    UnreadableError,
    read_bytes,
    read_json,
    value_from_json,
)
from effgen.files.strict import first_problem
from effgen.measure.carried.candidate import Outcome
from effgen.measure.carried.lines import STATUSES, digest_of, is_sealed
from effgen.measure.carried.timing import Timing
from effgen.records.record import Status

#: What a call of a kernel takes at least and at most, seconds.
_LEAST_S, _MOST_S = 1e-8, 600.0

_KEYS = {"plan", "candidate", "status", "error", "incumbent", "timing", "device", "digest"}
_TIMES = {"seconds", "incumbent_seconds", "ratio", "wins", "rounds"}


class _Stated(BaseModel):
    """What is asked of a plan at the desk; the rest is for the runner."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Candidate(_Stated):
    index: int
    decisions: dict[str, int]


class _Kernel(_Stated):
    name: str
    rule: str
    candidates: list[_Candidate]


class _Plan(_Stated):
    id: str
    mcpu: str
    lanes: int
    cores: int
    tvm: str
    kernels: list[_Kernel]


#: Characters of a value in a message.
_MOST_SHOWN = 60

#: Of a plan's name, a SHA-256.
_DIGITS = 64

#: The plan's kernel and its candidate, by the candidate's number.
_Candidates = dict[int, tuple[dict[str, Any], dict[str, Any]]]


@dataclass(frozen=True)
class CandidateResult:
    """What became of a candidate; `incumbent` is the decisions that it was timed in turn with, None: alone."""

    kernel: str
    rule: str
    decisions: Mapping[str, int]
    outcome: Outcome
    incumbent: Mapping[str, int] | None


def plans_beside(database: Path) -> Path:
    """The folder of the plans that were given out from a database."""
    return database.with_name(f"{database.name}.offline")


def remember(database: Path, plan: Mapping[str, Any]) -> None:
    """Keep a plan, to know its results again; raises TuneError where it cannot be written."""
    folder = plans_beside(database)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{plan['id']}.json").write_text(json.dumps(plan), encoding="utf-8")
    except OSError as error:
        raise TuneError(f"{folder}: cannot be written: {error.strerror}; expected a folder for plans") from None


def read_results(path: Path, database: Path) -> tuple[dict[str, Any], list[CandidateResult]]:
    """The plan and the results of it in a file, each candidate's first one, in the order of the plan.

    A last line that was torn, by a kill or a copy, does not count. Raises TuneError with the file and line for
    everything else that a runner does not write.
    """
    lines = _lines(path)
    plan: dict[str, Any] | None = None
    candidates: _Candidates = {}
    found: dict[int, CandidateResult] = {}
    for where, line in lines:
        if plan is None:
            plan = _plan(where, line, database)
            candidates = {c["index"]: (kernel, c) for kernel in plan["kernels"] for c in kernel["candidates"]}
        if line["plan"] != plan["id"]:
            raise TuneError(
                f"{where}: is of plan {line['plan'][:12]}, the lines before of {plan['id'][:12]}; give one at a time"
            )
        result = _result(where, line, candidates)
        found.setdefault(line["candidate"], result)
    if plan is None:
        raise TuneError(f"{path}: holds no results; expected the results.jsonl that the folder's run.py wrote")
    return plan, [found[index] for index in sorted(found)]


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every line with its place, well formed and as it was written."""
    try:
        texts = read_bytes(path, MOST_JSON_BYTES).split(b"\n")
    except UnreadableError as error:
        raise TuneError(f"--offline-in {path}: {error}; expected the results.jsonl of a folder") from None
    lines = []
    for number, text in enumerate(texts, 1):
        where = f"{path}:{number}"
        if not text.strip():
            continue
        try:
            line = value_from_json(text, MOST_LINE_BYTES)
        except UnreadableError:
            if _is_torn(texts, number):
                continue
            raise TuneError(f"{where}: is no JSON; expected a line that run.py wrote; copy the file again") from None
        _check(where, line)
        lines.append((where, line))
    return lines


def _is_torn(texts: list[bytes], number: int) -> bool:
    """Whether the line is the last one, or lacks its end: the runner ends such a line when it goes on."""
    whole = texts[number - 1].endswith((b"}}", b"null}"))
    return not whole or not any(text.strip() for text in texts[number:])


def _check(where: str, line: Any) -> None:
    """Raise TuneError unless a runner may have written this line."""
    if not isinstance(line, dict) or line.keys() != _KEYS or not isinstance(line["plan"], str):
        raise TuneError(f"{where}: is no result; expected the keys {', '.join(sorted(_KEYS))}")
    if line["status"] not in STATUSES or not isinstance(line["device"], str) or not isinstance(line["error"], str):
        raise TuneError(f"{where}: status {_shown(repr(line['status']))}: expected one of {', '.join(STATUSES)}")
    if (line["status"] == "ok") != (line["timing"] is not None):
        raise TuneError(f"{where}: status {line['status']}: only ok goes with a timing; copy the file again")
    if line["timing"] is not None:
        _check_timing(where, line)
    if not is_sealed(line):
        raise TuneError(f"{where}: was edited: its digest is of other content; measure again, or copy the file again")


def _shown(text: str) -> str:
    """The beginning of a value that may be of any length."""
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _check_timing(where: str, line: Mapping[str, Any]) -> None:
    timing = line["timing"]
    if not isinstance(timing, dict) or timing.keys() != _TIMES:
        raise TuneError(f"{where}: timing: expected {', '.join(sorted(_TIMES))}")
    limits = {"seconds": (_LEAST_S, _MOST_S), "ratio": (1e-6, 1e6), "wins": (0.0, 1.0), "rounds": (1, 1000)}
    if line["incumbent"] is not None:
        limits["incumbent_seconds"] = (_LEAST_S, _MOST_S)
    elif timing["incumbent_seconds"] is not None:
        raise TuneError(f"{where}: incumbent_seconds: expected none without an incumbent; no runner writes that")
    for name, (least, most) in limits.items():
        value = timing[name]
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not least <= value <= most:
            raise TuneError(
                f"{where}: {name} {_shown(str(value))}: expected {least:g} to {most:g}; no runner writes that"
            )


def _plan(where: str, line: Mapping[str, Any], database: Path) -> dict[str, Any]:
    """The plan that the line names; raises TuneError where it was not given out from here."""
    name = str(line["plan"])
    file = plans_beside(database) / f"{name}.json"
    try:
        if not (name.isascii() and name.isalnum() and len(name) <= _DIGITS):
            raise FileNotFoundError
        plan: dict[str, Any] = _checked_plan(file, name)
    except (FileNotFoundError, MissingError):
        raise TuneError(
            f"{where}: is of plan {name[:12]}, which {plans_beside(database)} does not hold: another folder's results; "
            "give the --db that the folder was written with"
        ) from None
    except UnreadableError as error:
        raise TuneError(f"{file}: cannot be read: {error}; the plan is lost: write a new folder") from None
    return plan


def _checked_plan(file: Path, name: str) -> dict[str, Any]:
    """The plan in a file of ours. Raises UnreadableError where it is not what was written there."""
    plan = read_json(file)
    try:
        _Plan.model_validate(plan)
    except ValidationError as error:
        raise UnreadableError(first_problem(error)) from None
    if digest_of({key: value for key, value in plan.items() if key != "id"}) != name:
        raise UnreadableError("it was changed: its digest is of other content")
    checked: dict[str, Any] = plan
    return checked


def _result(where: str, line: Mapping[str, Any], candidates: _Candidates) -> CandidateResult:
    """The line with its candidate; raises TuneError for numbers that the plan does not have."""
    if not isinstance(line["candidate"], int) or line["candidate"] not in candidates:
        raise TuneError(f"{where}: candidate {_shown(repr(line['candidate']))}: the plan has none of that number")
    kernel, candidate = candidates[line["candidate"]]
    theirs = candidates.get(line["incumbent"]) if isinstance(line["incumbent"], int) else None
    if line["incumbent"] is not None and (theirs is None or theirs[0] is not kernel):
        raise TuneError(f"{where}: incumbent {_shown(repr(line['incumbent']))}: no candidate of {kernel['name']}")
    timing = None if line["timing"] is None else Timing(**line["timing"])
    outcome = Outcome(cast(Status, line["status"]), line["error"], timing, line["device"])
    return CandidateResult(
        kernel["name"], kernel["rule"], candidate["decisions"], outcome, theirs and theirs[1]["decisions"]
    )
