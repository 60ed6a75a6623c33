"""What workers that run one bundle take: each one's memory, and that of all together.

    python benchmarks/shared_memory.py BUNDLE [--workers 8]

Workers are processes that have loaded the model and called it once. *Started*: each loads it itself, as gunicorn's do.
*Forked*: their parent has, as under gunicorn --preload. Beside effgen its C library, where the bundle has it (a handle
is not for a child that was forked), and onnxruntime on the bundle's ONNX file, where it is installed; one thread each.

RSS counts all that a process can see, USS what it alone has, and PSS shares out what several have: PSS adds up.
*Beyond*: RSS beyond a Python with NumPy, of the first that loaded the model.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from effgen.judge.peers import peer_version
from effgen.report.tables import numbers_table
from effgen.runtime.manifest import read_manifest

_MIB = 1 << 20

#: A worker: says that it is ready, and ends when its standard input does. Forked ones are the children of one that only
#: waits for them.
_PROGRAM = """
import json, os, re, sys
import numpy as np

kind, bundle, forked = sys.argv[1], sys.argv[2], int(sys.argv[3])
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

with np.load(bundle + "/golden.npz") as pair:
    image = pair["input"]
before = resident()
if kind == "effgen":
    import effgen
    model = effgen.load(bundle, threads=1)
    call = lambda: model(image)
elif kind == "standalone":
    from effgen.runtime.standalone import load_standalone
    model = load_standalone(bundle, 1)
    call = lambda: model(image)
else:
    from effgen.judge.onnx_runtime import onnxruntime_module
    onnxruntime = onnxruntime_module()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle + "/model.onnx", options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: image}
    call = lambda: session.run(None, feed)
right = np.asarray(call()).tobytes()
beyond = resident() - before

ready, say = os.pipe()
children = []
for _ in range(forked):
    child = os.fork()
    if child == 0:
        try:
            same = np.asarray(call()).tobytes() == right
            os.write(say, b"y" if same else b"n")
            os.close(say)
            sys.stdin.read()
        finally:
            os._exit(0)
    children.append(child)
os.close(say)  # a child that has ended says nothing
good = all(os.read(ready, 1) == b"y" for _ in children)
print(json.dumps({"workers": children or [os.getpid()], "beyond": beyond, "good": good}), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Workers:
    """Bytes: of each worker, and `beyond`, what the first one that loaded the model took beyond a Python with NumPy."""

    rss: Sequence[int]
    pss: Sequence[int]
    uss: Sequence[int]
    beyond: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    manifest = read_manifest(options.bundle)
    forms = [("effgen", False), ("effgen", True)]
    forms += [("standalone", False)] if manifest.standalone else []
    forms += [("onnxruntime", False), ("onnxruntime", True)] if peer_version("onnxruntime") else []
    columns = ("workers", "each RSS", "PSS", "USS", "all PSS", "beyond")
    table = numbers_table(f"{manifest.name}, {options.workers} workers, MiB", columns, left=1)
    for kind, forked in forms:
        found = workers_of(kind, options.bundle, options.workers, forked)
        table.add_row(f"{kind}, {'forked' if forked else 'started'}", *cells(found))
    Console(width=120, highlight=False).print(table)


def cells(found: Workers) -> list[str]:
    """Means of each, the sum of all PSS, and beyond; MiB."""
    means = (sum(values) / len(values) for values in (found.rss, found.pss, found.uss))
    return [f"{value / _MIB:.1f}" for value in (*means, sum(found.pss), found.beyond)]


def workers_of(kind: str, bundle: Path, count: int, forked: bool) -> Workers:
    """`count` workers, looked at while all are there."""
    with ExitStack() as stack:
        parents = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM, kind, str(bundle), str(count if forked else 0)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for _ in range(1 if forked else count)
        ]
        said = [said_by(parent) for parent in parents]
        rolls = [rollup(int(pid)) for each in said for pid in each["workers"]]
        for parent in parents:
            assert parent.stdin is not None
            parent.stdin.close()
    uss = [roll["Private_Clean"] + roll["Private_Dirty"] for roll in rolls]
    return Workers([roll["Rss"] for roll in rolls], [roll["Pss"] for roll in rolls], uss, said[0]["beyond"])


def said_by(process: subprocess.Popen[bytes]) -> dict:
    """What a worker says once it has called its model. Ends this program where it could not, or answered otherwise than
    its parent."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line or not json.loads(line)["good"]:
        raise SystemExit("a worker could not run the model, or gave another answer")
    return json.loads(line)


def rollup(pid: int) -> Mapping[str, int]:
    """A process's memory by kind, bytes, as Linux sums it up."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {key: 1024 * int(size) for key, size in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


if __name__ == "__main__":
    main()
