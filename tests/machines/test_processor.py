"""How many threads this process gets: cores of its mask, what its control group may use. The trees are made here."""

import os
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from effgen.machines import processor
from effgen.machines.cgroup import cpu_quota
from effgen.machines.processor import default_threads, physical_cores, shares_of_cores, usable_cpus

_ONE = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755\n"
_CPU = "32 31 0:29 {top} {point} rw,relatime shared:10 - cgroup cgroup rw,cpuacct,cpu\n"
_MEMORY = "33 31 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
_TWO = "41 23 0:38 {top} {point} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def tree(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """A machine of which `cpu_quota` sees these files."""
    for name, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def second(root: Path, limits: dict[str, str], group: str = "/batch/job", top: str = "/", at: str = "/sys/fs") -> Path:
    """Control groups of version 2, with `cpu.max` of these folders below the mount."""
    files = {f"{at.replace(chr(92) + '040', ' ')[1:]}/{name}/cpu.max": text for name, text in limits.items()}
    return tree(root, f"0::{group}\n", _TWO.format(top=top, point=at), files)


def first(root: Path, limits: dict[str, tuple[int, int]], group: str = "/batch/job", top: str = "/") -> Path:
    """Control groups of version 1, with quota and period of these folders, beside an empty one of version 2."""
    at = "sys/fs/cgroup/cpu,cpuacct"
    files = {
        f"{at}/{name}/{file}": f"{value}\n"
        for name, values in limits.items()
        for file, value in zip(("cpu.cfs_quota_us", "cpu.cfs_period_us"), values, strict=True)
    }
    groups = f"8:memory:/elsewhere\n4:cpuacct,cpu:{group}\n1:name=systemd:/\n0::/\n"
    mounts = (
        _ONE + _CPU.format(top=top, point="/" + at) + _MEMORY + _TWO.format(top="/", point="/sys/fs/cgroup/unified")
    )
    return tree(root, groups, mounts, files)


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({"batch/job": "150000 100000\n"}, 1.5),
        ({"batch/job": "max 100000\n"}, None),
        ({"batch/job": "max 100000\n", "batch": "300000 100000\n"}, 3),
        ({"batch/job": "200000 50000\n", "batch": "100000 100000\n", ".": "800000 100000\n"}, 1),
        ({"elsewhere": "1000 100000\n"}, None),
        ({"batch/job": "nonsense\n"}, None),
        ({"batch/job": "100000 0\n"}, None),
        ({}, None),
    ],
)
def test_quota_of_version_2_is_the_tightest_on_the_way_up(
    tmp_path: Path, limits: dict[str, str], found: float | None
) -> None:
    assert cpu_quota(second(tmp_path, limits)) == found


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({"batch/job": (250000, 100000)}, 2.5),
        ({"batch/job": (-1, 100000)}, None),
        ({"batch/job": (-1, 100000), "batch": (50000, 100000)}, 0.5),
        ({"elsewhere": (1000, 100000)}, None),
        ({}, None),
    ],
)
def test_quota_of_version_1(tmp_path: Path, limits: dict[str, tuple[int, int]], found: float | None) -> None:
    assert cpu_quota(first(tmp_path, limits)) == found


def test_group_is_found_below_what_the_container_sees(tmp_path: Path) -> None:
    """Docker without a namespace mounts the container's group itself; with one, groups outside begin with `..`."""
    assert cpu_quota(second(tmp_path / "own", {".": "100000 100000"}, "/docker/a1", top="/docker/a1")) == 1
    assert cpu_quota(second(tmp_path / "part", {"in": "100000 100000"}, "/docker/a1/in", top="/docker/a1")) == 1
    assert cpu_quota(second(tmp_path / "other", {".": "100000 100000"}, "/docker/a1", top="/docker/b2")) == 1
    assert cpu_quota(second(tmp_path / "outside", {".": "100000 100000"}, "/../../a1")) == 1
    assert cpu_quota(first(tmp_path / "one", {".": (70000, 100000)}, "/docker/a1", top="/docker/a1")) == 0.7
    assert cpu_quota(second(tmp_path / "blank", {"batch/job": "40000 100000"}, at="/sys/my\\040groups")) == 0.4


