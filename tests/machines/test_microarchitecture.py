"""Which micro-architecture a processor is of, and which are near."""

import pytest

from effgen.machines.microarchitecture import (
    MICROARCHITECTURES,
    UNKNOWN,
    microarchitecture_from_cpuinfo,
    microarchitecture_from_llvm,
    nearest_first,
    this_microarchitecture,
)


def x86(vendor: str, family: int, model: int, stepping: int = 1) -> dict[str, str]:
    """A paragraph of /proc/cpuinfo, as far as it counts."""
    return {"vendor_id": vendor, "cpu family": f"{family}", "model": f"{model}", "stepping": f"{stepping}"}


def arm(implementer: str, part: str) -> dict[str, str]:
    return {"CPU implementer": implementer, "CPU part": part}


@pytest.mark.parametrize(
    ("info", "name"),
    [
        (x86("AuthenticAMD", 23, 1), "zen"),  # EPYC 7001
        (x86("AuthenticAMD", 23, 0x31), "zen2"),  # EPYC 7002
        (x86("AuthenticAMD", 25, 1), "zen3"),  # EPYC 7003
        (x86("AuthenticAMD", 25, 0x50), "zen3"),  # Ryzen 5000 with graphics
        (x86("AuthenticAMD", 25, 0x11), "zen4"),  # EPYC 9004
        (x86("AuthenticAMD", 25, 0xA0), "zen4"),  # EPYC 97x4
        (x86("AuthenticAMD", 26, 2), "zen5"),  # EPYC 9005
        (x86("AuthenticAMD", 26, 0x50), UNKNOWN),  # of what comes after
        (x86("AuthenticAMD", 21, 0x60), UNKNOWN),
        (x86("GenuineIntel", 6, 0x3F), "haswell"),
        (x86("GenuineIntel", 6, 0x4F), "broadwell"),
        (x86("GenuineIntel", 6, 0x55, 4), "skylake-x"),
        (x86("GenuineIntel", 6, 0x55, 7), "cascade-lake"),
        (x86("GenuineIntel", 6, 0x55, 11), "cooper-lake"),
        (x86("GenuineIntel", 6, 0x6A), "ice-lake-server"),
        (x86("GenuineIntel", 6, 0x8F), "sapphire-rapids"),
        (x86("GenuineIntel", 6, 0xCF), "emerald-rapids"),
        (x86("GenuineIntel", 6, 0xAD), "granite-rapids"),
        (x86("GenuineIntel", 6, 0x2D), UNKNOWN),  # without AVX2
        (x86("GenuineIntel", 15, 0x8F), UNKNOWN),
        (x86("AnotherVendor", 25, 1), UNKNOWN),
        ({"vendor_id": "AuthenticAMD", "cpu family": "?"}, UNKNOWN),
        (arm("0x41", "0xd08"), "cortex-a72"),
        (arm("0x41", "0xd40"), "neoverse-v1"),
        (arm("0x61", "0xd08"), UNKNOWN),  # another implementer's part
        ({}, UNKNOWN),
    ],
)
def test_numbers_of_known_processors(info: dict[str, str], name: str) -> None:
    assert microarchitecture_from_cpuinfo(info) == name
    assert name == UNKNOWN or name in MICROARCHITECTURES


def test_llvms_names() -> None:
    assert [microarchitecture_from_llvm(name) for name in ("znver4", "sapphirerapids", "cortex-a76", "skylake")] == [
        "zen4",
        "sapphire-rapids",
        "cortex-a76",
        "skylake",
    ]
    assert {microarchitecture_from_llvm(name) for name in ("x86-64-v4", "generic", "zen4", "")} == {UNKNOWN}


def test_nearest_first() -> None:
    names = ["sapphire-rapids", "zen3", "zen2", "zen4", "haswell", "unknown"]
    assert nearest_first(names, "zen4") == ["zen4", "zen3", "zen2", "sapphire-rapids", "haswell", "unknown"]
    # Of two that are equally near the older one.
    assert nearest_first(["zen4", "zen2", "haswell"], "zen3") == ["zen2", "zen4", "haswell"]
    assert nearest_first(names, "emerald-rapids")[:2] == ["sapphire-rapids", "haswell"]
    assert nearest_first(names, UNKNOWN) == nearest_first(names, "none") == names


def test_this_computers_is_a_name_or_unknown() -> None:
    assert this_microarchitecture() in (*MICROARCHITECTURES, UNKNOWN)
