"""Which micro-architecture a processor is of, and which others are near it: what tuning records and costs are kept by.

Processors with the same instruction sets differ in how wide their units, ports and caches are, so that the fastest
schedule of one is not another's. A virtual machine may hide instruction sets, but not, as a rule, the numbers that name
the processor. The numbers are public facts, as in LLVM's Host.cpp and the Linux kernel's cpu tables (intel-family.h,
amd.c), and Arm's in each core's technical reference manual.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from effgen.machines.identity import cpuinfo

#: Where nobody knows or says which one it is.
UNKNOWN = ""

# The families of successors, oldest first: neighbours in a line are neighbours in design. LLVM's names stand behind
# ours where they differ.
_LINES: dict[str, tuple[str, ...]] = {
    "AMD": ("zen znver1", "zen2 znver2", "zen3 znver3", "zen4 znver4", "zen5 znver5"),
    "Intel": (
        "haswell", "broadwell", "skylake", "skylake-x skylake-avx512", "cascade-lake cascadelake",
        "cooper-lake cooperlake", "cannon-lake cannonlake", "ice-lake icelake-client", "ice-lake-server icelake-server",
        "rocket-lake rocketlake", "tiger-lake tigerlake", "alder-lake alderlake", "sapphire-rapids sapphirerapids",
        "emerald-rapids emeraldrapids", "granite-rapids graniterapids", "arrow-lake arrowlake",
    ),
    "Intel, small cores": ("gracemont", "sierra-forest sierraforest"),
    "Arm": (
        "cortex-a35", "cortex-a53", "cortex-a55", "cortex-a57", "cortex-a72", "cortex-a73", "cortex-a75", "cortex-a76",
        "neoverse-n1", "cortex-a77", "cortex-a78", "cortex-x1", "neoverse-v1", "cortex-a510", "cortex-a710",
        "cortex-x2", "neoverse-n2", "cortex-a715", "cortex-x3", "neoverse-v2", "cortex-a520", "cortex-a720",
        "cortex-x4", "neoverse-n3", "neoverse-v3",
    ),
}  # fmt: skip

# Intel's family 6, by model; 0x55 is told apart by its stepping, and performance cores of hybrid processors count.
_INTEL = {
    "haswell": (0x3C, 0x3F, 0x45, 0x46),
    "broadwell": (0x3D, 0x47, 0x4F, 0x56),
    "skylake": (0x4E, 0x5E, 0x8E, 0x9E, 0xA5, 0xA6),
    "cannon-lake": (0x66,),
    "ice-lake": (0x7D, 0x7E),
    "ice-lake-server": (0x6A, 0x6C),
    "rocket-lake": (0xA7,),
    "tiger-lake": (0x8C, 0x8D),
    "alder-lake": (0x97, 0x9A, 0xB7, 0xBA, 0xBF),
    "sapphire-rapids": (0x8F,),
    "emerald-rapids": (0xCF,),
    "granite-rapids": (0xAD, 0xAE),
    "arrow-lake": (0xC5, 0xC6, 0xBD),
    "gracemont": (0xBE,),
    "sierra-forest": (0xAF,),
}
_SKYLAKE_SERVER = 0x55

# AMD's, by family, as first and last model.
_AMD: dict[int, dict[str, tuple[tuple[int, int], ...]]] = {
    0x17: {"zen": ((0x00, 0x2F),), "zen2": ((0x30, 0xAF),)},
    0x19: {"zen3": ((0x00, 0x0F), (0x20, 0x5F)), "zen4": ((0x10, 0x1F), (0x60, 0x7F), (0xA0, 0xAF))},
    0x1A: {"zen5": ((0x00, 0x4F), (0x60, 0x7F))},
}

# Arm's own parts (implementer 0x41).
_ARM = {
    0xD03: "cortex-a53", 0xD04: "cortex-a35", 0xD05: "cortex-a55", 0xD07: "cortex-a57", 0xD08: "cortex-a72",
    0xD09: "cortex-a73", 0xD0A: "cortex-a75", 0xD0B: "cortex-a76", 0xD0C: "neoverse-n1", 0xD0D: "cortex-a77",
    0xD40: "neoverse-v1", 0xD41: "cortex-a78", 0xD44: "cortex-x1", 0xD46: "cortex-a510", 0xD47: "cortex-a710",
    0xD48: "cortex-x2", 0xD49: "neoverse-n2", 0xD4D: "cortex-a715", 0xD4E: "cortex-x3", 0xD4F: "neoverse-v2",
    0xD80: "cortex-a520", 0xD81: "cortex-a720", 0xD82: "cortex-x4", 0xD84: "neoverse-v3", 0xD8E: "neoverse-n3",
}  # fmt: skip
_ARM_LIMITED = 0x41


def _generations() -> Iterable[tuple[str, str, str, int]]:
    """Our name, LLVM's, the vendor, and the place in the vendor's line."""
    for vendor, line in _LINES.items():
        for generation, names in enumerate(line):
            ours, _, llvm = names.partition(" ")
            yield ours, llvm or ours, vendor, generation


_OF_LLVM = {llvm: ours for ours, llvm, _, _ in _generations()}
_PLACES = {ours: (vendor, generation) for ours, _, vendor, generation in _generations()}

#: Every name that there is.
MICROARCHITECTURES = tuple(_PLACES)


@cache
def this_microarchitecture() -> str:
    """That of the processor at hand; UNKNOWN for one that the tables do not have."""
    return microarchitecture_from_cpuinfo(cpuinfo())


def microarchitecture_from_cpuinfo(info: Mapping[str, str]) -> str:
    """Of the numbers in a paragraph of /proc/cpuinfo; UNKNOWN where they are missing, or not in the tables."""
    if info.get("vendor_id") == "GenuineIntel":
        return _intel(*_numbers(info, "cpu family", "model", "stepping"))
    if info.get("vendor_id") == "AuthenticAMD":
        return _amd(*_numbers(info, "cpu family", "model"))
    implementer, part = _numbers(info, "CPU implementer", "CPU part")
    return _ARM.get(part, UNKNOWN) if implementer == _ARM_LIMITED else UNKNOWN


def microarchitecture_from_llvm(mcpu: str) -> str:
    """The one that LLVM calls so; UNKNOWN where the name is of instruction sets only (`x86-64-v3`), or not known."""
    return _OF_LLVM.get(mcpu, UNKNOWN)


def nearest_first(names: Iterable[str], wanted: str) -> list[str]:
    """Micro-architectures by how near they are to `wanted`: itself; its vendor's others, the nearest generation first
    and of two the older; all others in the order given."""

    def farness(name: str) -> tuple[int, int, int]:
        if name == wanted:
            return (0, 0, 0)
        (vendor, generation), (its, own) = _PLACES.get(name, ("", 0)), _PLACES.get(wanted, (None, 0))
        return (1, abs(generation - own), generation) if vendor == its else (2, 0, 0)

    return sorted(names, key=farness)


def _numbers(info: Mapping[str, str], *keys: str) -> tuple[int, ...]:
    """-1 for what is missing or no number."""
    return tuple(_number(info.get(key, "")) for key in keys)


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return -1


def _intel(family: int, model: int, stepping: int) -> str:
    if family != 6:
        return UNKNOWN
    if model == _SKYLAKE_SERVER:
        return "skylake-x" if stepping < 5 else "cascade-lake" if stepping < 10 else "cooper-lake"
    return next((name for name, models in _INTEL.items() if model in models), UNKNOWN)


def _amd(family: int, model: int) -> str:
    spans_of = _AMD.get(family, {})
    return next((name for name, spans in spans_of.items() if any(low <= model <= high for low, high in spans)), UNKNOWN)
