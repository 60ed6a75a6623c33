"""What this machine is and how busy it is: stored with every timing, because a time means nothing without it."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from effgen.machines.cgroup import cpu_quota
from effgen.machines.identity import cpu_flags, device_name, file_text
from effgen.machines.processor import usable_cpus

#: CPU flags that decide which kernels are worth running, as Linux names them.
NOTEWORTHY_FLAGS = (
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
)

_CPU = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Host:
    """The machine under the process. Sizes are bytes; `cpus` are those the process may run on.

    `cpu_quota` is the container's limit in CPUs, None where there is none. `busy_cpus` is how many CPUs' worth
    of work other processes did while it was looked at, None where the kernel does not tell. A device elsewhere may
    not say more than its name: empty, 0 and None stand for what is unknown.
    """

    cpu: str
    architecture: str
    cpus: tuple[int, ...]
    logical_cpus: int
    cpu_quota: float | None
    virtual: bool
    flags: tuple[str, ...]
    caches: dict[str, int]
    memory_bytes: int
    system: str
    python: str
    load_average: tuple[float, float, float] | None
    busy_cpus: float | None


def unknown_host(cpu: str, architecture: str) -> Host:
    """A machine of which nothing else is known."""
    return Host(cpu, architecture, (), 0, None, False, (), {}, 0, "", "", None, None)


def describe_host(sample_s: float = 0.25) -> Host:
    """Look at the machine; takes `sample_s` seconds, in which the caller should do nothing else."""
    with watch_other_work() as busy:
        time.sleep(sample_s)
    flags, cpus = cpu_flags(), usable_cpus()
    return Host(
        cpu=device_name(),
        architecture=platform.machine(),
        cpus=cpus,
        logical_cpus=os.cpu_count() or len(cpus),
        cpu_quota=cpu_quota(),
        virtual="hypervisor" in flags,
        flags=tuple(flag for flag in NOTEWORTHY_FLAGS if flag in flags),
        caches=_caches(cpus[0]),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=_system(),
        python=platform.python_version(),
        load_average=os.getloadavg(),
        busy_cpus=busy.cpus,
    )


def _caches(cpu: int) -> dict[str, int]:
    """Size by level of the data caches that `cpu` sees, e.g. {"L1d": 32768, "L2": 1048576, "L3": ...}."""
    sizes = {}
    for folder in sorted((_CPU / f"cpu{cpu}" / "cache").glob("index*")):
        level, kind = file_text(folder / "level").strip(), file_text(folder / "type").strip()
        size = re.fullmatch(r"(\d+)([KM])", file_text(folder / "size").strip())
        if kind != "Instruction" and size is not None:
            name = f"L{level}d" if kind == "Data" else f"L{level}"
            sizes[name] = int(size[1]) * {"K": 1 << 10, "M": 1 << 20}[size[2]]
    return sizes


def _system() -> str:
    """Distribution and kernel."""
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', file_text(Path("/etc/os-release")), re.MULTILINE)
    return f"{found[1] if found else platform.system()}, {platform.system()} {platform.release()}"


@dataclass
class OtherWork:
    """CPUs' worth of work that other processes did while they were watched; None where the kernel does not tell."""

    cpus: float | None = None


@contextmanager
def watch_other_work() -> Iterator[OtherWork]:
    """Fills in its `cpus` when the block ends: all work on the machine less this process's own and its children's."""
    work, ticks, own, start = OtherWork(), _busy_ticks(), _own_seconds(), time.perf_counter()
    yield work
    after = _busy_ticks()
    if ticks is not None and after is not None:
        seconds = (after - ticks) / os.sysconf("SC_CLK_TCK") - (_own_seconds() - own)
        work.cpus = max(0.0, seconds / (time.perf_counter() - start))


def _own_seconds() -> float:
    """CPU seconds of this process and of all that it has started, ended or not."""
    times = os.times()
    return sum(times[:4]) + sum(_cpu_ticks_below(os.getpid())) / os.sysconf("SC_CLK_TCK")


def _cpu_ticks_below(pid: int) -> Iterator[int]:
    """Of each process below `pid` that runs still, with what those that it waited for have taken."""
    ticks, parents = dict[int, int](), dict[int, int]()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        words = file_text(entry).rpartition(")")[2].split()
        if len(words) > 14:  # it may have ended since it was listed
            number = int(entry.parent.name)
            parents[number], ticks[number] = int(words[1]), sum(map(int, words[11:15]))
    for number in ticks:
        above = number
        while above in parents and above != pid:
            above = parents[above]
        if above == pid != number:
            yield ticks[number]


def _busy_ticks() -> int | None:
    """Clock ticks spent in user, nice, system, irq, softirq and steal since boot."""
    words = file_text(Path("/proc/stat")).split("\n", 1)[0].split()
    if len(words) < 9:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(word) for word in words[1:9])
    return user + nice + system + irq + softirq + steal
