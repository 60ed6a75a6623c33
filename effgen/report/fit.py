"""`effgen fit` as a table, lines and JSON. Nothing is measured or decided here."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from effgen.method.budget.line import phi_text
from effgen.method.budget.solver import CLOSE
from effgen.report.tables import numbers_table

if TYPE_CHECKING:
    from effgen.method.budget.fit import Confirmation, Expense, FitReport, FittedNetwork, FittedTarget

_PLACES = ("below", "chosen", "above")


def json_from_fit(report: FitReport) -> dict[str, Any]:
    """`commands`, `binding`, then the fields of `FitReport`; the request's limits as they were written."""
    request = report.request
    data = {field.name: getattr(report, field.name) for field in fields(report)} | {
        "request": {
            "spec": request.spec,
            "limits": [limit.option for limit in request.limits],
            "targets": request.targets,
            "batch": request.batch,
            "overrides": asdict(request.overrides),
            "threads": request.site.threads,
            "database": None if request.site.database is None else str(request.site.database),
            "confirm": request.site.confirm,
        },
        "baseline": report.baseline.model_dump(mode="json"),
        "scaled": report.scaled.model_dump(mode="json"),
    }
    for key in _PLACES:
        data[key] = data[key] and asdict(data[key])
    for key in ("targets", "confirmations"):
        data[key] = [asdict(item) for item in data[key]]
    return {"commands": commands_from_fit(report), "binding": [asdict(expense) for expense in report.binding], **data}


def table_from_fit(report: FitReport) -> Table:
    """The network and its neighbours, one column each; one row for each of their numbers."""
    law = report.baseline.scaling
    title = f"{report.model}: depth {law.alpha:g}^phi, width {law.beta:g}^phi, resolution {law.gamma:g}^phi"
    shown = [(place, network) for place in _PLACES if (network := getattr(report, place)) is not None]
    headings = {"below": "next smaller", "chosen": "fits", "above": "next larger"}
    table = numbers_table(title, ("", *(headings[place] for place, _ in shown)), left=1)
    networks = [network for _, network in shown]
    for name, cells in _rows(networks):
        table.add_row(name, *cells, style="bold" if name == "phi" else None)
    table.add_section()
    for index, expense in enumerate(report.chosen.expenses):
        table.add_row(_limit_text(expense), *(_expense_cell(network.expenses[index]) for network in networks))
    return table


def _rows(networks: list[FittedNetwork]) -> Iterator[tuple[str, list[str]]]:
    yield "phi", [phi_text(network.phi) for network in networks]
    yield "same network from", [phi_text(network.phi_from) for network in networks]
    yield "depth, width", [f"{network.depth:.4g}, {network.width:.4g}" for network in networks]
    yield "pixels", [str(network.resolution) for network in networks]
    yield "multiply-adds", [f"{network.macs:,}" for network in networks]
    yield "parameters", [f"{network.parameters:,}" for network in networks]


def _limit_text(expense: Expense) -> str:
    said = expense.target is None or f"{expense.target}=" in expense.option
    return expense.option if said else f"{expense.option} on {expense.target}"


def _expense_cell(expense: Expense) -> Text:
    text = f"{expense.written} {expense.how} {_share_text(expense.share)}"
    return Text(text, style="red" if expense.share > 1 else "")


def _share_text(share: float) -> str:
    """Whole percents; near the limit a decimal, rounded away from it: a limit that is broken never reads as kept."""
    if abs(share - 1) >= 0.005 or share == 1:
        return f"{share:4.0%}"
    return f"{(math.ceil if share > 1 else math.floor)(share * 1000) / 1000:.1%}"


def notes_from_fit(report: FitReport) -> list[str]:
    """What binds, what was measured and what was not, and the commands that use the network."""
    return [
        _binding_line(report),
        *map(_confirmation_line, report.confirmations),
        *(line for target in report.targets for line in _unmeasured_lines(target)),
        *commands_from_fit(report),
    ]


def _binding_line(report: FitReport) -> str:
    above = report.above
    if above is None:
        return f"binds: no limit, the line ends at phi {phi_text(report.phi_range[1])}"
    if report.binding:
        broken = "; ".join(f"{_limit_text(e)}: {e.written} ({e.how})" for e in report.binding)
        return f"binds: {broken} at phi {phi_text(above.phi)}, the next larger network"
    nearest = max(above.expenses, key=lambda expense: expense.share)
    why = f"not tried: {_tried(report)} networks were measured"
    return (
        f"binds: {_limit_text(nearest)}: phi {phi_text(above.phi)}, the next larger network, is {nearest.how} to take "
        f"{nearest.written}, {why if report.gave_up else 'too near to the limit to be tried'}"
    )


def _tried(report: FitReport) -> int:
    return len({confirmation.phi for confirmation in report.confirmations})


def _confirmation_line(confirmation: Confirmation) -> str:
    expected, measured = confirmation.expected, confirmation.measured
    doubt = ", while other work disturbed it" if confirmation.disturbed and measured.kind == "latency" else ""
    again, before = (" again", "at first") if expected.how == "measured" else ("", expected.how)
    verdict = "fits" if measured.share <= 1 else "too much"
    return (
        f"phi {phi_text(confirmation.phi)} on {measured.target}: {measured.kind} {measured.written} measured{again}, "
        f"{expected.written} {before}: {verdict}{doubt}"
    )


def _unmeasured_lines(target: FittedTarget) -> Iterator[str]:
    missing = [kind for kind in target.limited if kind not in target.measured]
    if missing:
        yield f"{target.name}: {', '.join(missing)} not measured: {target.why_not}"


def warning_from_fit(report: FitReport) -> str:
    """Whether times are doubtful, and whether the search ended far below the limits; empty where neither is so."""
    warnings = []
    if any(confirmation.disturbed for confirmation in report.confirmations):
        warnings.append("other work ran beside the measurements: on a quiet machine a larger network may fit")
    nearest = max(report.chosen.expenses, key=lambda expense: expense.share)
    if report.gave_up and not report.binding and nearest.share < CLOSE:
        warnings.append(
            f"the network takes{_share_text(nearest.share)} of {_limit_text(nearest)}: after {_tried(report)} networks "
            "were measured no larger one was tried"
        )
    return "; ".join(warnings)


def comment_from_fit(report: FitReport) -> str:
    """What a spec file says of where it comes from."""
    limits = " ".join(limit.option for limit in report.request.limits)
    return (
        f"Found by `effgen fit --spec {report.request.spec} {limits}`: {report.model} at phi "
        f"{phi_text(report.chosen.phi)},\nwhich is phi 0 of this file."
    )


def commands_from_fit(report: FitReport) -> list[str]:
    """The commands that compile the network for each target."""
    request = report.request
    words = ["effgen", "compile", "--spec", request.spec, "--phi", phi_text(report.chosen.phi), "--law", "formula"]
    by_hand = request.overrides
    given: dict[str, object] = {
        "--classes": by_hand.classes,
        "--norm-eps": by_hand.norm_eps,
        "--padding": by_hand.padding,
        "--batch": request.batch if request.batch != 1 else None,
        "--threads": request.site.threads,
        "--db": request.site.database,
    }
    words += [word for option, value in given.items() if value is not None for word in (option, str(value))]
    return [
        shlex.join([*words, "--target", target, "-o", f"build/{report.model}_{Path(target).stem}"])
        for target in request.targets
    ]
