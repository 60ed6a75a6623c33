"""What a CPU multiplies whole-number codes with: one instruction for the sums of several products a lane.

    vpdpbusd   acc[int32] += 4 products of uint8 and int8      AVX512-VNNI, AVX-VNNI; exact: four sums fit
    vpmaddwd   2 products of int16, added by another           AVX2; exact for what codes of 8 bits are widened to
    sdot       acc[int32] += 4 products of int8 and int8       Arm's dotprod

(Intel's vpmaddubsw multiplies codes of 8 bits on AVX2, and saturates sums of two to 16 bits: not exact.)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Instruction = Literal["vpdpbusd", "vpmaddwd", "sdot"]


@dataclass(frozen=True)
class Dot:
    """`depth`: how many codes of a row a product takes a lane; `codes`: of which type, beside int8 of the weights;
    `widened`: whether it takes them as int16."""

    instruction: Instruction
    depth: int
    codes: Literal["uint8", "int8"]
    widened: bool = False


_BY_FOURS, _BY_PAIRS = Dot("vpdpbusd", 4, "uint8"), Dot("vpmaddwd", 2, "uint8", widened=True)
_ARM = Dot("sdot", 4, "int8")


def dot_of(architecture: str, vector_bytes: int, features: Collection[str]) -> Dot | None:
    """That of a CPU with these features, spelled as in /proc/cpuinfo, for vectors of so many bytes; None: it has none
    that is exact."""
    if architecture == "aarch64":
        return _ARM if "asimddp" in features and vector_bytes == 16 else None
    if architecture != "x86_64":
        return None
    if vector_bytes == 64:
        return _BY_FOURS if "avx512_vnni" in features else None
    if vector_bytes == 32 and ("avx_vnni" in features or {"avx512_vnni", "avx512vl"} <= set(features)):
        return _BY_FOURS
    return _BY_PAIRS if vector_bytes == 32 and "avx2" in features else None
