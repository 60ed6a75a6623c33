"""How a target's kernels are measured: here, through TVM's RPC, or in a folder that is carried to the machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from effgen.errors import TuneError
from effgen.files.staging import FolderKind
from effgen.machines.target import stated_target, target_names
from effgen.measure.carried.lines import PLAN
from effgen.measure.protocol import Remote, Setup
from effgen.runtime import read_manifest
from effgen.words import Route

if TYPE_CHECKING:
    from effgen.machines.machine import Cpu
    from effgen.measure.measurer import Measurer


#: What --offline-out may replace.
OFFLINE_FOLDER = FolderKind(PLAN, "a folder of candidates", "--offline-out")


@dataclass(frozen=True)
class RouteOptions:
    """What was asked for; None: as the target says. `rpc_devices`: at most so many at once, None: all there are.

    `offline_out` is the folder to write, with `force` also where there is one, `offline_in` the results to read.
    """

    measure: Route | None = None
    rpc_tracker: str | None = None
    rpc_key: str | None = None
    rpc_devices: int | None = None
    offline_out: Path | None = None
    offline_in: Path | None = None
    force: bool = False


def route_of(target: str, options: RouteOptions) -> Route:
    """The route that the options and the target come to; raises TuneError for a mix that makes no sense."""
    rpc = {"--rpc-tracker": options.rpc_tracker, "--rpc-key": options.rpc_key, "--rpc-devices": options.rpc_devices}
    offline = {"--offline-out": options.offline_out, "--offline-in": options.offline_in}
    implied: Route | None = "offline" if _given(offline) else "rpc" if _given(rpc) else None
    stated = stated_target(target).measure
    route: Route = options.measure or implied or stated.route
    for name, given in (("rpc", _given(rpc)), ("offline", _given(offline))):
        if given and route != name:
            raise TuneError(f"{given[0]}: belongs to --measure {name}, but kernels are measured by route {route}")
    if route == "rpc":
        remote_of(target, options)
        if options.rpc_devices is not None and options.rpc_devices < 1:
            raise TuneError(f"--rpc-devices {options.rpc_devices}: expected 1 or more")
    if route == "offline" and not _given(offline):
        raise TuneError(
            f"--target {target}: measured offline: give --offline-out DIR to write a folder for the machine, or "
            "--offline-in FILE to read its results"
        )
    if options.force and options.offline_out is None:
        raise TuneError("--force: replaces the folder of --offline-out, which is not given")
    return route


def remote_of(target: str, options: RouteOptions) -> Remote:
    """Tracker and key; raises TuneError where one is missing."""
    key = options.rpc_key or stated_target(target).measure.key
    if options.rpc_tracker is None:
        raise TuneError(
            f"--target {target}: measured through RPC: give --rpc-tracker HOST:PORT (effgen device tracker starts one)"
        )
    if not key:
        raise TuneError(f"--target {target}: states no [measure] key: give --rpc-key")
    return Remote(*tracker_from_text("--rpc-tracker", options.rpc_tracker), key)


def remote_of_bundle(path: Path, tracker: str | None, key: str | None) -> Remote | None:
    """Where a bundle is to be run, None: here. `key` None: as the target of the bundle's name says.

    Raises TuneError for a key without a tracker, or a target that states no key.
    """
    check_tracker(tracker, key)
    if tracker is None:
        return None
    if key is None:
        name = str(read_manifest(path).target["name"])
        key = stated_target(name).measure.key if name in target_names() else None
        if key is None:
            raise TuneError(f"{path}: its target {name} states no [measure] key: give --rpc-key")
    return Remote(*tracker_from_text("--rpc-tracker", tracker), key)


def check_tracker(tracker: str | None, key: str | None) -> None:
    """Raise TuneError for a tracker that is no address, and for a key without a tracker."""
    if tracker is not None:
        tracker_from_text("--rpc-tracker", tracker)
    elif key is not None:
        raise TuneError(f"--rpc-key {key}: a tracker knows it: give --rpc-tracker HOST:PORT")


def tracker_from_text(option: str, text: str) -> tuple[str, int]:
    """`127.0.0.1:9190` as its parts; raises TuneError that begins with the `option`."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise TuneError(f"{option} {text}: expected HOST:PORT, e.g. 127.0.0.1:9190")
    return host, int(port)


def measurers(
    machine: Cpu, provider: str, remote: Remote | None, devices: int | None, stack: ExitStack
) -> list[Measurer]:
    """One for this machine, or for each device behind the tracker; they end with the `stack`.

    Raises TuneError where the tracker cannot be reached or lists no device.
    """
    from effgen.measure.measurer import Measurer

    count = 1
    if remote is not None:
        from effgen.measure.tracker import servers_of

        listed = servers_of(remote)
        count = min(listed, devices or listed)
    setup = Setup(machine, provider, remote=remote)
    return [stack.enter_context(Measurer(setup)) for _ in range(count)]


def _given(options: Mapping[str, object]) -> list[str]:
    return [name for name, value in options.items() if value is not None]
