"""Which line of a tool's words says what is wrong."""

import pytest

from effgen.machines.programs import complaint


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "a.c: In function 'f':\na.c:3:1: error: no such thing\n  3 | f\na.c:9: error: another\n",
            "a.c:3:1: error: no such thing",
        ),
        (
            "-- Configuring\nCMake Error at CMakeLists.txt:4 (project):\n\n  The CXX compiler is not able to compile.\n"
            "-- Configuring incomplete, errors occurred!\n",
            "CMake Error at CMakeLists.txt:4 (project): The CXX compiler is not able to compile.",
        ),
        (
            "CMake Error: The source directory is none.\nRun 'cmake --help'.\n",
            "CMake Error: The source directory is none.",
        ),
        ("/usr/bin/ld: cannot find -lc\ncollect2: error: ld returned 1 exit status\n", "/usr/bin/ld: cannot find -lc"),
        ("collect2: error: ld returned 1 exit status\n", "collect2: error: ld returned 1 exit status"),
        ("one\n\n two \n", "two"),
        ("", "it said nothing"),
    ],
)
def test_complaint(text: str, line: str) -> None:
    assert complaint(text) == line
