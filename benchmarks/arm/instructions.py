"""What 64-bit ARM machine code consists of: instructions by class, innermost loops, and how often an emulator ran each.

Plain text in, numbers out: of `objdump -d`, and of qemu's log of translated and executed blocks.

A *vector instruction* names a NEON register by its lanes (`v0.4s`), or loads or stores one (`q0`; `d0`: half of one). A
load or store of a pair (`ldp q0, q1`) is one instruction, as the processor decodes it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from effgen.errors import BuildError

_FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+([0-9a-f]{8})\s+(\S+)\s*([^/;]*)")
_LOGGED = re.compile(r"^0x([0-9a-f]+):\s+([0-9a-f]{8})\s")
_EXECUTED = re.compile(r"^Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/")
_VECTOR = re.compile(r"\bv\d+\.")
_MOVED_VECTOR = re.compile(r"^\{?\s*(v\d+\.|[qd]\d+\b)")
_ON_STACK = re.compile(r"\[sp\b")
_TARGET = re.compile(r"\b([0-9a-f]+) <")
_MULTIPLY_ADDS = ("fmla", "fmls", "sdot")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a library. `address` is an offset from where the library is loaded."""

    address: int
    encoding: int
    function: str
    mnemonic: str
    operands: str

    @cached_property
    def moves(self) -> bool:
        """Whether it is a load or a store, of a vector or of something else."""
        return self.mnemonic.startswith(("ld", "st"))

    @cached_property
    def moves_vector(self) -> bool:
        """Whether it loads or stores a NEON register or half of one."""
        return self.moves and bool(_MOVED_VECTOR.match(self.operands))

    @cached_property
    def multiplies_vectors(self) -> bool:
        """Whether it is a multiply-add of whole vectors (of half ones, too), by a lane of one or not."""
        return self.mnemonic in _MULTIPLY_ADDS and bool(_VECTOR.search(self.operands))

    @cached_property
    def spills(self) -> bool:
        """Whether it stores a vector on the stack, or loads it from there."""
        return self.moves_vector and bool(_ON_STACK.search(self.operands))

    @cached_property
    def branches_to(self) -> int | None:
        """The address that a direct branch goes to; None for everything else, calls too."""
        if not (self.mnemonic in ("b", "cbz", "cbnz", "tbz", "tbnz") or self.mnemonic.startswith("b.")):
            return None
        found = _TARGET.search(self.operands)
        return int(found.group(1), 16) if found else None


@dataclass(frozen=True)
class Mix:
    """How many instructions of each class: of a piece of code, or of those that ran."""

    multiply_adds: int = 0
    arithmetic: int = 0
    loads: int = 0
    stores: int = 0
    scalar: int = 0

    @property
    def vector(self) -> int:
        """All vector instructions, loads and stores among them."""
        return self.multiply_adds + self.arithmetic + self.loads + self.stores

    @property
    def all(self) -> int:
        return self.vector + self.scalar

    @property
    def share(self) -> float:
        """Of multiply-adds among the vector instructions; 0 where there are none."""
        return self.multiply_adds / self.vector if self.vector else 0.0

    @property
    def share_of_arithmetic(self) -> float:
        """Of multiply-adds among the vector instructions that are no loads and stores; 0 where there are none."""
        count = self.multiply_adds + self.arithmetic
        return self.multiply_adds / count if count else 0.0


@dataclass(frozen=True)
class Loop:
    """A loop without another one inside, its instructions in the order of their addresses."""

    instructions: tuple[Instruction, ...]

    @property
    def mix(self) -> Mix:
        """Of one iteration that leaves nothing out."""
        return mix_of((instruction, 1) for instruction in self.instructions)

    @property
    def multiplies(self) -> bool:
        """Whether it mostly multiplies and adds: a reduction, and not a whole tile with its activation."""
        return self.mix.multiply_adds > self.mix.arithmetic

    @property
    def spills(self) -> int:
        """Instructions that store vectors on the stack, or load them from there: constants that found no register,
        too. (Arrays on the stack are reached by other registers than its pointer.)"""
        return sum(instruction.spills for instruction in self.instructions)


def mix_of(counted: Iterable[tuple[Instruction, int]]) -> Mix:
    """The mix of instructions that each count so often."""
    counts: Counter[str] = Counter()
    for instruction, count in counted:
        counts[_class_of(instruction)] += count
    return Mix(**counts)


def _class_of(instruction: Instruction) -> str:
    """The field of `Mix` that counts it."""
    if instruction.multiplies_vectors:
        return "multiply_adds"
    if instruction.moves_vector:
        return "loads" if instruction.mnemonic.startswith("ld") else "stores"
    return "arithmetic" if not instruction.moves and _VECTOR.search(instruction.operands) else "scalar"


def instructions_from_text(text: str) -> list[Instruction]:
    """What `objdump -d` printed of a library."""
    function, found = "", []
    for line in text.splitlines():
        if heading := _FUNCTION.match(line):
            function = heading.group(1)
        elif match := _INSTRUCTION.match(line):
            address, encoding, mnemonic, operands = match.groups()
            found.append(Instruction(int(address, 16), int(encoding, 16), function, mnemonic, operands.strip()))
    return found


def innermost_loops(instructions: Sequence[Instruction]) -> list[Loop]:
    """Every stretch that a branch backwards in the same function repeats and that holds no other such stretch."""
    at = {instruction.address: number for number, instruction in enumerate(instructions)}
    stretches = []
    for last, instruction in enumerate(instructions):
        first = at.get(instruction.branches_to) if instruction.branches_to is not None else None
        if first is not None and first <= last and instructions[first].function == instruction.function:
            stretches.append((first, last))
    inner = [
        one
        for one in stretches
        if not any(other != one and one[0] <= other[0] and other[1] <= one[1] for other in stretches)
    ]
    return [Loop(tuple(instructions[first : last + 1])) for first, last in inner]


def executions(log: Iterable[str], base: int, instructions: Sequence[Instruction]) -> dict[Instruction, int]:
    """How often each instruction ran, by the log of `qemu -d in_asm,exec,nochain`; the library was loaded at `base`.

    Raises BuildError where the log speaks of other code than `instructions`.
    """
    blocks, runs = _blocks_and_runs(log)
    known = {base + instruction.address: instruction for instruction in instructions}
    counts: Counter[Instruction] = Counter()
    for start, count in runs.items():
        found = [known.get(address) for address, _ in blocks.get(start, ())]
        encodings = [instruction.encoding for instruction in found if instruction is not None]
        if not found or encodings != [encoding for _, encoding in blocks[start]]:
            raise BuildError(f"the emulator's log: {start:#x} is not the library's; expected it at {base:#x}")
        counts.update({instruction: count for instruction in found if instruction is not None})
    return dict(counts)


def _blocks_and_runs(log: Iterable[str]) -> tuple[Mapping[int, list[tuple[int, int]]], Counter[int]]:
    """Each block by its first address, as (address, encoding) of its instructions, and how often it ran."""
    blocks: dict[int, list[tuple[int, int]]] = {}
    runs: Counter[int] = Counter()
    block: list[tuple[int, int]] = []
    for line in log:
        if match := _EXECUTED.match(line):
            runs[int(match.group(1), 16)] += 1
        elif match := _LOGGED.match(line):
            address, encoding = int(match.group(1), 16), int(match.group(2), 16)
            if not block:
                blocks[address] = block  # a block translated again replaces what it was
            block.append((address, encoding))
        else:
            block = []
    return blocks, runs
