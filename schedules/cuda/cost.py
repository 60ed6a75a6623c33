"""How long a launch may take: what the rules' defaults are chosen by, before anything is measured."""

from __future__ import annotations

from effgen.kernels import tiles
from effgen.kernels.cuda.builder import WARP
from effgen.machines.machine import Gpu

#: Float32 multiply-adds, or other instructions of a thread, that a multiprocessor starts in a cycle.
UNITS = 128
#: Cycles from asking for something in memory to having it.
LATENCY = 400
#: Cycles of starting and ending a kernel inside a graph.
LAUNCH = 2_000
#: Registers of a multiprocessor.
_REGISTERS = 65_536
#: Threads and blocks that a multiprocessor holds at a time, at most, on every GPU since sm_75's successors.
_RESIDENT_THREADS, _RESIDENT_BLOCKS = 1536, 16


def launch_cycles(gpu: Gpu, blocks: int, threads: int, work: float, waits: float, registers: int = 64) -> float:
    """Estimated cycles of a kernel whose threads take `work` instructions each and wait `waits` cycles for memory.

    The blocks of one multiprocessor share its units, and hide each other's waiting.
    """
    threads = tiles.blocks(threads, WARP) * WARP
    resident = max(1, min(_RESIDENT_BLOCKS, _RESIDENT_THREADS // threads, _REGISTERS // (threads * registers)))
    busiest = tiles.blocks(blocks, gpu.multiprocessors)
    turns = tiles.blocks(busiest, resident)
    together = min(busiest, resident)
    one_turn = max(together * threads * work / UNITS, work + waits)
    return LAUNCH + turns * one_turn
