"""The process that converts a model for one peer: `python -m effgen.judge.conversion`, started by `judge.converted`."""

from __future__ import annotations

import sys

from effgen.judge.converted import FORMS
from effgen.judge.messages import Conversion, Refused, refusal
from effgen.measure.carried.process import answers_apart, die_with
from effgen.measure.pipe import PipeClosedError, receive, send


def convert(request: Conversion) -> Refused | None:
    """Write the peer's files; why not, where that cannot be."""
    try:
        FORMS[request.peer].convert(request.job, request.folder)
    except Exception as error:
        return refusal(error)
    return None


def main() -> None:
    die_with(int(sys.argv[1]))
    answers = answers_apart()
    try:
        send(answers, convert(receive(0)))
    except PipeClosedError:
        return


if __name__ == "__main__":
    main()
