"""A model loaded before a fork answers in the child, as servers that load first and fork then need it."""

import os
import select
import signal
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
