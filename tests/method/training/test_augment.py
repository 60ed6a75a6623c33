"""Pictures as networks are fed them, and changed for training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import tiny_spec
from pictures import pixels, write_picture

from effgen.method.training.augment import Augmentation, canvas_side, canvas_size, normalised, unit_values
from effgen.method.training.recipe import AugmentSpec
from effgen.network.preparation import preparation_from_spec
from effgen.network.spec import InputSpec
from effgen.runtime.picture import Preparation

SIDE = 12


def image_spec(**changed: Any) -> InputSpec:
    return InputSpec(resolution=SIDE, **changed)


def augmentation(augment: AugmentSpec, image: InputSpec | None = None, seed: int = 0) -> Augmentation:
    return Augmentation(image or image_spec(), augment, torch.Generator().manual_seed(seed))


def squares(count: int, side: int = SIDE) -> torch.Tensor:
    return torch.from_numpy(np.stack([pixels(side, side, seed).transpose(2, 0, 1) for seed in range(count)]))


def test_evaluation_feeds_what_bundles_are_fed(tmp_path: Path) -> None:
    """Bit for bit: `effgen run` prepares pictures with numpy."""
    spec = tiny_spec(resolution="16").input.model_copy(update={"crop_padding": 5})
    prepare = Preparation(3, 16, 21, spec.interpolation, tuple(spec.mean), tuple(spec.std))
    picture = write_picture(tmp_path / "a.png")
    found = normalised(unit_values(torch.from_numpy(prepare.pixels(picture).copy())[None]), spec)
    np.testing.assert_array_equal(found[0], prepare(picture))


@pytest.mark.parametrize("padding", [0, 4, 8])
def test_without_change_training_sees_what_evaluation_sees(padding: int, tmp_path: Path) -> None:
    spec = image_spec(crop_padding=padding)
    side = canvas_side(spec, AugmentSpec())
    picture = write_picture(tmp_path / "a.png")
    stored, seen = (
        torch.from_numpy(Preparation(3, crop, side, "bicubic", (0,) * 3, (1,) * 3).pixels(picture).copy())
        for crop in (side, SIDE)
    )
    np.testing.assert_array_equal(augmentation(AugmentSpec(), spec)(stored[None])[0], seen / 255)


@pytest.mark.parametrize("fit", ["crop", "stretch", "letterbox"])
def test_images_that_are_no_squares(fit: str, tmp_path: Path) -> None:
    """Seen as bundles prepare them, and turned without being pulled out of shape."""
    spec = image_spec(width=30, fit=fit, channel_order="bgr", pixel_range=255, crop_padding=4 * (fit == "crop"))
    picture = write_picture(tmp_path / "a.png")
    stored, seen = (
        torch.from_numpy(preparation_from_spec(spec, size).pixels(picture).copy())
        for size in (canvas_size(spec, AugmentSpec()), None)
    )
    assert seen.shape == (3, SIDE, 30)
    values = augmentation(AugmentSpec(), spec)(stored[None])[0]
    np.testing.assert_array_equal(values, seen / 255)
    prepared = preparation_from_spec(spec)(picture)
    np.testing.assert_allclose(normalised(values[None], spec)[0], prepared, rtol=1e-5, atol=1e-4)


def test_turning_keeps_distances() -> None:
    spec = InputSpec(resolution=41, width=123)
    spot = torch.zeros(200, 1, 41, 123)
    spot[:, :, 18:23, 73:78] = 1
    turned = Augmentation(spec, AugmentSpec(rotate=60), torch.Generator().manual_seed(0))((255 * spot).to(torch.uint8))
    for image in turned[:, 0]:
        rows, columns = np.nonzero(np.asarray(image) > 0.5)
        if len(rows) and 2 < rows.mean() < 38:  # 14 pixels from the middle, whichever way
            assert np.hypot(rows.mean() - 20, columns.mean() - 61) == pytest.approx(14, abs=1)


def test_light_alone_keeps_places() -> None:
    found = augmentation(AugmentSpec(brightness=0.5, contrast=0.5))(squares(5))
    assert found.shape == (5, 3, SIDE, SIDE)
    for before, after in zip(squares(5) / 255, found, strict=True):
        inside = (after > 0) & (after < 1)
        slope, offset = np.polyfit(before[inside], after[inside], 1)
        np.testing.assert_allclose(after[inside], slope * before[inside] + offset, atol=1e-5)
        assert 0.25 <= slope <= 2.25


def test_flip_mirrors_half_of_the_pictures() -> None:
    before = squares(60) / 255
    after = augmentation(AugmentSpec(flip=True))(squares(60))
    flipped = [torch.allclose(b.flip(-1), a, atol=1e-5) for b, a in zip(before, after, strict=True)]
    kept = [torch.allclose(b, a, atol=1e-5) for b, a in zip(before, after, strict=True)]
    assert all(f != k for f, k in zip(flipped, kept, strict=True)) and 15 <= sum(flipped) <= 45


def test_shift_moves_by_at_most_its_share() -> None:
    """A bright spot in the middle of a dark picture is found where it was moved to."""
    spot = torch.zeros((200, 3, 41, 41), dtype=torch.uint8)
    spot[..., 20, 20] = 255
    moved = Augmentation(InputSpec(resolution=41), AugmentSpec(shift=0.25), torch.Generator().manual_seed(0))(spot)
    mass = moved[:, 0] / moved[:, 0].sum((1, 2), keepdim=True)
    rows, columns = ((mass.sum(axis) * torch.arange(41)).sum(1) - 20 for axis in (2, 1))
    for way in (rows, columns):
        assert way.abs().max() <= 0.25 * 41 + 1e-3 and way.min() < -7 and way.max() > 7


def test_a_quarter_turn_is_a_rotation() -> None:
    augment = augmentation(AugmentSpec(rotate=90))
    augment._signed = lambda count: torch.ones(count)  # the largest angle
    found = augment(squares(1))[0]
    turned = torch.rot90(squares(1)[0] / 255, 1, (1, 2))
    np.testing.assert_allclose(found, turned, atol=1e-4)


def test_parts_are_cut_from_within_and_enlarged() -> None:
    """Of a slope from left to right: a part's ends lie within the picture, their distance is its share of the side."""
    augment = AugmentSpec(min_area=0.25, max_aspect=1.0)
    side = canvas_side(image_spec(), augment)
    assert side == 15
    slope = torch.linspace(0, 255, side).to(torch.uint8).expand(300, 3, side, side)
    found = augmentation(augment)(slope)[:, 0, 0] * (side - 1)
    width = (found[:, -1] - found[:, 0]) / (SIDE - 1) * SIDE / side
    assert width.min() >= 0.5 - 0.02 and width.max() <= 1 and width.min() < 0.6 and width.max() > 0.9
    assert found.min() >= 0 and found.max() <= side - 1


@settings(max_examples=25)
@given(
    shift=st.floats(0, 0.5), min_area=st.floats(0.01, 1), rotate=st.floats(0, 180), flip=st.booleans(),
    brightness=st.floats(0, 0.9), contrast=st.floats(0, 0.9), padding=st.integers(0, 9),
)  # fmt: skip
def test_values_stay_values(padding: int, **changed: Any) -> None:
    augment, image = AugmentSpec(**changed), image_spec(crop_padding=padding)
    found = augmentation(augment, image)(squares(3, canvas_side(image, augment)))
    assert found.shape == (3, 3, SIDE, SIDE) and found.min() >= 0 and found.max() <= 1 + 1e-6


def test_same_seed_same_pictures() -> None:
    augment = AugmentSpec(shift=0.2, min_area=0.5, rotate=20, flip=True, brightness=0.2)
    a, b, c = (augmentation(augment, seed=seed)(squares(4, 15)) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
