"""Many inputs for each reader, counted: `python fuzz/campaign.py [KIND ...] --inputs 2000 --seed 1`.

Each kind is read in a process of its own, which is started again where an input ends it. Exit status 1 where there was
anything but an answer or a line: a traceback, a crash, more than 30 s or 2 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from readers import KINDS, folder_of, input_of

from effgen.errors import EffgenError

#: What no input may take.
MOST_S, MOST_MB = 30.0, 2000.0

#: A process is ended after so many seconds with one input, and has so much memory: the machine must survive.
_GIVE_UP_S, _LIMIT_BYTES = 90.0, 12 * 2**30


@dataclass
class Tally:
    """What came of the inputs of a kind."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    most_mb: float = 0.0
    faults: list[str] = field(default_factory=list)

    def take(self, number: int, told: dict[str, Any]) -> None:
        """One input's end."""
        seconds, megabytes = told.get("seconds", 0.0), told.get("mb", 0.0)
        self.counts[told["end"]] += 1
        self.slowest_s, self.most_mb = max(self.slowest_s, seconds), max(self.most_mb, megabytes)
        if told["end"] in ("traceback", "crash", "no line") or seconds > MOST_S or megabytes > MOST_MB:
            self.faults.append(f"{number}: {told['end']} {seconds:.1f} s {megabytes:.0f} MB {told.get('what', '')}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        return _work(asked.kinds[0], asked.seed, asked.first, asked.inputs)
    print(f"{'kind':12}{'inputs':>8}{'refused':>9}{'accepted':>9}{'tracebacks':>11}{'crashes':>8}{'s':>7}{'MB':>7}")
    faults = 0
    for kind in asked.kinds or KINDS:
        tally = _campaign(kind, asked.seed, asked.first, asked.inputs)
        count = tally.counts
        print(
            f"{kind:12}{count.total():8}{count['refused']:9}{count['accepted']:9}"
            f"{count['traceback'] + count['no line']:11}{count['crash']:8}{tally.slowest_s:7.1f}{tally.most_mb:7.0f}",
            flush=True,
        )
        for fault in tally.faults[:20]:
            print(f"    {fault}", flush=True)
        faults += len(tally.faults)
    return 1 if faults else 0


def _campaign(kind: str, seed: int, first: int, inputs: int) -> Tally:
    tally, number, end = Tally(), first, first + inputs
    while number < end:
        command = [sys.executable, __file__, kind, "--worker", "--seed", str(seed)]
        command += ["--first", str(number), "--inputs", str(end - number)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        # Unbuffered: what waits in a buffer, select() does not see.
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, bufsize=0
        ) as process:
            number = _follow(process, number, end, tally)
    return tally


def _follow(process: subprocess.Popen[bytes], number: int, end: int, tally: Tally) -> int:
    """Take what a process tells, a line an input; the number that the next process begins with."""
    assert process.stdout is not None
    while number < end:
        if not select.select([process.stdout], [], [], _GIVE_UP_S)[0]:
            process.kill()
            tally.take(number, {"end": "crash", "seconds": _GIVE_UP_S, "what": "no end"})
            return number + 1
        line = process.stdout.readline()
        if not line:
            tally.take(number, {"end": "crash", "what": f"ended with {process.wait()}"})
            return number + 1
        tally.take(number, json.loads(line))
        number += 1
    return number


def _work(kind: str, seed: int, first: int, inputs: int) -> int:
    """Read inputs one after the other, and tell what came of each."""
    resource.setrlimit(resource.RLIMIT_AS, (_LIMIT_BYTES, _LIMIT_BYTES))
    out = os.fdopen(os.dup(1), "w")
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    with folder_of(kind) as folder:
        path = folder / f"input{KINDS[kind].suffix}"
        for number in range(first, first + inputs):
            path.write_bytes(input_of(kind, seed, number))
            out.write(json.dumps(outcome(kind, path)) + "\n")
            out.flush()
    return 0


def outcome(kind: str, path: Path) -> dict[str, Any]:
    """What reading a file comes to: how it ended, the seconds, and the most memory meanwhile beyond what there was."""
    before, start, what = _resident_mb(), time.perf_counter(), ""
    try:
        KINDS[kind].read(path)
        end = "accepted"
    except EffgenError as error:
        end, what = _judged(error)
    except BaseException:
        end, what = "traceback", " | ".join(traceback.format_exc().splitlines()[-7:])
    return {
        "end": end,
        "what": what,
        "seconds": time.perf_counter() - start,
        "mb": _peak_mb() - before,
    }


def _judged(error: EffgenError) -> tuple[str, str]:
    """Whether an error is a line of a length that somebody reads."""
    line = " ".join(str(error).split())
    return ("refused", "") if 0 < len(line) < 5000 else ("no line", line[:200])


def _resident_mb() -> float:
    """What is in memory now; the peak is counted from here on."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_mb("VmRSS")


def _peak_mb() -> float:
    return _status_mb("VmHWM")


def _status_mb(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1000
    return 0.0


if __name__ == "__main__":
    raise SystemExit(main())
