"""The exceptions that a user can cause.

A message is one line that says where, what was found, what was expected and what to do. The command line
prints it and exits 1 (3 for `VerifyError` and `RegressionError`); any other exception is a bug and shows its traceback.

A copy of this file goes with every folder of candidates: it uses nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

from collections.abc import Iterable


class EffgenError(Exception):
    """Base of every error that a user can cause."""

    exit_code = 1


class SpecError(EffgenError):
    """A network specification, a scaling request or an override does not make sense."""


class GraphError(EffgenError):
    """A graph breaks a rule of its operators, or holds an operator that is not supported."""


class WeightsError(EffgenError):
    """A checkpoint cannot be read or does not fit the network."""


class BudgetError(EffgenError):
    """A limit cannot be read, or no network of a family keeps within all of them."""


class TargetError(EffgenError):
    """A target is unknown, badly described, or not usable on this machine."""


class TuneError(EffgenError):
    """Tuning cannot start or go on: limits, a record database, or a machine that cannot be measured here."""


class BuildError(EffgenError):
    """A bundle cannot be compiled or written."""


class BundleError(EffgenError):
    """A bundle cannot be loaded: missing, changed, for another machine or another version."""


class ImageError(EffgenError):
    """A picture cannot be read, or labels do not fit the network that is to classify it."""


class DataError(EffgenError):
    """A folder of pictures to learn from or to judge by is missing or badly arranged, or a picture cannot be read."""


class TrainingError(EffgenError):
    """A recipe or an entry point makes no sense, a checkpoint does not fit, or a training diverged."""


class ResultsError(EffgenError):
    """A file of measurements cannot be read, or measurements cannot be set side by side."""


class StudyError(EffgenError):
    """A search cannot start or go on: its storage, its settings beside those of its other workers, or its trials."""


class VerifyError(EffgenError):
    """Outputs miss their stated tolerance."""

    exit_code = 3


class RegressionError(EffgenError):
    """A measured speed is further below its baseline than the gate allows."""

    exit_code = 3


def candidates(found: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, then all of them."""
    from difflib import get_close_matches  # seldom needed, and slow to load

    names = sorted(known)
    near = get_close_matches(found, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}known: {', '.join(names)}"


def last_line(text: str) -> str:
    """The last line of a text that says something, empty where none does."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
