"""The process of one backend in a race: `python -m effgen.judge.contender`, started by `effgen.judge.race`.

It loads the bundle or sets a peer up, calls it once, and then runs bursts of calls when it is asked to: between them it
waits. It ends with its parent.
"""

from __future__ import annotations

import sys

import numpy  # noqa: F401  # which memory counts from, too

from effgen.judge.memory import resident_bytes
from effgen.measure.carried.process import answers_apart, die_with
from effgen.measure.pipe import PipeClosedError, receive, send


def serve(requests: int, answers: int) -> None:
    """Answer until the other end closes the pipe."""
    before = resident_bytes()
    import effgen.runtime.model  # noqa: F401  # before the rest, which would bring half of it

    after = resident_bytes()
    from effgen.judge.entering import answer_to, enter

    run, told = enter(receive(requests), (after or 0) - (before or 0))
    send(answers, told)
    while run is not None:
        send(answers, answer_to(run, receive(requests)))


def main() -> None:
    die_with(int(sys.argv[1]))
    try:
        serve(0, answers_apart())
    except PipeClosedError:
        return


if __name__ == "__main__":
    main()
