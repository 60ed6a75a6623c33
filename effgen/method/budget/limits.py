"""What a network may cost at most: quantities as people write them, and what each of them means."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from effgen.errors import BudgetError, candidates

#: `latency`: seconds of one call; `macs`: multiply-adds for one image; `params`: trainable parameters; `memory`: bytes
#: of weights, activations, image and logits while it runs; `size`: bytes of code and weights as they are shipped.
LimitKind = Literal["latency", "macs", "params", "memory", "size"]
KINDS: tuple[LimitKind, ...] = ("latency", "macs", "params", "memory", "size")

#: Kinds that depend on the machine; the others are the network's own.
OF_A_MACHINE: tuple[LimitKind, ...] = ("latency", "memory", "size")

_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_COUNTS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_UNITS: Mapping[LimitKind, Mapping[str, float]] = {
    "latency": _SECONDS,
    "macs": _COUNTS,
    "params": _COUNTS,
    "memory": _BYTES,
    "size": _BYTES,
}
_EXPECTED: Mapping[LimitKind, str] = {
    "latency": "a time above 0 with its unit (us, ms, s), e.g. 20ms",
    "macs": "a number of multiply-adds above 0, e.g. 400M or 1.5G",
    "params": "a number of parameters above 0, e.g. 5.3M",
    "memory": "a size above 0 with its unit (KB, MB, GB of 1000s, KiB, MiB, GiB of 1024s), e.g. 64MB",
    "size": "a size above 0 with its unit (KB, MB, GB of 1000s, KiB, MiB, GiB of 1024s), e.g. 25MB",
}
_QUANTITY = re.compile(r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)\s*([a-zµ]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Limit:
    """At most `most` (unit: see `LimitKind`), `text` as it was written. `target` None: on every machine asked for."""

    kind: LimitKind
    most: float
    text: str
    target: str | None = None

    @property
    def option(self) -> str:
        """As the command line has it, e.g. `--max-latency 20ms`."""
        of = "" if self.target is None else f"{self.target}="
        return f"{option_of(self.kind)} {of}{self.text}"

    def written(self, value: float) -> str:
        """`value` in the unit in which the limit was written."""
        unit = _parts(self.text)[1]
        if not unit:
            return f"{value:,.0f}"
        return f"{value / _UNITS[self.kind][unit.lower()]:.4g}{unit}"


def option_of(kind: LimitKind) -> str:
    """The option that limits `kind`."""
    return f"--max-{kind}"


def quantity_from_text(kind: LimitKind, text: str, option: str | None = None) -> float:
    """`20ms` as 0.02, `1.5G` as 1.5e9, `64MiB` as 67108864. Raises BudgetError, naming `option`, for anything else."""
    return _quantity(kind, text, f"{option or option_of(kind)} {text}")


def _quantity(kind: LimitKind, text: str, typed: str) -> float:
    number, unit = _parts(text)
    value = number * _UNITS[kind].get(unit.lower(), 0.0)
    if not 0 < value < math.inf:
        raise BudgetError(f"{typed}: expected {_EXPECTED[kind]}")
    return value


def limits_from_texts(kind: LimitKind, texts: Sequence[str], targets: Sequence[str]) -> list[Limit]:
    """`20ms` holds for all `targets`, `rpi4=80ms` for one of them and instead of the first.

    Raises BudgetError for what is no quantity, for a machine that is not among `targets`, and for two limits of one.
    """
    limits = [_limit(kind, text, targets) for text in texts]
    named = [limit.target for limit in limits]
    for limit in limits:
        if named.count(limit.target) > 1:
            of = "" if limit.target is None else f" of {limit.target}"
            raise BudgetError(f"{limit.option}: a second limit{of}; expected one")
    return limits


def limit_for(kind: LimitKind, limits: Sequence[Limit], target: str | None = None) -> Limit | None:
    """The limit of `kind` that holds on `target`: its own before that of all."""
    of_kind = {limit.target: limit for limit in limits if limit.kind == kind}
    return of_kind.get(target, of_kind.get(None))


def _parts(text: str) -> tuple[float, str]:
    """Number and unit; 0 where there is no number."""
    found = _QUANTITY.fullmatch(text.strip())
    return (float(found[1]), found[2]) if found else (0.0, "")


def _limit(kind: LimitKind, text: str, targets: Sequence[str]) -> Limit:
    target, equals, quantity = text.rpartition("=")
    if not equals:
        return Limit(kind, quantity_from_text(kind, text), text.strip())
    if kind not in OF_A_MACHINE:
        raise BudgetError(f"{option_of(kind)} {text}: is the same on every machine; expected {_EXPECTED[kind]}")
    if target not in targets:
        raise BudgetError(f"{option_of(kind)} {text}: {target!r} is no --target given; {candidates(target, targets)}")
    return Limit(kind, _quantity(kind, quantity, f"{option_of(kind)} {text}"), quantity.strip(), target)
