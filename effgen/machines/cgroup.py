"""How many CPUs' worth of time the process's control group may use: containers are limited so, not by a mask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from effgen.machines.identity import file_text


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs that this process may use at a time, the tightest limit of its group and of all above it; None without one.

    Both versions of control groups are asked (`man 7 cgroups`): version 2's `cpu.max` and version 1's
    `cpu.cfs_quota_us` over `cpu.cfs_period_us`. `root` is where /proc and /sys are looked for.
    """
    limits = (limit for folder in _folders(root) for limit in _limits(folder))
    return min(limits, default=None)


@dataclass(frozen=True)
class _Mount:
    """A mounted hierarchy: `top` is the group whose folder `point` is; version 1 says what it controls."""

    top: PurePosixPath
    point: PurePosixPath
    version: int
    controllers: frozenset[str]


def _folders(root: Path) -> Iterator[Path]:
    """The folders of the process's groups that may limit its CPUs, each followed by those above it."""
    groups = dict(_groups(file_text(root / "proc/self/cgroup")))
    for mount in _mounts(file_text(root / "proc/self/mountinfo")):
        if mount.version == 1 and "cpu" not in mount.controllers:
            continue
        group = groups.get("cpu" if mount.version == 1 else "")
        if group is not None:
            point = root / mount.point.relative_to("/")
            below = _below(group, mount.top)
            yield from (point / below, *(point / part for part in below.parents))


def _groups(text: str) -> Iterator[tuple[str, PurePosixPath]]:
    """Controller -> the process's group in /proc/self/cgroup; "" is version 2's, for all that it controls."""
    for line in text.splitlines():
        words = line.split(":", 2)
        if len(words) == 3 and words[2].startswith("/"):
            for controller in words[1].split(","):
                yield controller, PurePosixPath(words[2])


def _mounts(text: str) -> Iterator[_Mount]:
    """The control groups' lines of /proc/self/mountinfo (`man 5 proc`)."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        words, kind = before.split(), after.split()
        if len(words) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        top, point = (PurePosixPath(_unescaped(word)) for word in words[3:5])
        if top.is_absolute() and point.is_absolute():
            yield _Mount(top, point, 2 if kind[0] == "cgroup2" else 1, frozenset(kind[2].split(",")))


def _unescaped(word: str) -> str:
    """Blanks and backslashes are written there as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


def _below(group: PurePosixPath, top: PurePosixPath) -> PurePosixPath:
    """The group's folder below the mount; the mount itself where the group is not seen from inside the container."""
    if ".." in group.parts or not group.is_relative_to(top):
        return PurePosixPath(".")
    return group.relative_to(top)


def _limits(folder: Path) -> Iterator[float]:
    """What the files of a group say, if they say something."""
    yield from _ratio(*file_text(folder / "cpu.max").split())
    yield from _ratio(file_text(folder / "cpu.cfs_quota_us").strip(), file_text(folder / "cpu.cfs_period_us").strip())


def _ratio(quota: str = "", period: str = "", *_: str) -> Iterator[float]:
    """Both in microseconds; no limit is "max" in version 2, -1 in version 1."""
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:
        yield int(quota) / int(period)
