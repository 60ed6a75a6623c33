"""What `effgen run` found, as lines and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from effgen.report.text import threads_text

if TYPE_CHECKING:
    from effgen.runtime import Prediction
    from effgen.runtime.run import Answer, RunReport


def lines_from_answer(answer: Answer) -> Iterator[str]:
    """The picture and its classes below it, or in one line where there is one class; none where it was not read."""
    rows = [_row(found) for found in answer.predictions]
    if len(rows) == 1:
        yield f"{rows[0]}  {answer.image}"
        return
    if rows:
        yield answer.image
        yield from rows


def _row(found: Prediction) -> str:
    named = found.label != str(found.index)
    return f"{found.probability:7.2%} {found.index:5}" + (f"  {found.label}" if named else "")


def line_from_speed(report: RunReport) -> str:
    """Pictures a second, and how long a stream worked on one."""
    done = len(report.answers) - len(report.errors)
    streams = f"{report.streams} streams, " if report.streams > 1 else ""
    failed = f", {len(report.errors)} could not be read" if report.errors else ""
    line = f"{done} images in {report.wall_s:.2f} s: {report.images_per_s:.1f} images/s{failed}"
    if not done:
        return line
    prepare, inference = (1e3 * seconds / done for seconds in (report.prepare_s, report.inference_s))
    each = f"an image: read and prepare {prepare:.2f} ms, inference {inference:.2f} ms"
    return f"{line} ({streams}{threads_text(report.threads)}{' each' if streams else ''}); {each}"


def json_from_run(report: RunReport) -> dict[str, Any]:
    """Keys as the fields of `RunReport`, `Answer` and `Prediction`, and images_per_s."""
    return {**asdict(report), "images_per_s": report.images_per_s}
