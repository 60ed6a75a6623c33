"""What runs on a device, or beside it: TVM's RPC server and tracker, in this process until Ctrl-C."""

from __future__ import annotations

import errno
import importlib.util
import json
import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from effgen.errors import TuneError
from effgen.machines.host import describe_host
from effgen.machines.identity import identity
from effgen.measure.carried.process import die_with
from effgen.measure.door import Door
from effgen.measure.protocol import HOST, IDENTITY
from effgen.runtime.library import prepare_tvm, tvm_ffi

#: What `effgen[rpc]` installs.
_PACKAGES = ("tornado", "cloudpickle", "psutil")

OnReady = Callable[[str], None]


def serve_device(
    key: str, tracker: tuple[str, int] | None, host: str, port: int, on_ready: OnReady, log: OnReady
) -> None:
    """Serve sessions on `host:port` and announce them to the tracker under `key`, until a signal.

    `on_ready` gets the address once it listens, `log` a line for every session that ended badly. TVM's loop ends with a
    session whose process dies, which any bad candidate may cause: it is then begun anew. Raises TuneError where a
    package is missing or the port is taken.
    """
    _check(host, port)
    if tracker is not None:
        _check_name(tracker[0])
    prepare_tvm()
    from tvm.rpc import base, server

    server.logger.handlers.clear()
    server.logger.setLevel(logging.ERROR)
    _tell_identity()
    os.register_at_fork(after_in_child=_as_session)
    folder = os.getcwd()
    door = Door(host, port, base.RPC_MAGIC)

    def listen() -> None:
        while True:
            on_ready(f"{host}:{door.port}")
            try:
                # The loop that TVM's server runs in a thread, with our door in place of its socket.
                server._listen_loop(door, door.port, key, tracker, None, None)
            except Exception as failed:  # TVM raises anything
                log(f"a session ended badly: {failed}; listening again")
            os.chdir(folder)  # it may have ended in the folder of its session, which is gone

    _until_a_signal(listen)


def serve_tracker(host: str, port: int, on_ready: OnReady) -> None:
    """Be the tracker on `host:port`, until a signal; raises as `serve_device`."""
    _check(host, port)
    prepare_tvm()
    from tvm.rpc import tracker

    def listen() -> None:
        state = tracker.PopenTrackerServerState(host, port, port + 1, silent=True)
        on_ready(f"{host}:{state.port}")
        state.thread.join()

    _until_a_signal(listen)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _until_a_signal(work: Callable[[], None]) -> None:
    """Do `work` in a thread that the process does not wait for, nor for those that it starts; sessions end with it."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join()
    finally:
        for child in multiprocessing.active_children():
            child.kill()


def _check(host: str, port: int) -> None:
    """Raise TuneError where a package of TVM's RPC is missing, or the address cannot be listened on."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise TuneError(f"{', '.join(missing)}: not installed: TVM's RPC needs it; pip install 'effgen[rpc]'")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise TuneError(
            f"--host {host} --port {port}: {error.strerror or error}; "
            f"{'give another --port' if taken else 'expected an address of this machine, e.g. 127.0.0.1'}"
        ) from None


def _check_name(tracker: str) -> None:
    """Raise TuneError for a host that has no address: TVM's server would ask for it for ever."""
    try:
        socket.getaddrinfo(tracker, None)
    except OSError as error:
        raise TuneError(f"--tracker {tracker}: {error.strerror}; expected the tracker's HOST:PORT") from None


def _tell_identity() -> None:
    """Let a session ask what machine this is."""
    register: Any = tvm_ffi().register_global_func
    register(IDENTITY, lambda: json.dumps(identity()), override=True)
    register(HOST, lambda: json.dumps(asdict(describe_host())), override=True)


def _as_session() -> None:
    """In a process forked for a session: it ends with the server, and by SIGTERM (TVM's way), inside a kernel too."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    die_with(os.getppid())
