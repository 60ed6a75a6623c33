"""What this machine costs the schedule rules: `effgen calibrate`.

The rules count in multiply-adds: one unit is the time from one vector's multiply-add to the next where many are at
work, a cycle of the core's clock on Zen 4 with vectors of 64 bytes, half of one on Zen 3 with 32. A probe for each cost
is compiled by TVM and run on one thread, all probes in turn, again and again; of each the lower quartile counts,
since other work only makes a probe slower. Only what a probe shows by itself is measured: the others, which stand for
what hides behind what in a whole kernel, or for the judgement of whoever tuned the rules, keep the inherited value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effgen.kernels import tiles
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.packing import kernel_arguments
from effgen.machines.calibrated import PLAUSIBLE, CalibratedCosts, implausible
from effgen.machines.host import describe_host, watch_other_work
from effgen.machines.identity import device_name
from effgen.machines.machine import Cpu
from effgen.machines.target import this_cpu
from effgen.machines.target_file import Costs
from effgen.measure import probes
from effgen.results.reports import DISTURBING_CPUS
from effgen.runtime.library import prepare_tvm
from effgen.words import OnPhase

#: Every probe runs so often, for so many seconds at a time.
ROUNDS, RUN_S = 60, 1.5e-3

#: Cycles of the clock's probe, steps of a multiply-add chain.
_CLOCK_CYCLES, _STEPS = 1_000_000, 20_000

#: Costs of a vector, each of which a probe of the same name shows.
_VECTORS = ("exponential_apart", "store", "copy_first", "copy_second", "copy_beyond", "gate")

#: Bytes that a probe goes over in one call at least.
_CALL_BYTES = 1 << 20

#: Vectors of the activations' probes: 8 KiB of 64 bytes each, inside a first-level cache.
_ACTIVATED = 128

#: What `operand` is looked for among.
_OPERANDS = [n / 100 for n in range(101)]

#: Of a matrix product's probe: steps of the reduction, and tiles one below the other.
_DEPTH, _TILES = 128, 32


@dataclass(frozen=True)
class Probe:
    """A function of the probes' library: its name, its arguments, and how many of what is counted (vectors,
    multiply-adds, cycles) one call does."""

    name: str
    function: Any = field(repr=False)
    shapes: tuple[tuple[int, ...], ...]
    count: int
    dtype: str = "float32"


@dataclass(frozen=True)
class TileTime:
    """A register tile of a matrix product, rows by vectors: units of one step of its reduction."""

    rows: int
    vectors: int
    step: float


@dataclass(frozen=True)
class Calibration:
    """What was measured, and what stays as it is: `measured` holds the costs that are plausible, `rejected` those that
    are not, `inherited` the whole table before, `table` after. `found` is what is kept of it."""

    found: CalibratedCosts
    rejected: Mapping[str, float]
    inherited: Costs
    tiles: tuple[TileTime, ...]
    seconds: float

    @property
    def measured(self) -> Mapping[str, float]:
        return self.found.costs

    @property
    def table(self) -> Costs:
        return self.found.over(self.inherited)

    @property
    def disturbed(self) -> bool:
        """Whether other work was enough to doubt the figures."""
        return self.found.other_cpus is not None and self.found.other_cpus > DISTURBING_CPUS


def calibrate(on_phase: OnPhase = lambda phase: None, on_note: OnPhase = lambda note: None) -> Calibration:
    """Measure the costs of this machine, on one thread: some 20 seconds on a quiet one. Stores nothing."""
    start = time.perf_counter()
    on_phase("load TVM, look at the machine")
    prepare_tvm()
    machine = this_cpu(calibrated=False).with_threads(1)
    found = _probes(machine, describe_host(0.0).caches)
    on_phase(f"compile {len(found)} probes")
    runs = _runs(found, machine)
    on_phase(f"run them in turn, {ROUNDS} rounds")
    with watch_other_work() as other:
        seconds = quartiles(_rounds(runs, on_note))
    per_call = {probe.name: seconds[probe.name] / probe.count for probe in found}
    return calibration_from_times(per_call, machine, other.cpus, time.perf_counter() - start)


def quartiles(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The lower quartile of each probe's seconds."""
    return {name: float(np.percentile([each[name] for each in rounds], 25)) for name in rounds[0]}


