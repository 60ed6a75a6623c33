"""Networks as lists of kernel calls over four arrays: where things lie, and that the functions keep to it."""

import resource
from pathlib import Path

import numpy as np
import pytest
import tvm
from compiling import builder, conv, program_of, random_weights
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as tir

import effgen
from effgen.compiler.program import IMAGE, LOGITS, WEIGHTS, WORKSPACE, Place, Program, Step
from effgen.graph import Graph
from effgen.judge.case import golden_pair


def two_branches() -> Graph:
    b = builder(channels=8, size=9)
    x = conv(b, "x", 24, "a")
    y = conv(b, x, 24, "b", kernel=3, group=24)
    return b.finish(b.add("Add", [conv(b, y, 24, "c"), x], "sum"))


@pytest.fixture(scope="module")
def program() -> Program:
    graph = two_branches()
    return program_of(graph, random_weights(graph))


def test_places_are_aligned_and_inside(program: Program) -> None:
    places = [place for step in program.steps for place in step.places]
    assert {place.array for place in places} == {IMAGE, LOGITS, WEIGHTS, WORKSPACE}
    assert all(place.offset % 64 == 0 and place.offset < program.sizes[place.array] for place in places)


def test_weights_lie_in_the_order_of_their_use(program: Program) -> None:
    used = [place.offset for step in program.steps for place in step.places if place.array == WEIGHTS]
    first_uses = list(dict.fromkeys(used))
    assert first_uses == sorted(first_uses) and first_uses[0] == 0


def test_only_the_last_step_writes_logits(program: Program) -> None:
    assert [step.places[-1].array for step in program.steps] == [WORKSPACE] * (len(program.steps) - 1) + [LOGITS]


def test_a_network_without_weights_has_arrays_all_the_same() -> None:
    b = builder()
    made = program_of(b.finish(b.add("Relu", ["x"], "y")), {})
    assert made.weights.size > 0 and made.workspace_bytes > 0


def test_arrays_on_the_heap_are_given_back() -> None:
    """In a private function nobody but our lowering sees to it; each call would keep 1 MiB."""
    from effgen.compiler.entry import module_from_program
    from effgen.kernels import lowering

    floats, calls = 1 << 18, 100
    size = 4 * floats
    program = Program((Step("reverse", (Place(IMAGE), Place(LOGITS))),), np.zeros(64, np.uint8), size, size, 64)
    module = module_from_program(program, tvm.IRModule({"reverse": _reverse(floats)}))
    library = tvm.compile(module, tvm.target.Target("llvm"), tir_pipeline=lowering.PIPELINE).mod
    image = np.random.default_rng(0).standard_normal(floats, dtype=np.float32)
    rest = np.zeros(16, np.float32)
    arrays = [tvm.runtime.tensor(array) for array in (image, image * np.nan, rest, rest)]
    assert library["run"](*arrays) == 0
    np.testing.assert_array_equal(arrays[1].numpy(), image[::-1])
    before = _resident_bytes()
    assert [library["run"](*arrays) for _ in range(calls)] == [0] * calls
    assert _resident_bytes() - before < calls * 4 * floats / 10


def _reverse(floats: int) -> tvm.tirx.PrimFunc:
    """out[i] = data[-1 - i], by way of an array in the function's outermost scope."""
    with IRBuilder() as made, tir.prim_func(s_tir=True):
        tir.func_name("reverse")
        tir.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        data, out = (tir.arg(name, tir.buffer((floats,), "float32", layout=None)) for name in ("data", "out"))
        kept = tir.alloc_buffer((floats,), "float32", scope="global", layout=None)
        with tir.serial(0, floats) as i:
            tir.buffer_store(kept, data[floats - 1 - i], [i])
        with tir.serial(0, floats) as i:
            tir.buffer_store(out, kept[i], [i])
    return made.get()


def test_tracing_changes_nothing(tiny_bundle: Path) -> None:
    model = effgen.load(tiny_bundle, threads=1)
    image, _ = golden_pair(tiny_bundle)
    expected = model(image)
    readings = model.trace(image)
    assert readings.shape == (len(model.manifest.steps) + 1,) and (np.diff(readings) >= 0).all()
    np.testing.assert_array_equal(model(image), expected)


def test_a_step_that_fails_is_named(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = effgen.load(tiny_bundle, threads=1)
    monkeypatch.setattr(model, "_run", lambda *arrays: 2)
    with pytest.raises(effgen.errors.BundleError, match=f"out of memory in {model.manifest.steps[1]}$"):
        model(golden_pair(tiny_bundle)[0])


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
