"""Peaks of memory: of this process, also once it is given back, and of programs that it starts."""

import subprocess
import sys
import time

import numpy as np
import pytest

from effgen.judge.memory import resident_bytes, watched_memory

pytestmark = pytest.mark.skipif(resident_bytes() is None, reason="the system does not tell")

MB = 1 << 20

#: Takes 96 MiB and says so; ends when its standard input does.
_PROGRAM = "import sys; taken = b'x' * (96 << 20); print(len(taken), flush=True); sys.stdin.read()"


#: In a process of its own: here, what other tests left may go just then.
_GIVEN_BACK = """
import numpy as np
from effgen.judge.memory import watched_memory
with watched_memory() as taken:
    np.ones(64 << 20, np.uint8)
with watched_memory() as nothing:
    pass
print(taken.bytes, nothing.bytes)
"""


def test_what_was_given_back_counts() -> None:
    told = subprocess.run([sys.executable, "-c", _GIVEN_BACK], capture_output=True, text=True, check=True).stdout
    taken, nothing = map(int, told.split())
    assert 60 * MB < taken < 90 * MB
    assert nothing < 8 * MB


@pytest.mark.parametrize("above", [(), ("/bin/sh", "-c", '"$@"; exit $?', "sh")], ids=["child", "grandchild"])
def test_programs_count_beside_this_process(above: tuple[str, ...]) -> None:
    with watched_memory() as memory:
        held = np.ones(32 * MB, np.uint8)
        command = [*above, sys.executable, "-S", "-c", _PROGRAM]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdin is not None
            process.stdout.readline()
            while memory.seen < 120 * MB:
                time.sleep(0.01)
            process.stdin.close()
        del held
    assert memory.bytes is not None and 120 * MB < memory.bytes < 200 * MB


def test_program_that_has_not_begun_is_not_counted_twice() -> None:
    """On its way it is a copy of this process."""
    held = np.ones(256 * MB, np.uint8)
    with watched_memory() as memory:
        for _ in range(40):
            subprocess.run(["/bin/true"], check=True)
    assert memory.bytes is not None and memory.bytes < 64 * MB and held[0]
