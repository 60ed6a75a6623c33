"""How much of a kernel is computed at once in vector registers. Plain arithmetic on shapes and a machine.

A tile that does not divide its extent is not padded: the last tile is moved back until it fits, and what
it shares with its neighbour is computed twice, with the same result (see `effgen.kernels.matmul`).
"""

from __future__ import annotations

from collections.abc import Sequence

from effgen.kernels.workload import Activation, is_exponential
from effgen.machines.machine import Cpu
from effgen.machines.target_file import Costs

# Threads get 8 MiB of stack on Linux, but a caller of the library may have made its own with less.
_STACK_BYTES = 256 * 1024


def blocks(extent: int, tile: int) -> int:
    """Tiles needed to cover `extent`."""
    return -(-extent // tile)


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def fits_stack(size: int, machine: Cpu) -> bool:
    """Whether an array of so many bytes may live on a thread's stack: a share of the cache, and never a lot."""
    return size <= min(machine.l2_bytes // 4, _STACK_BYTES)


def largest_divisor(number: int, most: int) -> int:
    return max(d for d in divisors(number) if d <= most)


def largest_step(depth: int, most: int, at_once: int) -> int:
    """The largest step up to `most`, at least `at_once` and a multiple of it, that divides a reduction of `depth`."""
    return at_once * largest_divisor(depth // at_once, max(1, most // at_once))


def fits_registers(rows: int, vectors: int, machine: Cpu, depth: int = 1) -> bool:
    """Whether a register tile of `rows` positions times `vectors` vectors of output channels leaves room to work.

    Beside the accumulators: a vector of weights each and one register for the broadcast input; LLVM begins to
    spill when fewer than four are left. Where inputs are loaded `depth` at a time (more than 1), or there are no
    operands in memory (NEON), each row has a register of them, and LLVM loads the weights of the next step early.
    """
    beside = max(vectors + 1, 4) if depth == 1 and not machine.multiplies_by_lane else rows + max(vectors, 4)
    return rows * vectors + beside <= machine.vector_registers


def tile_cycles(
    rows: int,
    vectors: int,
    depth: int,
    activation: Activation,
    costs: Costs,
    half: bool = False,
    at_once: int = 1,
    near: bool = True,
) -> float:
    """Estimated cycles of a register tile of a matrix product: multiply-adds (cheaper where vectors are `half` a
    register wide), what does not hide behind them, the epilogue. `at_once`: inputs of a row that one load brings;
    `near`: whether the weights stay in the first-level cache."""
    arithmetic = rows * vectors
    # Where `at_once` is above 1 (NEON) there are no operands in memory: each load is an instruction of its own.
    load = costs.operand if at_once == 1 else costs.load
    product, store = (costs.half_product, costs.half_store) if half else (1.0, 1.0)
    fetched = 0.0 if near else costs.tile_second * vectors
    waiting = max(0.0, costs.tile_loads * (rows / at_once + vectors) - arithmetic, fetched - arithmetic)
    step = max(arithmetic, costs.chain) * product + load * (rows / at_once + vectors) + waiting
    return depth * step + activation_cycles(activation, costs) * arithmetic * store + 20


def activation_cycles(activation: Activation, costs: Costs) -> float:
    """Estimated cycles of storing one vector after this activation."""
    return costs.exponential if is_exponential(activation) else costs.store


def level_price(size: float, levels: Sequence[int], prices: Sequence[float]) -> float:
    """The price of data of `size` bytes: that of the first of `levels` (bytes) which holds it, else the last one."""
    return next((price for level, price in zip(levels, prices, strict=False) if size <= level), prices[-1])


def copy_cycles(size: int, machine: Cpu) -> float:
    """Estimated cycles of writing `size` bytes and reading them back, dearer where they leave a cache level."""
    costs = machine.costs
    prices = (costs.copy_first, costs.copy_second, costs.copy_beyond)
    return 100 + level_price(size, (machine.l1_bytes, machine.l2_bytes // 4), prices) * size / machine.vector_bytes


def turns(tasks: int, machine: Cpu) -> int:
    """Tasks that the busiest core gets."""
    return blocks(tasks, machine.cores)
