"""What a session of TVM's RPC is with: which device, and whether it is one of the target's."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from effgen.errors import TuneError
from effgen.machines.host import Host, unknown_host
from effgen.machines.identity import unfit_for
from effgen.measure.protocol import HOST, IDENTITY

_BIG_CORES = 1  # TVM's mode of its thread pool: the fastest cores first


def device_of(session: Any, key: str, target: str, architecture: str, features: list[str], threads: int) -> str:
    """The device's name, its thread pool set to `threads`; the key where its server does not tell (TVM's own).

    Raises TuneError where it is no machine of the target, or has fewer threads.
    """
    session.get_function("runtime.config_threadpool")(_BIG_CORES, threads)
    found = session.get_function("runtime.NumThreads")()
    if found < threads:
        raise TuneError(
            f"--rpc-key {key}: a device has {found} threads, --target {target} asks for {threads}; "
            f"give --threads {found}, or serve with effgen device serve, which offers every CPU"
        )
    if not has_function(session, IDENTITY):
        return key
    identity = json.loads(session.get_function(IDENTITY)())
    unfit = unfit_for(architecture, features, identity)
    if unfit:
        raise TuneError(f"--rpc-key {key}: the device {identity['device']} {unfit}; give another --target or key")
    return str(identity["device"])


def host_of(session: Any, device: str, architecture: str) -> Host:
    """What the device says of itself; where its server does not tell (TVM's own), its name and nothing else."""
    if has_function(session, HOST):
        return TypeAdapter(Host).validate_json(session.get_function(HOST)())
    return unknown_host(device, architecture)


def has_function(session: Any, name: str) -> bool:
    """Whether the device knows a global function of TVM's."""
    try:
        session.get_function(name)
    except Exception:  # TVM raises anything
        return False
    return True
