"""What the tuner and its worker say to each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from effgen.kernels.workload import Workload
from effgen.machines.machine import Cpu, Machine
from effgen.measure.carried.candidate import Outcome

if TYPE_CHECKING:  # a Space needs TVM
    from effgen.schedules.space import Space

#: Gives the schedule space of a workload on a machine, None where there is none to search.
SpaceProvider = Callable[[Workload, Machine], "Space | None"]

#: Where the provider is found: `module:function`; a name, because a function cannot cross the pipe.
DEFAULT_PROVIDER = "effgen.schedules:space_of"

#: What `effgen device serve` adds to the functions that a session can call: the machine's identity, and all that
#: reports say of it, as JSON.
IDENTITY = "effgen.device.identity"
HOST = "effgen.device.host"


@dataclass(frozen=True)
class Remote:
    """Devices behind TVM's RPC: the tracker's address and the key that the devices' servers gave it."""

    host: str
    port: int
    key: str

    @property
    def tracker(self) -> str:
        """HOST:PORT."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Setup:
    """The first message: the machine that kernels are for, where spaces come from, and how and where to measure.

    `cold`: before every call the caches of a core's own are filled with something else, because in a network another
    kernel ran before this one. `remote` None: on this machine.
    """

    machine: Cpu
    provider: str = DEFAULT_PROVIDER
    cold: bool = True
    remote: Remote | None = None


@dataclass(frozen=True)
class Connect:
    """Have a device that runs kernels for `limit_s` seconds from now at least: a session with a remote one.

    The server ends a session after `session_s` seconds: that is how long a candidate that never returns keeps a device
    from others, and a little less than `wait_s`, for which a free one is waited for.
    """

    limit_s: float

    @property
    def session_s(self) -> int:
        """At least a minute, since a session is renewed before it ends."""
        return math.ceil(max(60, 2 * self.limit_s))

    @property
    def wait_s(self) -> float:
        """Seconds."""
        return self.session_s + 30.0


@dataclass(frozen=True)
class Prepare:
    """Make inputs and reference of a workload ready: it takes long for a large one, and is no candidate's fault."""

    workload: Workload


@dataclass(frozen=True)
class Measure:
    """Build and check a candidate and time it, in turn with `incumbent` where there is one.

    `thorough` takes several times as long and never stops early.
    """

    workload: Workload
    decisions: Mapping[str, int]
    incumbent: Mapping[str, int] | None = None
    thorough: bool = False


@dataclass(frozen=True)
class Lost:
    """The device went away under a candidate: the candidate may be the reason or not."""

    error: str


@dataclass(frozen=True)
class NoDevice:
    """No device can be had; `error` is for the user."""

    error: str


Request = Setup | Connect | Prepare | Measure
Reply = Outcome | Lost | NoDevice


def provider_from_name(name: str) -> SpaceProvider:
    """The function that `module:function` names."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)  # type: ignore[no-any-return]
