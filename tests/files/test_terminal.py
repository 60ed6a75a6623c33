"""Text from files, as a terminal may have it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effgen.files.terminal import error_line, terminal_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("efficientnet phi=0", "efficientnet phi=0"),
        ("größe 中 🙂", "größe 中 🙂"),
        ("a\u00a0b", "a\u00a0b"),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("a\u202eb\u2066c\u2028", r"a\u202eb\u2066c\u2028"),
        ("half \ud83d", r"half \ud83d"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert terminal_text(text) == shown


@given(st.text())
def test_nothing_is_left_to_obey(text: str) -> None:
    shown = terminal_text(text)
    assert "\n" not in shown and "\x1b" not in shown and terminal_text(shown) == shown
    shown.encode()


def test_an_error_is_one_line() -> None:
    assert error_line("error", ValueError("one\n two \x1b[0m")) == r"error: one two \x1b[0m"