def calibration_from_times(
    times: Mapping[str, float], machine: Cpu, other_cpus: float | None, seconds: float
) -> Calibration:
    """The costs behind `times`: seconds of one cycle, multiply-add, vector or step of a tile, by the probes' names."""
    unit, clock = times["multiply_add"], times["clock"]
    found_tiles = tuple(_tile_times(times, machine, unit))
    costs = costs_from_times(times, machine, found_tiles)
    rejected = {name: costs[name] for name in implausible(costs)}
    kept = {name: float(f"{value:.3g}") for name, value in costs.items() if name not in rejected}
    facts = CalibratedCosts(
        cpu=device_name(),
        microarchitecture=machine.microarchitecture,
        vector_bytes=machine.vector_bytes,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        clock_ghz=1e-9 / clock,
        multiply_add_cycles=unit / clock,
        other_cpus=other_cpus,
        costs=kept,
    )
    return Calibration(facts, rejected, machine.costs, found_tiles, seconds)


def costs_from_times(times: Mapping[str, float], machine: Cpu, found_tiles: Sequence[TileTime]) -> dict[str, float]:
    """Everything that is measured, plausible or not, in the table's units."""
    unit = times["multiply_add"]
    costs = {name: times[name] / unit for name in _VECTORS}
    half = times["half_product"] / unit
    # Results come after the latency, and the narrowest vectors start the fastest.
    costs["chain"] = float(round(times["latency"] / unit / min(1.0, half)))
    costs |= {"half_product": half, "half_store": times["half_exponential"] / times["exponential_apart"]}
    costs["stream_bytes"] = machine.vector_bytes * unit / times["stream"]
    costs["copy_second"] = max(costs["copy_second"], costs["copy_first"])
    costs["copy_beyond"] = max(costs["copy_beyond"], costs["copy_second"])
    costs["operand"] = operand_from_tiles(found_tiles, costs["chain"], machine.costs.tile_loads)
    assert costs.keys() == PLAUSIBLE.keys()
    return costs


def operand_from_tiles(found: Sequence[TileTime], chain: float, tile_loads: float) -> float:
    """The `operand`, of a grid, with which the rules' formula (`tiles.tile_cycles`) comes nearest to the tiles: the
    least sum of relative errors, which tiles that LLVM compiles badly do not lead astray."""

    def error(operand: float) -> float:
        return sum(abs(_step(each, chain, operand, tile_loads) / each.step - 1) for each in found)

    return min(_OPERANDS, key=error)


def _step(tile: TileTime, chain: float, operand: float, tile_loads: float) -> float:
    """One step of a tile's reduction by the rules' formula."""
    products, loads = tile.rows * tile.vectors, tile.rows + tile.vectors
    return max(products, chain) + operand * loads + max(0.0, tile_loads * loads - products)


def _tile_times(times: Mapping[str, float], machine: Cpu, unit: float) -> Iterator[TileTime]:
    for rows, vectors in probed_tiles(machine):
        yield TileTime(rows, vectors, times[_tile_name(rows, vectors)] / unit)


