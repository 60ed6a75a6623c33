"""A bundle under other people's processes and threads: right answers, threads, memory, seconds to end.

    python benchmarks/processes.py BUNDLE [--load 0]

Needs two CPUs; `pip install gunicorn uvicorn-worker '.[service]'` for the last line.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from effgen.machines.load import busy_processes

_PROGRAM = """if True:
    import gc, multiprocessing, os, sys, threading, time
    import numpy as np
    import effgen

    with np.load(sys.argv[1] + "/golden.npz") as pair:
        IMAGE = pair["input"]

    def threads():
        return len(os.listdir("/proc/self/task"))

    def resident_mb():
        return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def answer(_=None):
        global model
        if "model" not in globals():
            model = effgen.load(sys.argv[1], threads=2)
        return model(IMAGE).tobytes()

    def ended():
        sys.stdout.write(f" {time.time()}")
        sys.stdout.flush()

    def main():
        right = answer()
{body}
        ended()

    if __name__ == "__main__":
        main()
"""

_FORK = """
child = os.fork()
if child == 0:
    sys.exit(0 if answer() == right else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, end="")
"""

_POOL = """
with multiprocessing.get_context("{method}").Pool(4) as pool:
    print(pool.map(answer, range(16)) == [right] * 16, end="")
"""

_REQUESTS = """
wrong = []
def serve():
    if answer() != right:
        wrong.append(1)
def requests(count):
    for _ in range(count // 10):
        asked = [threading.Thread(target=serve) for _ in range(10)]
        for thread in asked: thread.start()
        for thread in asked: thread.join()
requests(100)
before, most = resident_mb(), threads()
requests(900)
print(f"{not wrong} threads {most} then {threads()}, RSS {resident_mb() - before:+.1f} MB", end="")
"""

_CASES = {
    "call, then end": 'print(True, end="")',
    "fork after a call": _FORK,
    **{f"Pool(4), {method}": _POOL.replace("{method}", method) for method in ("fork", "forkserver", "spawn")},
    "a thread for each of 1,000 requests": _REQUESTS,
}

#: An application that has called its model before gunicorn forks its workers.
_APPLICATION = """
import sys
import numpy as np
import effgen
sys.path.insert(0, {service!r})
from service import make_app

model = effgen.load({bundle!r}, threads=2)
with np.load({bundle!r} + "/golden.npz") as pair:
    model(pair["input"])
app = make_app(model)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--load", type=int, default=0)
    options = parser.parse_args()
    bundle = str(options.bundle.absolute())
    with busy_processes(options.load), tempfile.TemporaryDirectory() as folder:
        for name, body in _CASES.items():
            print(f"{name:38s} {run_case(bundle, body, Path(folder))}", flush=True)
        print(f"{'gunicorn --preload, 4 workers':38s} {run_gunicorn(bundle, Path(folder))}", flush=True)


def run_case(bundle: str, body: str, folder: Path) -> str:
    """What a process says, and how long after that it was gone."""
    program = folder / "case.py"
    indented = "".join(f"        {line}\n" for line in body.strip().splitlines())
    program.write_text(_PROGRAM.replace("{body}", indented))
    done = subprocess.run([sys.executable, program, bundle], capture_output=True, text=True, timeout=600)
    gone = time.time()
    if done.returncode != 0:
        return f"status {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    said, _, at = done.stdout.rpartition(" ")
    return f"{said}, gone after {1e3 * (gone - float(at)):.0f} ms"


def run_gunicorn(bundle: str, folder: Path) -> str:
    """The answers of forty requests, by the workers' process numbers, and how long ending takes."""
    if shutil.which("gunicorn", path=str(Path(sys.executable).parent)) is None:
        return "not installed"
    service = str(Path(__file__).parents[1] / "examples" / "service")
    (folder / "application.py").write_text(_APPLICATION.format(service=service, bundle=bundle))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["-m", "gunicorn", "--preload", "-w", "4", "-k", "uvicorn_worker.UvicornWorker", "-b", address]
    server = subprocess.Popen([sys.executable, *words, "application:app"], cwd=folder, stderr=subprocess.DEVNULL)
    try:
        answers = {ask(address) for _ in range(40)}
        threads = [count_threads(pid) for pid in children_of(server.pid)]
    finally:
        start = time.time()
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    return (
        f"{len(answers) == 1 and 'predictions' in next(iter(answers))} threads of workers {threads}, "
        f"gone after {1e3 * (time.time() - start):.0f} ms"
    )


def ask(address: str, patience_s: float = 60.0) -> str:
    """The answer to a grey picture, once the server is there."""
    import io

    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (320, 240), (90, 120, 150)).save(picture, "JPEG")
    end = time.time() + patience_s
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/classify", picture.getvalue(), timeout=30) as response:
                return str(response.read().decode())
        except OSError:
            if time.time() > end:
                raise
            time.sleep(0.1)


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def count_threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


if __name__ == "__main__":
    main()
