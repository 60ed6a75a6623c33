"""Bundles that are wrong though their hashes are right: what comes of them, each in a process of its own.

    python fuzz/bundles.py BUNDLE [--inputs 2000] [--seed 0]

Copies a good bundle, changes what a program that knows little of bundles could get wrong (fields of the manifest, sizes
of files, the golden pair, the head and the end of the library), corrects the hashes, and loads, calls and verifies it.
The library's machine code is left as it is: a bundle's hashes are what stands for that (docs/security.md).
Prints one line of counts; exit status 1 where there was a traceback, a crash, or more than 30 s or 2 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import effgen
from effgen.deploy.unpack import read_packable
from effgen.errors import EffgenError
from effgen.files.terminal import error_line
from effgen.judge.bench_layers import work_from_kernels, working_set
from effgen.judge.case import golden_pair
from effgen.judge.verify import verify_bundle
from effgen.results.provenance import facts_of, origin_of
from effgen.runtime.standalone import load_standalone

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from damage import seal

_ACCEPTED, _REFUSED, _TRACEBACK = range(3)
_ENDS = ("refused", "accepted", "tracebacks", "crashes", "too slow")
_MOST_S, _MOST_KB = 30, 2 << 20

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 4, 7, 63, 64, 2**31, 2**31 - 1, 2**40, 2**63 - 1, -(2**63), 0.5, -0.0, 1e308,
    float("nan"), float("inf"), "", "x", "cpu", "cuda", "\x1b[2J\n", "a" * 5000, "../x", "\ud800", [], [[]], [0],
    [1, 3, 32, 32], [None], {}, {"x": 1}, {"shape": []}, {"kind": "cuda"}, "float16", "float32", "NHWC",
)  # fmt: skip


@dataclass
class Counts:
    """What came of all inputs; `slowest` in seconds of a CPU, since other work may keep an input waiting; `most_kb`:
    the largest process."""

    ends: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    most_kb: int = 0

    def line(self, inputs: int) -> str:
        ends = ", ".join(
            f"{self.ends[end]} {end}" for end in ("refused", "accepted", "tracebacks", "crashes", "too slow")
        )
        return f"{inputs} inputs: {ends}; slowest {self.slowest:.1f} s of a CPU, most {self.most_kb / 1024:.0f} MB"


def changed_manifest(bundle: Path, chance: random.Random) -> None:
    """One to three fields replaced, removed, doubled or added."""
    path = bundle / "manifest.json"
    data = json.loads(path.read_text())
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        holder, key = chance.choice(list(places(data)))
        value = chance.choice(_VALUES)
        kind = chance.randrange(8)
        if kind == 0 and isinstance(holder, dict) and key != "digest":
            holder.pop(key, None)
        elif kind == 1 and isinstance(holder, list):
            holder.append(value)
        elif kind == 2 and isinstance(holder[key], int):
            holder[key] = holder[key] * chance.choice((2, 4, 1000, -1)) + chance.choice((0, 1, -1))
        elif kind == 3 and isinstance(holder, dict):
            holder[f"{key}_"] = value
        else:
            holder[key] = value
    path.write_text(json.dumps(data))


def places(data: Any) -> Any:
    """Every table or list inside, with each of its keys."""
    for key in list(data) if isinstance(data, dict) else range(len(data)):
        yield data, key
        if isinstance(data[key], dict | list):
            yield from places(data[key])


def changed_size(bundle: Path, chance: random.Random) -> None:
    """A file cut short, made longer, emptied or replaced by another of the bundle's."""
    names = sorted(file.name for file in bundle.iterdir() if file.name != "manifest.json")
    path = bundle / chance.choice(names)
    data = path.read_bytes()
    kind = chance.randrange(5)
    if kind == 0:
        data = data[: chance.randrange(len(data))]
    elif kind == 1:
        data = data[: len(data) - chance.randrange(1, 65)]
    elif kind == 2 and path.suffix != ".so":
        data += bytes(chance.randrange(1, 65))
    elif kind == 3:
        data = b""
    else:
        data = (bundle / chance.choice(names)).read_bytes()
    rewrite(path, data)


def changed_golden(bundle: Path, chance: random.Random) -> None:
    """Bytes of the golden pair, or other arrays."""
    path = bundle / "golden.npz"
    data = bytearray(path.read_bytes())
    if chance.randrange(3):
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        rewrite(path, bytes(data))
        return
    path.unlink()
    shape = chance.choice(((1, 3, 32, 32), (1, 10), (0,), (2, 3, 32, 32), ()))
    kind = chance.choice((np.float32, np.float64, np.int8))
    np.savez_compressed(path, input=np.ones(shape, kind), output=np.ones((1, 10), np.float32))


#: Where a number of an ELF header stands, and its bytes.
_ELF_NUMBERS = ((0, 4), (4, 1), (5, 1), (16, 2), (18, 2), (32, 8), (40, 8), (54, 2), (56, 2), (58, 2), (60, 2))


