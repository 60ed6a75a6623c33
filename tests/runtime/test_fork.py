"""A model under other people's processes and threads: forked, in pools of them, a thread for each request."""

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import effgen
from effgen.driver import CompileRequest, compile_bundle
from effgen.machines.processor import usable_cpus
from effgen.network import NetworkRequest
from effgen.network.scaling import Overrides

pytestmark = pytest.mark.skipif(len(usable_cpus()) < 2, reason="threads that a fork leaves behind need two CPUs")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real network: in a tiny one nothing is shared out over threads."""
    folder = tmp_path_factory.mktemp("forked") / "b0"
    network = NetworkRequest(overrides=Overrides(resolution=64, classes=10))
    compile_bundle(CompileRequest(network, folder, threads=2))
    return folder


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_child_answers(threads: int, called: bool, bundle: Path) -> None:
    model, image = effgen.load(bundle, threads=threads), np.full((1, 3, 64, 64), 0.5, np.float32)
    if called:
        model(image)
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writes, model(image).tobytes())
        os._exit(0)
    os.close(writes)
    try:
        answered, _, _ = select.select([reads], [], [], 120)
        assert answered, "the child hangs"
        found = np.frombuffer(os.read(reads, 4096), np.float32)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reads)
    np.testing.assert_array_equal(found, model(image)[0])


#: Runs with the bundle's path; its own processes end as Python programs do.
PROGRAM = """if True:
    import gc, multiprocessing, os, resource, sys, threading, time
    import numpy as np
    import effgen

    IMAGE = np.full((1, 3, 64, 64), 0.5, np.float32)

    def threads():  # but those of NumPy's own
        return 1 + len(os.listdir("/proc/self/task")) - OTHERS

    OTHERS = 1
    OTHERS = threads()

    def resident_kb():
        return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

    def answer(_=None):
        global model
        if "model" not in globals():  # a spawned process
            model = effgen.load(sys.argv[1], threads=2)
        return model(IMAGE).tobytes()

    def main():
        global model
        model = effgen.load(sys.argv[1], threads=2)
        right = model(IMAGE).tobytes()
"""


def output_of_program(body: str, bundle: Path, within: Sequence[str] = ()) -> str:
    """Standard output of the program with this body of `main`; it fails, or hangs, with what it says."""
    indented = "".join(f"        {line}\n" for line in body.strip().splitlines())
    program = bundle.parent / "program.py"  # a file: spawned processes import it
    program.write_text(f"{PROGRAM}{indented}    if __name__ == '__main__':\n        main()\n")
    done = subprocess.run([*within, sys.executable, program, bundle], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_pool_of_processes(method: str, bundle: Path) -> None:
    body = f"""
with multiprocessing.get_context("{method}").Pool(4) as pool:
    print(pool.map(answer, range(12)) == [right] * 12)
"""
    assert output_of_program(body, bundle) == "True\n"


def test_child_that_ends_as_programs_do(bundle: Path) -> None:
    """By `sys.exit`, which runs what was registered for the end, and joins what threads there are."""
    body = """
child = os.fork()
if child == 0:
    sys.exit(7 if answer() == right else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), answer() == right)
"""
    assert output_of_program(body, bundle) == "7 True\n"


def test_child_of_a_process_that_is_at_a_run(bundle: Path) -> None:
    """The lock of the run that another thread is at is the parent's own."""
    body = """
model._one_call.lock.acquire()
child = os.fork()
if child == 0:
    os._exit(7 if answer() == right else 1)
model._one_call.lock.release()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), answer() == right)
"""
    assert output_of_program(body, bundle) == "7 True\n"


def test_threads_are_bounded_with_a_thread_for_each_request(bundle: Path) -> None:
    body = """
def serve():
    if answer() != right:
        os._exit(1)

def requests(count):
    for _ in range(count // 8):
        asked = [threading.Thread(target=serve) for _ in range(8)]
        for thread in asked: thread.start()
        for thread in asked: thread.join()

requests(200)
before = resident_kb()
requests(800)
while threads() > 2:  # those that were joined may not be gone yet
    time.sleep(0.01)
print(threads(), resident_kb() - before < 8192)
"""
    assert output_of_program(body, bundle) == "2 True\n"


def test_twins_at_once_have_a_pool_each_and_no_more(bundle: Path) -> None:
    body = """
twins = [model, model.twin(), model.twin(), model.twin(threads=1)]
for _ in range(20):
    asked = [threading.Thread(target=twin, args=(IMAGE,)) for twin in twins]
    for thread in asked: thread.start()
    for thread in asked: thread.join()
while threads() > 1 + 3:  # those that were joined may not be gone yet
    time.sleep(0.01)
print(threads() <= 1 + 3, all(twin(IMAGE).tobytes() == right for twin in twins))
"""
    assert output_of_program(body, bundle) == "True True\n"


def test_threads_end_with_their_library(bundle: Path) -> None:
    body = """
for _ in range(20):
    del model
    gc.collect()
    alone = threads()
    model = effgen.load(sys.argv[1], threads=2)
    model(IMAGE)
    print(alone, threads())
"""
    assert set(output_of_program(body, bundle).splitlines()) == {"1 2"}


def test_one_thread_needs_no_pool(bundle: Path) -> None:
    body = """
del model
gc.collect()
model = effgen.load(sys.argv[1], threads=1)
print(answer() != b"", threads())
"""
    assert output_of_program(body, bundle) == "True 1\n"


def test_call_inside_a_call(bundle: Path) -> None:
    """A handler of signals runs between two instructions of the thread that is at a call."""
    body = """
import signal
said = []
def call(*_):
    try:
        model(IMAGE)
    except effgen.errors.BundleError as error:
        said.append(str(error))
signal.signal(signal.SIGALRM, call)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while not said:
    model(IMAGE)
signal.setitimer(signal.ITIMER_REAL, 0)
print(answer() == right, said[0])
"""
    said = output_of_program(body, bundle)
    assert said == (
        "True a model is called inside its own call, by a signal's handler or a finaliser; call a twin() there\n"
    )


def test_child_that_has_its_parents_number(bundle: Path) -> None:
    """The first process of a namespace is number 1, in each."""
    unshare = ["unshare", "--pid", "--fork"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no right to a namespace")
    body = """
import ctypes
time.sleep(0.5)  # the threads sleep
CLONE_NEWPID = 0x20000000
assert os.getpid() == 1 and ctypes.CDLL(None).unshare(CLONE_NEWPID) == 0
child = os.fork()
if child == 0:
    assert os.getpid() == 1
    sys.exit(7 if answer() == right else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), answer() == right)
"""
    assert output_of_program(body, bundle, unshare) == "7 True\n"


def test_threads_that_the_system_does_not_start(bundle: Path) -> None:
    """The model stays usable."""
    body = """
from effgen.runtime.manifest import read_manifest
from effgen.runtime.model import LoadedModel
from pathlib import Path
many = LoadedModel(Path(sys.argv[1]), read_manifest(Path(sys.argv[1])), 500)
room = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE") + 2**28
resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        many(IMAGE)
    except effgen.errors.BundleError as error:
        print(error)
print(answer() == right, threads())
"""
    said = output_of_program(body, bundle).splitlines()
    assert len(said) == 3 and said[0] == said[1] and said[2] == "True 2"
    assert "cannot start 500 threads: Resource temporarily unavailable; give fewer, or raise the limit" in said[0]
