"""What tests of commands share."""

from __future__ import annotations


def one_line(result: tuple[int, str, str], status: int = 1) -> str:
    """The text of an error that came as it should: alone, on standard error, in one line."""
    code, out, err = result
    assert (code, out) == (status, ""), (out, err)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and err.endswith(errors[0] + "\n") and "Traceback" not in err, err
    return errors[0].removeprefix("error: ")
