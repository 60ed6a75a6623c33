"""What is asked of TVM's RPC tracker: which servers there are, and a session with one that is free.

TVM's own client retries an unreachable tracker for a minute and waits for a free server for ever; these questions end
in time, with one line that says what is wrong.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from tvm import rpc
from tvm.rpc import base

from effgen.errors import TuneError
from effgen.measure.protocol import Remote

#: Seconds in which a tracker must answer what it can answer at once.
_ANSWER_S = 10.0


def servers_of(remote: Remote) -> int:
    """How many servers the tracker lists for the key, busy ones too.

    Raises TuneError where the tracker cannot be reached or lists none.
    """
    with _connected(remote) as tracker:
        status = _ask(tracker, remote, [base.TrackerCode.SUMMARY], _ANSWER_S)
    keys = [str(server["key"]).removeprefix("server:") for server in status["server_info"]]
    count = keys.count(remote.key)
    if not count:
        others = f"it lists {', '.join(sorted(set(keys)))}" if keys else "it lists none at all"
        raise TuneError(
            f"--rpc-key {remote.key}: the tracker {remote.tracker} lists no server of that key; {others}; start one on "
            f"the device: effgen device serve --key {remote.key} --tracker {remote.tracker}"
        )
    return count


def session_with(remote: Remote, wait_s: float, session_s: int) -> Any:
    """A session with a free server of the key, which the server ends after `session_s` seconds.

    Waits up to `wait_s` seconds for one; raises TuneError.
    """
    with _connected(remote) as tracker:
        try:
            found = _ask(tracker, remote, [base.TrackerCode.REQUEST, remote.key, "", 1], wait_s)
        except TimeoutError:
            raise TuneError(
                f"--rpc-key {remote.key}: no device free within {wait_s:.0f} s at the tracker {remote.tracker}, which "
                f"lists {servers_of(remote)}; wait for other users, or restart the devices' servers"
            ) from None
    host, port, key = found
    try:
        return rpc.connect(host, port, key, session_timeout=session_s)
    except Exception as error:  # TVM raises anything
        line = " ".join(str(error).split())[-200:]
        raise TuneError(
            f"--rpc-key {remote.key}: the server {host}:{port}, which the tracker {remote.tracker} gave, cannot be "
            f"used: {line}"
        ) from None


def _connected(remote: Remote) -> socket.socket:
    """A connection to the tracker, greeted."""
    try:
        tracker = socket.create_connection((remote.host, remote.port), timeout=_ANSWER_S)
        tracker.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
        (magic,) = struct.unpack("<i", base.recvall(tracker, 4))
    except OSError as error:
        raise TuneError(
            f"--rpc-tracker {remote.tracker}: no tracker answers there: {error.strerror or error}; start one: "
            f"effgen device tracker --port {remote.port}"
        ) from None
    if magic != base.RPC_TRACKER_MAGIC:
        tracker.close()
        raise TuneError(
            f"--rpc-tracker {remote.tracker}: is no TVM RPC tracker; expected its address, port 9190 mostly"
        )
    return tracker


def _ask(tracker: socket.socket, remote: Remote, message: list[Any], limit_s: float) -> Any:
    """The tracker's answer; raises TimeoutError where it takes longer than `limit_s` seconds, else TuneError."""
    tracker.settimeout(limit_s)
    try:
        base.sendjson(tracker, message)
        code, value = base.recvjson(tracker)
    except TimeoutError:
        raise
    except OSError as error:
        raise TuneError(
            f"--rpc-tracker {remote.tracker}: went away: {error.strerror or error}; start it again"
        ) from None
    if code != base.TrackerCode.SUCCESS:
        raise TuneError(f"--rpc-tracker {remote.tracker}: refuses: {code}; see what it logs")
    return value