def probed_tiles(machine: Cpu) -> list[tuple[int, int]]:
    """Register tiles, rows by vectors: of each width the highest that fits, and those of one and two thirds of it."""
    found = []
    for vectors in range(1, 5):
        rows = [n for n in range(1, machine.vector_registers) if tiles.fits_registers(n, vectors, machine)]
        found += [(n, vectors) for n in sorted({max(1, max(rows) * part // 3) for part in (1, 2, 3)})] if rows else []
    return found


def _tile_name(rows: int, vectors: int) -> str:
    return f"tile_{rows}x{vectors}"


def _probes(machine: Cpu, caches: Mapping[str, int]) -> list[Probe]:
    """One for each name that `costs_from_times` asks for."""
    lanes, half = machine.lanes, max(1, machine.lanes // 2)
    # As many chains as there are registers, less the two constants and some air for the compiler.
    chains = machine.vector_registers - 4
    clock = probes.clock_cycles(_CLOCK_CYCLES)
    found = [Probe("clock", probes.clock_kernel("clock", _CLOCK_CYCLES), ((3,),), clock, "int32")]
    for name, count, width in (("multiply_add", chains, lanes), ("half_product", chains, half), ("latency", 1, lanes)):
        function = probes.multiply_add_kernel(name, 1, count, width, _STEPS)
        found.append(Probe(name, function, ((1, count, width),), count * _STEPS))
    for name, activation, width in (
        ("exponential_apart", "silu", lanes),
        ("half_exponential", "silu", half),
        ("store", "relu", lanes),
    ):
        passes = _CALL_BYTES // (_ACTIVATED * 4 * width)
        function = probes.activation_kernel(name, activation, _ACTIVATED, width, passes)
        found.append(Probe(name, function, (probes.activation_shape(_ACTIVATED, width),), passes * _ACTIVATED))
    far = _far_bytes(machine, caches)
    for name, size in (
        ("copy_first", machine.l1_bytes // 2),
        ("copy_second", machine.l2_bytes // 8),
        ("copy_beyond", min(far, 2 * machine.l2_bytes)),
    ):
        found.append(_buffer_probe(name, probes.copy_kernel, machine, size))
    found.append(_buffer_probe("stream", probes.read_kernel, machine, far))
    found.append(_gate_probe(machine))
    return found + [_tile_probe(rows, vectors, machine) for rows, vectors in probed_tiles(machine)]


def _far_bytes(machine: Cpu, caches: Mapping[str, int]) -> int:
    """Of a buffer that leaves a core's own caches, and stays in the shared one where there is one."""
    shared = caches.get("L3", 0) // 4
    return max(4 * machine.l2_bytes, min(shared, 16 * machine.l2_bytes))


def _buffer_probe(name: str, kernel: Callable[[str, tuple[int, ...], int], Any], machine: Cpu, size: int) -> Probe:
    """A kernel that goes over a buffer of `size` bytes."""
    steps = max(1, size // (probes.STREAMS * machine.vector_bytes))
    shape = (1, steps, probes.STREAMS, machine.lanes)
    passes = max(1, _CALL_BYTES // size)
    function = kernel(name, shape, passes)
    return Probe(name, function, (shape, (1, probes.STREAMS, machine.lanes)), passes * steps * probes.STREAMS)


def _gate_probe(machine: Cpu) -> Probe:
    """A panel of weights two vectors wide in a quarter of the second level, scaled into another one as large."""
    vectors = 2
    steps = machine.l2_bytes // 4 // (vectors * machine.vector_bytes)
    passes = max(1, _CALL_BYTES // (steps * vectors * machine.vector_bytes))
    shape = (steps, vectors, machine.lanes)
    function = probes.scaling_kernel("gate", steps, vectors, machine.lanes, passes)
    return Probe("gate", function, (shape, (steps,), shape), passes * steps * vectors)


def _tile_probe(rows: int, vectors: int, machine: Cpu) -> Probe:
    """effgen's own matrix product of one column of such tiles, as a dense layer on one core; it counts steps."""
    from effgen.kernels.matmul import MatmulPlan, matmul_primfunc

    layer = Conv2d(rows * _TILES, 1, 1, _DEPTH, vectors * machine.lanes)
    plan = MatmulPlan(rows, vectors, chunks=1, bands=1, parallel=False)
    name = _tile_name(rows, vectors)
    function = matmul_primfunc(layer, machine, plan).with_attr("global_symbol", name)
    shapes = tuple(argument.shape for argument in kernel_arguments(layer, machine))
    return Probe(name, function, shapes, _TILES * _DEPTH)


@dataclass(frozen=True)
class Run:
    """A compiled probe: seconds of one call, over as many calls in a row as fill its time."""

    name: str
    seconds: Callable[[], float]


def _runs(found: Sequence[Probe], machine: Cpu) -> list[Run]:
    import tvm

    from effgen.kernels.lowering import PIPELINE, tvm_target

    library = tvm.compile(
        tvm.IRModule({probe.name: probe.function for probe in found}), tvm_target(machine), tir_pipeline=PIPELINE
    ).mod
    return [Run(probe.name, _timed(library, probe)) for probe in found]


def _timed(library: Any, probe: Probe) -> Callable[[], float]:
    import tvm

    arrays = [tvm.runtime.tensor(_values(shape, probe.dtype)) for shape in probe.shapes]
    once = library.time_evaluator(probe.name, tvm.cpu(), number=1, repeat=3)(*arrays).results
    number = max(1, int(RUN_S / max(min(once), 1e-9)))
    evaluate = library.time_evaluator(probe.name, tvm.cpu(), number=number, repeat=1)
    return lambda: float(evaluate(*arrays).results[0])


def _values(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Any whole numbers; or small ones, which sums and products leave neither tiny nor infinite."""
    random = np.random.default_rng(prod(shape))
    if dtype == "int32":
        return random.integers(1, 2**31, shape, np.int32)
    return random.uniform(0.1, 1.0, shape).astype(dtype)


def _rounds(runs: Sequence[Run], on_note: OnPhase) -> list[dict[str, float]]:
    found = []
    for index in range(ROUNDS):
        on_note(f"round {index + 1} of {ROUNDS}")
        found.append({run.name: run.seconds() for run in runs})
    return found
