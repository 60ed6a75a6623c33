"""What counts as agreement, which inputs are tried, and that a wrong library is caught."""

import builtins
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effgen import driver
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BundleError, VerifyError
from effgen.judge import case as case_module
from effgen.judge import verify as verify_module
from effgen.judge.case import (
    compare,
    golden_cases,
    golden_pair,
    jittered,
    new_golden_pair,
    relative_l2,
    stored_golden_pair,
    top_agreement,
)
from effgen.judge.verify import GOLDEN_JUDGE, VerifyReport, seeded_inputs, verify_bundle
from effgen.network import NetworkRequest
from effgen.report.compile import warning_from_manifest
from effgen.report.verify import json_from_verify, notes_from_verify
from effgen.runtime import LoadedModel
from effgen.runtime.manifest import read_manifest

INPUT = {"shape": [2, 3, 40, 24], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def logits(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_relative_l2_is_that_of_the_worst_row() -> None:
    expected = logits([1, 0, 0], [100, 0, 0])
    assert relative_l2(logits([1.5, 0, 0], [100, 0, 0]), expected) == 0.5
    assert relative_l2(expected, expected) == 0


def test_relative_l2_does_not_round_to_float32() -> None:
    expected = np.full((1, 4), 1e-30, np.float32)  # its square is no float32
    assert relative_l2(expected * np.float32(1.5), expected) == pytest.approx(0.5)


def test_zeros_are_matched_by_zeros_only() -> None:
    zeros = logits([0, 0])
    assert relative_l2(zeros, zeros) == 0
    assert relative_l2(logits([1e-9, 0]), zeros) == np.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_fails_whatever_the_tolerance(bad: float) -> None:
    case = compare("case", logits([1, bad]), logits([1, 2]), tolerance=1e9)
    assert (case.finite, case.passed, case.rel_l2, case.max_abs) == (False, False, np.inf, np.inf)


def test_reference_that_is_not_finite_judges_nothing() -> None:
    for found in (logits([1, 2]), logits([1, np.nan])):
        case = compare("case", found, logits([1, np.nan]), tolerance=1e-5)
        assert not case.judged and case.passed and case.rel_l2 == np.inf


def test_unstable_case_has_to_be_finite_and_near_only() -> None:
    found, expected = logits([1.001, 2]), logits([1, 2])
    stable = compare("case", found, expected, tolerance=1e-5, noise=3e-6)
    unstable = compare("case", found, expected, tolerance=1e-5, noise=4e-6)
    assert (stable.judged, stable.passed) == (True, False)
    assert (unstable.judged, unstable.passed) == (False, True)
    assert not compare("case", logits([1.1, 2]), expected, tolerance=1e-5, noise=4e-6).passed
    assert not compare("case", logits([1, np.nan]), expected, tolerance=1e-5, noise=1.0).passed


@pytest.mark.parametrize(
    ("noise", "allowed"), [(4e-6, 4e-3), (5e-5, 0.05), (1e-3, 0.1), (9e-3, 0.1), (0.05, 0.5), (0.6, 6.0)]
)
def test_how_far_an_unstable_case_may_be_off(noise: float, allowed: float) -> None:
    """A thousand times what PyTorch's own answer moves by, but no more than a tenth while that is any answer at all."""
    expected = logits([1, 0])
    for off, passed in ((0.99 * allowed, True), (1.01 * allowed, False)):
        case = compare("case", logits([1 + off, 0]), expected, tolerance=1e-5, noise=noise)
        assert (case.judged, case.passed) == (False, passed)


def test_worst_is_the_worst_judged() -> None:
    expected = logits([1, 2])
    cases = (
        compare("golden pair", logits([1, 2.001]), expected, 1e-2),
        compare("wild", logits([7, 2]), expected, 1e-2, noise=0.5),
    )
    report = VerifyReport("m", "judge", "this processor", 1, 1e-2, cases)
    assert report.passed and report.worst.name == "golden pair" and report.max_abs < 0.002
    assert "unstable: " in notes_from_verify(report)[0]


def test_jitter_is_small_and_keeps_zeros() -> None:
    image = logits([0, 1, -100])
    moved = jittered(image, seed=0)
    assert moved[0, 0] == 0 and (moved != image).sum() == 2
    np.testing.assert_allclose(moved, image, rtol=1e-5)


def test_other_shape_is_refused() -> None:
    with pytest.raises(BundleError, match=r"shape \(1, 2\), its reference \(1, 3\)"):
        compare("case", logits([1, 2]), logits([1, 2, 3]), tolerance=1)


def test_top_agreement() -> None:
    expected = logits([9, 8, 7, 6, 5, 1, 0], [0, 1, 2, 3, 4, 5, 6])
    found = logits([9, 8, 7, 6, 1, 5, 0], [6, 1, 2, 3, 4, 5, 0])
    assert top_agreement(found, expected, 1) == 0.5
    assert top_agreement(found, expected, 5) == pytest.approx((4 + 4) / 10)
    assert top_agreement(logits([1, 2]), logits([1, 2]), 5) == 1


def test_inputs_are_seeded_and_their_images_differ() -> None:
    first, again, other = (dict(seeded_inputs(INPUT, seed)) for seed in (0, 0, 1))
    assert list(first) == [
        *("normal x 0.1", "normal x 1", "normal x 10", "normal x 100", "constant", "zeros"),
        *("image-like", "three batches in turn"),
    ]
    for name, image in first.items():
        assert image.shape[0] in (2, 6) and image.shape[1:] == (3, 40, 24)
        assert image.dtype == np.float32 and image.flags.c_contiguous
        np.testing.assert_array_equal(image, again[name])
        assert name == "zeros" or not np.array_equal(image[0], image[1])
    assert not np.array_equal(first["image-like"], other["image-like"])


def test_image_like_input_is_normalised_pixels() -> None:
    image = dict(seeded_inputs(INPUT, 0))["image-like"]
    mean, std = (np.array(INPUT[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    pixels = (image * std + mean) * 255
    np.testing.assert_allclose(pixels, pixels.round(), atol=1e-3)
    assert pixels.min() >= -1e-3 and pixels.max() <= 255.001


def test_bundle_passes(tiny_bundle: Path) -> None:
    phases: list[str] = []
    report = verify_bundle(tiny_bundle, threads=1, on_phase=phases.append)
    assert report.passed and report.rel_l2 <= report.tolerance == 1e-5
    assert report.judge.startswith("pytorch 2.") and report.run_by == "this processor"
    assert [case.name for case in report.cases][:2] == ["golden pair", "normal x 0.1"]
    assert len(report.cases) == 9 and report.threads == 1
    assert all(case.top1 == 1 for case in report.cases if case.name != "zeros")
    data = json_from_verify(report)
    assert data["passed"] is True and data["rel_l2"] == report.rel_l2 and data["max_abs"] == report.max_abs
    assert phases[0] == "load the bundle"


def test_without_torch_the_golden_pair_judges(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "find_spec", lambda name: None)
    real_import = builtins.__import__

    def no_torch(name: str, *rest: object, **more: object) -> object:
        assert name.split(".")[0] not in ("torch", "onnx"), name
        return real_import(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", no_torch)
    report = verify_bundle(tiny_bundle)
    assert report.judge == GOLDEN_JUDGE
    assert [case.name for case in report.cases] == ["golden pair"] and report.passed


@pytest.mark.parametrize(
    ("damage", "finite"),
    [(lambda out: out + np.float32(1e-3) * np.abs(out).max(), True), (lambda out: out * np.float32(np.nan), False)],
)
def test_wrong_library_is_caught(
    damage: object, finite: bool, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = LoadedModel.__call__
    monkeypatch.setattr(LoadedModel, "__call__", lambda self, image: damage(right(self, image)))  # type: ignore[operator]
    report = verify_bundle(tiny_bundle)
    assert not report.passed and report.rel_l2 > report.tolerance
    assert report.cases[1].finite is finite
    assert json_from_verify(report)["passed"] is False


def test_golden_pair_is_judged_by_a_stable_pytorch_only(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, expected = golden_pair(tiny_bundle)
    wrong, infinite = expected * np.float32(1.0001), expected * np.float32(np.inf)
    assert golden_cases(tiny_bundle, expected, ["logits"], 1e-5)[0].passed
    missed = golden_cases(tiny_bundle, wrong, ["logits"], 1e-5)[0]
    assert (missed.judged, missed.passed) == (True, False) and 0 < missed.noise < 1e-5
    monkeypatch.setattr(case_module, "_JITTER", 0.1)  # a network that amplifies rounding, as it were
    unstable = golden_cases(tiny_bundle, wrong, ["logits"], 1e-5)[0]
    assert (unstable.judged, unstable.passed) == (False, True) and unstable.rel_l2 == missed.rel_l2
    assert not golden_cases(tiny_bundle, infinite, ["logits"], 1e-5)[0].passed
    report = VerifyReport("m", "judge", "this processor", 1, 1e-5, (unstable,))
    assert (report.worst, report.judged, report.max_abs, report.passed) == (unstable, 0, 0.0, False)
    assert not golden_cases(tiny_bundle, -1000 * expected, ["logits"], 1e-5)[0].passed


def test_compiling_says_where_pytorch_is_too_unstable_to_judge(
    tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = LoadedModel.__call__
    monkeypatch.setattr(LoadedModel, "__call__", lambda self, image: right(self, image) * np.float32(1.0001))
    request = CompileRequest(NetworkRequest(str(tiny_spec)), tmp_path / "bundle")
    with pytest.raises(VerifyError, match="disagrees with PyTorch"):
        compile_bundle(request)
    assert not (tmp_path / "bundle").exists()
    monkeypatch.setattr(case_module, "_JITTER", 0.1)
    manifest = compile_bundle(request)
    assert read_manifest(tmp_path / "bundle") == manifest
    unjudged = manifest.network["golden_not_judged"]
    assert unjudged["rel_l2"] == pytest.approx(1e-4, rel=0.1) and unjudged["noise"] > 1e-3
    said = warning_from_manifest(manifest)
    assert re.match(r"golden pair not judged: PyTorch's own answer moves by \de-\d\d when", said)
    assert said.endswith("the library's differs by 1e-04")


def test_a_golden_pair_that_nothing_here_can_run(
    tiny_spec: Path, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's bundle on a computer without one, and one for instruction sets that this processor lacks."""
    monkeypatch.setattr(driver, "running_here", lambda machine: ("no", "no NVIDIA GPU found here"))
    status, out, err = run("compile", "--spec", tiny_spec, "-o", tmp_path / "bundle")
    assert status == 0 and read_manifest(tmp_path / "bundle").network["golden"] == {
        "not_checked": "no NVIDIA GPU found here"
    }
    assert err.splitlines()[-1] == "warning: golden pair not checked: no NVIDIA GPU found here"
    (row,) = [line.split(maxsplit=2) for line in out.splitlines() if line.startswith("golden pair")]
    assert row[2].strip() == "not checked: no NVIDIA GPU found here"


def test_a_judged_golden_pair_is_nothing_to_warn_of(tiny_bundle: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    golden = manifest.network["golden"]
    assert golden["checked_by"] == "this processor" and 0 <= golden["rel_l2"] <= manifest.tolerance["rel_l2"]
    assert "golden_not_judged" not in manifest.network and warning_from_manifest(manifest) == ""


@pytest.mark.parametrize(("limit", "scale"), [(9.0, 1.0), (0.9, 0.1), (0.09, 0.01), (0.0, 1.0)])
def test_golden_image_is_weaker_where_rounding_is_amplified(limit: float, scale: float) -> None:
    """Beyond `limit` the judge's answer depends on the last digits of its image; where it always does, so be it."""

    def judge(image: np.ndarray) -> np.ndarray:
        rows = image.reshape(1, -1)
        return np.sin(rows * 1e7) if np.abs(rows).max() > limit else rows

    image, output = new_golden_pair(judge, (1, 3, 2, 2), 5, 1e-5)
    noise = np.random.default_rng(5).standard_normal((1, 3, 2, 2), dtype=np.float32)
    assert 0.9 < np.abs(noise).max() < 9
    np.testing.assert_array_equal(image, noise * np.float32(scale))
    np.testing.assert_array_equal(output, judge(image))


def test_golden_image_is_weaker_where_the_output_is_not_finite() -> None:
    image, output = new_golden_pair(lambda x: np.where(np.abs(x) > 0.5, np.inf, x)[:, :, 0, 0], (1, 3, 2, 2), 5, 1e-5)
    assert np.abs(image).max() < 0.5 and np.isfinite(output).all()


GOLDEN_SHAPES = (1, 3, 2, 2), [(1, 1)]


def test_golden_pair_that_is_not_finite(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "golden.npz", input=np.zeros((1, 3, 2, 2), np.float32), output=np.full((1, 1), np.nan, np.float32)
    )
    with pytest.raises(BundleError, match="its output is not finite"):
        stored_golden_pair(tmp_path, *GOLDEN_SHAPES)


def test_golden_pair_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot read the golden pair"):
        stored_golden_pair(tmp_path, *GOLDEN_SHAPES)
    (tmp_path / "golden.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(BundleError, match="cannot read the golden pair"):
        stored_golden_pair(tmp_path, *GOLDEN_SHAPES)


@pytest.mark.parametrize(
    ("image", "output", "message"),
    [
        (
            np.zeros((1, 3, 2, 3), np.float32),
            np.zeros((1, 1), np.float32),
            r"input: float32\[1, 3, 2, 3\], the manifest says",
        ),
        (np.zeros((1, 3, 2, 2)), np.zeros((1, 1), np.float32), r"input: float64\[1, 3, 2, 2\], the manifest says"),
        (
            np.zeros((1, 3, 2, 2), np.float32),
            np.zeros((2, 1), np.float32),
            r"output: float32\[2, 1\], the manifest says",
        ),
        (
            np.asfortranarray(np.zeros((1, 3, 2, 2), np.float32)),
            np.zeros((1, 1), np.float32),
            "the manifest says .*, by rows",
        ),
        (np.zeros((1, 3, 2, 2), np.float32), np.array([[{}]]), r"output: object\[1, 1\], the manifest says"),
    ],
)
def test_golden_pair_of_other_arrays(tmp_path: Path, image: Any, output: Any, message: str) -> None:
    """Their heads are looked at before memory is used for them."""
    np.savez(tmp_path / "golden.npz", input=image, output=output)
    with pytest.raises(BundleError, match=message) as caught:
        stored_golden_pair(tmp_path, *GOLDEN_SHAPES)
    assert "\n" not in str(caught.value)


def test_golden_pair_that_is_right(tmp_path: Path) -> None:
    image, output = noise_of((1, 3, 2, 2)), noise_of((1, 1))
    np.savez_compressed(tmp_path / "golden.npz", input=image, output=output)
    found, answer = stored_golden_pair(tmp_path, *GOLDEN_SHAPES)
    np.testing.assert_array_equal(found, image)
    np.testing.assert_array_equal(answer, output)
    assert found.flags.writeable  # a call would copy it each time


def noise_of(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng().standard_normal(shape, dtype=np.float32)
