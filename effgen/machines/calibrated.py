"""The costs that `effgen calibrate` measured of this computer: which are plausible, and where they are kept.

A file for each kind of processor and width of vectors, in the user's data: a home that several computers share may hold
one for each.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from effgen.errors import TargetError
from effgen.files.bounded import UnreadableError, read_json
from effgen.files.strict import StrictModel, first_problem
from effgen.files.text import write_text
from effgen.machines.identity import device_name
from effgen.machines.microarchitecture import this_microarchitecture
from effgen.machines.target_file import Costs

#: From and to what a measured cost may be, in the unit of the table: beyond what any processor has it was disturbed.
#: The keys are all that is measured.
PLAUSIBLE: dict[str, tuple[float, float]] = {
    "stream_bytes": (0.5, 128.0),
    "chain": (4, 32),
    "half_product": (0.25, 1.1),
    "half_store": (0.25, 1.1),
    "operand": (0.0, 1.0),
    "exponential_apart": (3.0, 60.0),
    "store": (0.5, 8.0),
    "copy_first": (0.5, 8.0),
    "copy_second": (0.5, 24.0),
    "copy_beyond": (0.5, 64.0),
    "gate": (0.5, 16.0),
}


class CalibratedCosts(StrictModel):
    """What one run measured. `clock_ghz`: the core's clock while it did; `multiply_add_cycles`: of that clock, from one
    vector's multiply-add to the next, which is the unit of the costs; `other_cpus`: other work beside it, in CPUs."""

    cpu: str
    microarchitecture: str
    vector_bytes: Annotated[int, Field(ge=16, le=256)]
    date: str
    clock_ghz: Annotated[float, Field(gt=0.01, lt=100)]
    multiply_add_cycles: Annotated[float, Field(gt=0.01, lt=100)]
    other_cpus: Annotated[float, Field(ge=0)] | None
    costs: dict[str, float]

    def over(self, inherited: Costs) -> Costs:
        """The table with what was measured in the place of what is inherited."""
        return Costs.model_validate(inherited.model_dump() | table_from_measured(self.costs))


def table_from_measured(costs: dict[str, float]) -> dict[str, Any]:
    """Costs by name as the table has them: a count of vectors is a whole number."""
    return {name: round(value) if name == "chain" else value for name, value in costs.items()}


def implausible(costs: dict[str, float]) -> list[str]:
    """Names of those that no processor has."""
    return [name for name, value in costs.items() if not PLAUSIBLE[name][0] <= value <= PLAUSIBLE[name][1]]


def calibrated_file(vector_bytes: int) -> Path:
    """Where the costs of this computer are kept: `costs/` in `$XDG_DATA_HOME/effgen`, `~/.local/share/effgen`."""
    from platformdirs import user_data_path

    # A name may hold anything: its digest does not.
    digest = hashlib.sha256(device_name().encode()).hexdigest()[:8]
    name = f"{this_microarchitecture() or 'unknown'}-{vector_bytes}-{digest}.json"
    return user_data_path("effgen", appauthor=False) / "costs" / name


def load_calibrated(vector_bytes: int) -> CalibratedCosts | None:
    """What is kept of this computer with vectors of so many bytes; None where nothing is. Raises TargetError for a file
    that nobody could have written here."""
    path = calibrated_file(vector_bytes)
    if not path.exists():
        return None
    try:
        found = CalibratedCosts.model_validate(read_json(path))
    except UnreadableError as error:
        raise _no_costs(path, str(error)) from None
    except ValidationError as error:
        raise _no_costs(path, first_problem(error, CalibratedCosts)) from None
    unknown = sorted(found.costs.keys() - PLAUSIBLE.keys())
    if unknown:
        raise _no_costs(path, f"costs.{unknown[0]}: none that is measured")
    wrong = implausible(found.costs)
    if wrong:
        low, high = PLAUSIBLE[wrong[0]]
        raise _no_costs(path, f"costs.{wrong[0]} = {found.costs[wrong[0]]:g}: expected from {low:g} to {high:g}")
    return found if found.cpu == device_name() and found.vector_bytes == vector_bytes else None


def store_calibrated(costs: CalibratedCosts) -> Path:
    """Keep them as this computer's, in the place of what was there, whole or not at all; returns the file. Raises
    EffgenError where it cannot be written."""
    path = calibrated_file(costs.vector_bytes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(f"{path.parent}: cannot be made: {error.strerror}; set XDG_DATA_HOME") from None
    write_text("costs", path, json.dumps(costs.model_dump(), indent=2) + "\n")
    return path


def _no_costs(path: Path, problem: str) -> TargetError:
    return TargetError(f"{path}: {problem}; remove it, or run effgen calibrate again")
