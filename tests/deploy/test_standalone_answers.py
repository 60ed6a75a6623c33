"""What the standalone library computes through its header's functions: the bundle's own answers."""

import ctypes
import os
import re
from pathlib import Path

import numpy as np
import pytest
from networks import noise
from standalone_bundles import (
    Made,
    answer,
    driver_objects,
    made,
    output_of,
)

from effgen.deploy.standalone.build import sources
from effgen.judge.bench import LeftOut, Plan, bench_bundle
from effgen.judge.case import relative_l2
from effgen.judge.verify import verify_bundle
from effgen.machines.cpu import cpu_features, features_of, usable_cpus
from effgen.network import NetworkRequest
from effgen.runtime.standalone import load_standalone


@pytest.mark.parametrize("threads", [1, *([2] if len(usable_cpus()) > 1 else [])])
def test_bit_for_bit_the_bundles(tiny: Made, threads: int) -> None:
    with load_standalone(tiny.bundle, threads) as model:
        for seed in range(3):
            image = noise((1, 3, 32, 32), seed)
            np.testing.assert_array_equal(model(image), answer(tiny, image, threads))


@pytest.mark.parametrize("threads", [3, 4 * len(usable_cpus())])
def test_more_threads_than_cores(tiny: Made, threads: int) -> None:
    image = noise((1, 3, 32, 32))
    with load_standalone(tiny.bundle, threads) as model:
        for _ in range(20):
            assert relative_l2(model(image), answer(tiny, image, 1)) <= 1e-6


def test_several_images_a_call(tiny_spec: Path, tmp_path: Path) -> None:
    pair = made(tmp_path, NetworkRequest(spec=str(tiny_spec), batch=2))
    images = noise((2, 3, 32, 32))
    with load_standalone(pair.bundle, 1) as model:
        np.testing.assert_array_equal(model(images), answer(pair, images, 1))
    lines = output_of(pair.bundle / pair.name, pair.image(tmp_path, images)).splitlines()
    assert [line.split()[1] for line in lines] == ["0"] * 5 + ["1"] * 5


def test_verify_and_bench_report_it(tiny: Made, tiny_bundle: Path) -> None:
    report = verify_bundle(tiny.bundle)
    assert report.passed and [case.name for case in report.cases][:2] == ["golden pair", "golden pair, standalone"]
    quick = Plan(rounds=1, min_time_s=0.01)
    result = bench_bundle(tiny.bundle, ["standalone"], 1, quick).results[1]
    assert (result.backend, result.rel_l2) == ("standalone", 0.0)
    (left_out,) = bench_bundle(tiny_bundle, ["standalone"], 1, quick).left_out
    assert isinstance(left_out, LeftOut) and "holds no standalone library; compile it with --emit" in left_out.reason


def test_statuses(tiny: Made) -> None:
    library = ctypes.CDLL(str(tiny.shared))
    create, run, destroy, error = (library[f"tiny_phi0_{name}"] for name in ("create", "run", "destroy", "error"))
    run.argtypes, error.restype, destroy.argtypes = [ctypes.c_void_p] * 3, ctypes.c_char_p, [ctypes.c_void_p]
    handle = ctypes.c_void_p(1)
    assert create(None, 1) == 1
    for threads in (-1, 1025):
        assert create(ctypes.byref(handle), threads) == 1 and handle.value is None
    assert create(ctypes.byref(handle), 0) == 0 and handle.value
    image, logits = noise((1, 3, 32, 32)), np.zeros(10, np.float32)
    for words in ((None, image, logits), (handle, None, logits), (handle, image, None)):
        assert run(*(word.ctypes.data if isinstance(word, np.ndarray) else word for word in words)) == 1
    assert run(handle, image.ctypes.data, logits.ctypes.data) == 0
    np.testing.assert_array_equal(logits[None], answer(tiny, image, min(2, len(usable_cpus()))))
    destroy(handle)
    destroy(None)
    texts = [error(status).decode() for status in range(-1, 6)]
    assert texts[1:3] == ["no error", "a wrong argument: NULL, or a thread count out of range"]
    assert texts[0] == texts[6] == "not a status of this library" and len(set(texts)) == 6


def test_arrays_need_not_be_aligned(tiny: Made) -> None:
    image = noise((1, 3, 32, 32))
    shifted = np.empty(image.size + 1, np.float32)[1:].reshape(image.shape)
    shifted[:] = image
    with load_standalone(tiny.bundle, 1) as model:
        np.testing.assert_array_equal(model(shifted), model(image))


def test_processor_without_an_instruction_set(tiny: Made, tmp_path: Path) -> None:
    objects = driver_objects(tiny, tmp_path / "driver", features=[*tiny.manifest.target["features"], "sse9"])
    output_of("cc", "-shared", "-o", tmp_path / "lib.so", *objects, *tiny.kernels)
    library = ctypes.CDLL(str(tmp_path / "lib.so"))
    handle = ctypes.c_void_p(1)
    assert library.tiny_phi0_create(ctypes.byref(handle), 1) == 4 and handle.value is None
    library.tiny_phi0_error.restype = ctypes.c_char_p
    assert re.match(
        rb"this processor lacks an instruction set out of those needed: .*sse9$", library.tiny_phi0_error(4)
    )


def test_processor_is_seen_as_linux_sees_it(tmp_path: Path) -> None:
    output_of("cc", "-Wall", "-Werror", "-shared", "-fPIC", sources() / "processor.c", "-o", tmp_path / "processor.so")
    has_feature = ctypes.CDLL(str(tmp_path / "processor.so")).has_feature
    has_feature.restype = ctypes.c_bool
    known = features_of(os.uname().machine).values()
    assert {name for name in known if has_feature(name.encode())} == set(known) & cpu_features()
    text = (sources() / "processor.c").read_text()
    for architecture in ("x86_64", "aarch64"):
        assert all(f'{{"{name}", ' in text for name in features_of(architecture).values())