def changed_library(bundle: Path, chance: random.Random) -> None:
    """A number of the ELF header that says where tables are and how long, or another kind of file."""
    path = bundle / "lib.so"
    data = bytearray(path.read_bytes())
    at, size = chance.choice(
        ((0, 4), (4, 1), (5, 1), (16, 2), (18, 2), (32, 8), (40, 8), (54, 2), (56, 2), (58, 2), (60, 2))
    )
    if at in (32, 56):  # what stands elsewhere, or is left out, would be code or memory of another meaning
        data[at : at + size] = (2 ** (8 * size) - chance.randrange(1, 9)).to_bytes(size, "little")
    else:
        data[at : at + size] = chance.choice((0, 1, 2 ** (8 * size) - 1)).to_bytes(size, "little")
    rewrite(path, bytes(data))


def rewrite(path: Path, data: bytes) -> None:
    """Not through a link, which the good bundle shares."""
    path.unlink()
    path.write_bytes(data)


CHANGES: tuple[Callable[[Path, random.Random], None], ...] = (
    changed_manifest,
    changed_manifest,
    changed_manifest,
    changed_size,
    changed_golden,
    changed_library,
)


def use(bundle: Path, chance: random.Random) -> None:
    """What commands do with a bundle, but for the times."""
    kind = chance.randrange(12)
    if kind == 0:
        assert verify_bundle(bundle, threads=1).cases
        return
    if kind in (1, 2):
        with load_standalone(bundle, 1) as standalone:
            standalone(np.zeros(standalone.manifest.input["shape"], np.float32))
        return
    if kind in (3, 4):
        read_packable(bundle, with_model=True)
        return
    model = effgen.load(bundle, threads=1)
    manifest = model.manifest
    facts_of(manifest, bundle), origin_of(manifest), working_set(manifest), work_from_kernels(manifest.kernels, bundle)
    model(golden_pair(bundle)[0])
    model.trace(np.zeros(manifest.input["shape"], np.float32))
    model.classify(np.zeros((40, 50, 3), np.uint8))


def run_in_child(bundle: Path, seed: int, log: Path) -> tuple[int, float, int]:
    """Exit status (negative: a signal), seconds of a CPU, and the process's largest size in kB."""
    child = os.fork()
    if child == 0:
        os._exit(_used(bundle, seed, log))
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss


def _used(bundle: Path, seed: int, log: Path) -> int:
    signal.alarm(10 * _MOST_S)  # of any work: one that waits for ever is slow, too
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    try:
        use(bundle, random.Random(seed))
    except EffgenError as error:
        line = error_line("error", error)
        assert "\n" not in str(error) or "\n" not in line
        return _REFUSED
    except BaseException:
        with log.open("a") as file:
            file.write(f"seed {seed}\n{traceback.format_exc()}\n")
        return _TRACEBACK
    return _ACCEPTED


def campaign(good: Path, inputs: int, seed: int) -> Counts:
    """All of it; every hundredth input says how far it is."""
    counts = Counts()
    effgen.load(good, threads=1)  # libraries and modules that every child would load anew
    log = Path("build/fuzz/bundles.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    for number in range(seed, seed + inputs):
        chance = random.Random(number)
        with tempfile.TemporaryDirectory(prefix="effgen-fuzz-") as folder:
            bundle = Path(folder) / "bundle"
            shutil.copytree(good, bundle, copy_function=os.link)
            rewrite(bundle / "manifest.json", (good / "manifest.json").read_bytes())
            chance.choice(CHANGES)(bundle, chance)
            with suppress(TypeError, AttributeError, KeyError, ValueError):  # a manifest without a table of files
                seal(bundle)
            status, seconds, kilobytes = run_in_child(bundle, number, log)
        names = {_ACCEPTED: "accepted", _REFUSED: "refused", _TRACEBACK: "tracebacks", -signal.SIGALRM: "too slow"}
        end = names.get(status, "crashes")
        counts.ends[end] += 1
        if end == "crashes":
            with log.open("a") as file:
                file.write(f"seed {number}: status {status}\n")
        counts.slowest, counts.most_kb = max(counts.slowest, seconds), max(counts.most_kb, kilobytes)
        if (number - seed + 1) % 100 == 0:
            print(counts.line(number - seed + 1), file=sys.stderr, flush=True)
    return counts


def main() -> int:
    """Exit status 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a small good one, compiled with --emit standalone")
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts = campaign(options.bundle, options.inputs, options.seed)
    print(counts.line(options.inputs))
    bad = counts.ends["tracebacks"] + counts.ends["crashes"] + counts.ends["too slow"]
    return 1 if bad or counts.slowest > _MOST_S or counts.most_kb > _MOST_KB else 0


if __name__ == "__main__":
    sys.exit(main())
