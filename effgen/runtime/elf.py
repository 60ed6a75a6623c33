"""Whether a shared library is whole, by its own headers: the dynamic loader maps what they say, and a page that the
file does not have ends the process (SIGBUS) when it is touched."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

#: `e_machine` of an ELF file, by the processor family as `uname -m` says it.
MACHINES = {"x86_64": 62, "aarch64": 183}

#: An ELF file of 64 bits, little-endian: the first bytes.
_BEGINNING = b"\x7fELF\x02\x01"

#: e_type, e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum, e_shentsize,
#: e_shnum, e_shstrndx (elf(5)).
_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
#: p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align.
_SEGMENT = struct.Struct("<IIQQQQQQ")
#: sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size, sh_link, sh_info, sh_addralign, sh_entsize.
_SECTION = struct.Struct("<IIQQQQIIQQ")

_SHARED, _LOADED, _DYNAMIC, _NO_BITS = 3, 1, 2, 8


def why_not_loadable(path: Path, architecture: str) -> str | None:
    """Why the file is no whole shared library for that processor family, in a few words; None where it is one.

    Raises OSError where it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_HEADER.size)
        if not head.startswith(_BEGINNING):
            return "no shared library of 64 bits"
        if len(head) < _HEADER.size:
            return "truncated"
        header = _Header(*_HEADER.unpack(head))
        if header.kind != _SHARED or header.segment_bytes != _SEGMENT.size:
            return "no shared library"
        if header.machine != MACHINES.get(architecture):
            return f"is for {architecture_of_machine(header.machine) or 'another processor'}, not for {architecture}"
        # Sections come last: most of what cuts a file short is seen by where their table ends.
        if header.section_bytes not in (0, _SECTION.size):
            return "odd section headers"
        if _end(header.segments_at, header.segments * _SEGMENT.size) > size:
            return "truncated"
        if _end(header.sections_at, header.sections * _SECTION.size) > size:
            return "truncated"
        file.seek(header.segments_at)
        segments = file.read(header.segments * _SEGMENT.size)
        file.seek(header.sections_at)
        sections = file.read(header.sections * _SECTION.size)
    return _odd_segments(segments, size) or _odd_sections(sections, size)


@dataclass(frozen=True)
class _Header:
    """The ELF header; `segments_at`, `sections_at`: where their tables begin."""

    kind: int
    machine: int
    version: int
    entry: int
    segments_at: int
    sections_at: int
    flags: int
    bytes: int
    segment_bytes: int
    segments: int
    section_bytes: int
    sections: int
    names: int


def _odd_segments(table: bytes, size: int) -> str | None:
    kinds = set()
    for kind, _, offset, _, _, in_file, in_memory, _ in _SEGMENT.iter_unpack(table):
        kinds.add(kind)
        if kind in (_LOADED, _DYNAMIC) and (_end(offset, in_file) > size or in_file > in_memory):
            return "truncated"
    return None if {_LOADED, _DYNAMIC} <= kinds else "no shared library that can be loaded"


def _odd_sections(table: bytes, size: int) -> str | None:
    for _, kind, _, _, offset, length, *_ in _SECTION.iter_unpack(table):
        if kind != _NO_BITS and _end(offset, length) > size:
            return "truncated"
    return None


def _end(start: int, length: int) -> int:
    return start + length if length else 0


def architecture_of_machine(machine: int) -> str | None:
    """The processor family of an `e_machine`, None for an unknown one."""
    return next((name for name, number in MACHINES.items() if number == machine), None)