def test_machine_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    assert cpu_quota(tree(tmp_path, "garbage\n::\n0::relative\n", "1 2\n - cgroup2\nx - cgroup2 a b\n", {})) is None


def cores(root: Path, siblings: dict[int, str], name: str = "core_cpus_list") -> None:
    for cpu, text in siblings.items():
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / name).write_text(text + "\n")


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_two_threads_of_a_core_count_once(tmp_path: Path, name: str) -> None:
    cores(tmp_path, {0: "0,4", 4: "0,4", 1: "1,5", 5: "1,5", 2: "2-3", 3: "2-3"}, name)
    assert len(physical_cores(range(6), tmp_path)) == 3
    assert len(physical_cores((0, 5), tmp_path)) == 2
    assert len(physical_cores((0, 4), tmp_path)) == 1


def test_cpu_whose_topology_is_not_told_is_a_core(tmp_path: Path) -> None:
    assert len(physical_cores((0, 1, 7), tmp_path)) == 3


def test_default_is_the_cores_of_the_mask_within_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "usable_cpus", lambda: (0, 1, 2, 4, 5, 6))
    cores(tmp_path, {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)})
    assert default_threads(tmp_path) == 3
    for quota, threads in ((500_000, 3), (290_000, 2), (100_000, 1), (10_000, 1)):
        assert default_threads(second(tmp_path, {"batch/job": f"{quota} 100000"})) == threads


def test_shares_are_whole_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "usable_cpus", lambda: (0, 1, 2, 4, 5, 6, 7))
    cores(tmp_path, {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)})
    assert shares_of_cores(4, tmp_path) == [(0, 4), (1, 5), (2, 6), (7,)]
    assert shares_of_cores(2, tmp_path) == [(0, 1, 4, 5), (2, 6, 7)]
    assert shares_of_cores(3, tmp_path) == [(0, 4), (1, 5), (2, 6)]
    assert shares_of_cores(1, tmp_path) == [(0, 1, 2, 4, 5, 6, 7)]
    limited = second(tmp_path, {"batch/job": "290000 100000"})
    assert shares_of_cores(2, limited) == [(0, 4), (1, 5)]


def test_this_process_follows_its_mask() -> None:
    before = os.sched_getaffinity(0)
    assert 1 <= default_threads() <= len(usable_cpus())
    try:
        os.sched_setaffinity(0, {min(before)})
        assert default_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


#: Prints what the C library and `effgen-run` take for the number of threads, with a tree of the test's own.
_C_PROGRAM = """
#include <stdio.h>
#include "cpus.h"
int main(void) { return printf("%d\\n", default_threads()) < 0; }
"""


def test_the_c_library_counts_as_python_does(tmp_path: Path) -> None:
    pool = Path(str(resources.files("effgen.native_sources"))) / "pool"
    (tmp_path / "main.c").write_text(_C_PROGRAM)
    command = ["cc", "-std=c11", f"-I{pool}", f'-DCPUS_ROOT="{tmp_path}"', tmp_path / "main.c", pool / "cpus.c"]
    subprocess.run([*command, "-o", tmp_path / "count"], check=True)

    def in_c() -> int:
        return int(subprocess.run([tmp_path / "count"], capture_output=True, check=True).stdout)

    assert in_c() == default_threads(tmp_path) == len(usable_cpus())  # nothing tells of cores or groups
    for quota in ("max", "50000", "150000", "200000", "300000"):
        root = second(tmp_path, {"batch/job": f"{quota} 100000"}, at="/sys/fs/cgroup")
        assert in_c() == default_threads(root), quota
    cores(tmp_path, dict.fromkeys(usable_cpus(), ",".join(map(str, usable_cpus()))))
    assert in_c() == default_threads(tmp_path) == 1
