"""phi -> coefficients -> a scaled spec, against the released models and the paper's formula."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import tiny_spec

from effgen.errors import SpecError
from effgen.graph import Graph
from effgen.network import Network, NetworkRequest, baseline_of, build_network, norm_eps_from_text, resolution_from_text
from effgen.network.lowering.network import lower
from effgen.network.scaling import (
    Law,
    Overrides,
    apply_overrides,
    coefficients_for,
    round_channels,
    round_repeats,
    scale,
)
from effgen.network.spec import NetworkSpec, RoundingSpec, load_spec

EFFICIENTNET = load_spec("efficientnet")
DEFAULT_ROUNDING = RoundingSpec()

#: name, width, depth, resolution, dropout, parameters, MACs of convolutions and classifier, blocks, stem, head.
RELEASED = [
    ("b0", 1.0, 1.0, 224, 0.2, 5_288_548, 385_814_752, 16, 32, 1280),
    ("b1", 1.0, 1.1, 240, 0.2, 7_794_184, 686_802_832, 23, 32, 1280),
    ("b2", 1.1, 1.2, 260, 0.3, 9_109_994, 993_561_872, 23, 32, 1408),
    ("b3", 1.2, 1.4, 300, 0.3, 12_233_232, 1_827_141_392, 26, 40, 1536),
    ("b4", 1.4, 1.8, 380, 0.4, 19_341_616, 4_393_771_024, 32, 48, 1792),
    ("b5", 1.6, 2.2, 456, 0.4, 30_389_784, 10_266_384_752, 39, 48, 2048),
    ("b6", 1.8, 2.6, 528, 0.5, 43_040_704, 19_067_593_536, 45, 56, 2304),
    ("b7", 2.0, 3.1, 600, 0.5, 66_347_960, 37_745_884_192, 55, 64, 2560),
]


def network(phi: str, law: Law = "published") -> Network:
    return build_network(NetworkRequest(phi=phi, law=law))


def blocks(spec: NetworkSpec) -> int:
    return sum(stage.repeats for stage in spec.stages)


@pytest.mark.parametrize("row", RELEASED, ids=lambda row: row[0])
def test_released_models_are_met_exactly(row: tuple[object, ...]) -> None:
    name, width, depth, resolution, dropout, parameters, macs, block_count, stem, head = row
    found = network(str(name).removeprefix("b"))
    c, spec = found.coefficients, found.spec
    assert (c.width, c.depth, c.resolution, c.dropout) == (width, depth, resolution, dropout)
    assert (c.law, c.source) == ("published", f"published row {name}")
    assert (spec.classifier.dropout, spec.input.resolution) == (dropout, resolution)
    assert (blocks(spec), spec.stem.channels, spec.head.channels) == (block_count, stem, head)
    assert (found.graph.parameter_count, found.graph.macs) == (parameters, macs)


@pytest.mark.parametrize(
    ("name", "parameters", "giga_macs", "block_count", "stem", "head"),
    [("b8", 87_413_142, 62.6, 61, 72, 2816), ("l2", 480_309_308, 475.7, 88, 136, 5504)],
)
def test_rows_without_phi(name: str, parameters: int, giga_macs: float, block_count: int, stem: int, head: int) -> None:
    found = network(name)
    assert found.coefficients.phi is None
    assert found.graph.parameter_count == parameters
    assert found.graph.macs / 1e9 == pytest.approx(giga_macs, abs=0.05)
    assert (blocks(found.spec), found.spec.stem.channels, found.spec.head.channels) == (block_count, stem, head)


def test_a_name_and_its_number_are_the_same_network() -> None:
    assert network("b3").graph == network("3").graph == network("3.0").graph


@pytest.mark.parametrize(
    ("phi", "width", "depth", "resolution"),
    [
        (1, 1.1, 1.2, 258),
        (2, 1.21, 1.44, 296),
        (3, 1.331, 1.728, 341),
        (4, 1.464, 2.074, 392),
        (5, 1.611, 2.488, 451),
        (6, 1.772, 2.986, 518),
        (7, 1.949, 3.583, 596),
    ],
)
def test_the_formula(phi: int, width: float, depth: float, resolution: int) -> None:
    c = coefficients_for(EFFICIENTNET, phi, "formula")
    assert (round(c.width, 3), round(c.depth, 3), c.resolution) == (width, depth, resolution)
    assert c.source == "formula alpha=1.2 beta=1.1 gamma=1.15"


def test_the_formula_at_0_is_the_baseline() -> None:
    assert network("0", "formula").graph == network("b0").graph


def test_the_formula_may_shrink_the_baseline() -> None:
    small = network("-1", "formula")
    assert small.graph.macs < 0.8 * network("0").graph.macs
    assert min(stage.repeats for stage in small.spec.stages) == 1


def test_the_formulas_head_is_rounded_as_a_whole() -> None:
    """round(1280 w), as the original release has it; four times round(320 w) would be 1536."""
    assert network("2", "formula").spec.head.channels == 1552


@pytest.mark.parametrize(
    ("replaced", "overrides", "message"),
    [
        ({"repeats": 512}, Overrides(depth=1.1), "--depth 1.1: makes 564 repeats; expected at most 512"),
        ({"channels": 60_000}, Overrides(width=2), "--width 2: makes 120000 channels; expected at most 65536"),
    ],
    ids=["repeats", "channels"],
)
def test_a_scaled_spec_keeps_to_the_bounds_of_a_spec(
    replaced: dict[str, int], overrides: Overrides, message: str
) -> None:
    stage = EFFICIENTNET.stages[1].model_copy(update=replaced)
    spec = EFFICIENTNET.model_copy(update={"stages": [EFFICIENTNET.stages[0], stage]})
    assert scale(spec, coefficients_for(spec, 0)).stages[1] == stage
    with pytest.raises(SpecError, match=message):
        scale(spec, coefficients_for(spec, 0), overrides)


@pytest.mark.parametrize("phi", ["2.5", "9"])
def test_a_number_without_a_row_takes_the_formula_and_says_so(phi: str) -> None:
    c = coefficients_for(EFFICIENTNET, phi)
    assert (c.law, c.width, c.phi) == ("formula", 1.1 ** float(phi), float(phi))
    assert c.source.endswith(f"(no published row for phi {phi})")


def test_a_spec_without_rows_has_nothing_to_excuse() -> None:
    assert coefficients_for(tiny_spec(), 2).source == "formula alpha=1.2 beta=1.1 gamma=1.15"


@pytest.mark.parametrize(
    ("phi", "law", "message"),
    [
        ("-1", "published", "--phi -1: expected 0 or more; to shrink the baseline use --law formula"),
        ("nan", "published", "--phi nan: expected a number from 0 to 20"),
        ("inf", "published", "--phi inf: expected a number from 0 to 20"),
        ("21", "published", "--phi 21: expected a number from 0 to 20"),
        ("-21", "formula", "--phi -21: expected a number from -20 to 20"),
        ("b3", "formula", "--phi b3: --law formula needs a number, and b3 names a published row"),
        (
            "b9",
            "published",
            "--phi b9: expected a number or the name of a published row: b0, b1, b2, b3, b4, b5, b6, b7, b8, l2",
        ),
    ],
)
def test_a_phi_that_makes_no_sense(phi: str, law: Law, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        coefficients_for(EFFICIENTNET, phi, law)
    assert str(caught.value) == message


def test_names_in_a_spec_without_rows() -> None:
    with pytest.raises(SpecError, match=r"published row: none in this spec$"):
        coefficients_for(tiny_spec(), "b1")


def test_overrides_replace_what_the_law_says() -> None:
    overrides = Overrides(width=0.5, resolution=96, classes=7, norm_eps=1e-3, padding="same")
    found = build_network(NetworkRequest(phi="1", overrides=overrides))
    assert found.coefficients.source == "published row b1; by hand width=0.5, resolution=96"
    assert (found.spec.stem.channels, found.spec.head.channels, blocks(found.spec)) == (16, 640, 23)
    assert found.graph.input.shape == (1, 3, 96, 96)
    assert found.graph.values[found.graph.output].shape == (1, 7)
    assert (found.spec.norm.eps, found.spec.padding) == (1e-3, "same")


def test_a_multiple_is_of_the_baseline_whatever_phi_is() -> None:
    found = build_network(NetworkRequest(phi="3", overrides=Overrides(resolution_factor=1.3)))
    assert found.spec.input.resolution == found.coefficients.resolution == found.request.overrides.resolution == 291
    assert (found.coefficients.width, found.request.overrides.resolution_factor) == (1.2, None)
    assert scale(EFFICIENTNET, found.coefficients, Overrides(resolution_factor=2.0)).input.resolution == 448
    unscaled = baseline_of(found.request)
    assert (unscaled.graph.macs, unscaled.spec.input.resolution) == (385_814_752, 224)


@pytest.mark.parametrize(
    ("text", "resolution"), [("288", (288, None)), ("2x", (None, 2.0)), ("1.3x", (None, 1.3)), ("-3", (-3, None))]
)
def test_resolution_in_pixels_or_as_a_multiple(text: str, resolution: tuple[int | None, float | None]) -> None:
    assert resolution_from_text(text) == resolution


@pytest.mark.parametrize("text", ["", "x", "2y", "2.5", "1.3 times"])
def test_resolution_that_is_none(text: str) -> None:
    with pytest.raises(SpecError, match=f"^--resolution {text}: expected whole pixels, or a multiple"):
        resolution_from_text(text)


def test_no_overrides_change_nothing() -> None:
    c = coefficients_for(EFFICIENTNET, 1)
    assert apply_overrides(c, Overrides(classes=5)) is c


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (Overrides(width=0.0), "--width 0: expected a multiplier above 0, up to 64"),
        (Overrides(depth=-1.0), "--depth -1: expected a multiplier above 0, up to 64"),
        (Overrides(width=math.nan), "--width nan: expected a multiplier above 0, up to 64"),
        (
            Overrides(resolution=31),
            "--resolution 31: expected from 32 (the network's total stride) to 8192 pixels",
        ),
        (Overrides(classes=0), "--classes 0: expected from 1 to 1000000"),
        (Overrides(classes=-3), "--classes -3: expected from 1 to 1000000"),
        (Overrides(norm_eps=0.0), "--norm-eps 0: expected a number above 0, up to 0.1"),
        (Overrides(norm_eps=math.nan), "--norm-eps nan: expected a number above 0, up to 0.1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_override_that_makes_no_network(overrides: Overrides, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        scale(EFFICIENTNET, coefficients_for(EFFICIENTNET, 0), overrides)
    assert str(caught.value) == message


@pytest.mark.parametrize("batch", [0, -1, 4097])
def test_a_batch_that_makes_no_network(batch: int) -> None:
    with pytest.raises(SpecError, match=f"^--batch {batch}: expected from 1 to 4096 images$"):
        build_network(NetworkRequest(batch=batch))


def test_macs_are_those_of_one_image() -> None:
    one, four = tiny(batch=1), tiny(batch=4)
    assert one.macs == four.macs
    assert one.parameter_count == four.parameter_count
    assert four.values[four.output].shape == (4, 10)


def tiny(batch: int) -> Graph:
    return lower(tiny_spec(), batch)


@pytest.mark.parametrize(("text", "eps"), [("pytorch", 1e-5), ("tensorflow", 1e-3), ("0.01", 0.01)])
def test_norm_eps_by_name_or_number(text: str, eps: float) -> None:
    assert norm_eps_from_text(text) == eps


@pytest.mark.parametrize("text", ["keras", "0", "0.2", "nan", "-1e-5"])
def test_norm_eps_that_is_none(text: str) -> None:
    with pytest.raises(SpecError, match=f"^--norm-eps {text}: expected pytorch, tensorflow or a number above 0"):
        norm_eps_from_text(text)


@pytest.mark.parametrize(
    ("asked", "rounded"),
    [(32 * 1.1, 32), (24 * 1.2, 32), (40 * 1.2, 48), (1280 * 1.1, 1408), (320 * 1.1, 352), (3, 8), (8 * 1.5, 16)],
)
def test_channels_as_the_released_models_round_them(asked: float, rounded: int) -> None:
    assert round_channels(asked, DEFAULT_ROUNDING) == rounded


channel_numbers = st.floats(min_value=0.5, max_value=1e6)
divisors = st.integers(min_value=1, max_value=64)


@given(channel_numbers, divisors)
def test_rounded_channels_are_multiples_near_what_was_asked(asked: float, divisor: int) -> None:
    rounded = round_channels(asked, RoundingSpec(channel_divisor=divisor))
    assert rounded % divisor == 0
    assert rounded >= max(divisor, 0.9 * asked)
    assert rounded <= max(divisor, asked + divisor)


@given(channel_numbers, channel_numbers, divisors, st.floats(min_value=0, max_value=1))
def test_more_channels_never_round_to_fewer(a: float, b: float, divisor: int, min_fraction: float) -> None:
    rounding = RoundingSpec(channel_divisor=divisor, min_fraction=min_fraction)
    assert round_channels(min(a, b), rounding) <= round_channels(max(a, b), rounding)


@given(st.integers(1, 512), st.floats(0.001, 64), st.floats(0.001, 64), st.sampled_from(["ceil", "round"]))
def test_repeats_are_at_least_one_and_grow_with_depth(repeats: int, a: float, b: float, how: str) -> None:
    rounding = RoundingSpec.model_validate({"repeats": how})
    shallow, deep = (round_repeats(repeats, depth, rounding) for depth in sorted((a, b)))
    assert 1 <= shallow <= deep


@given(st.floats(0, 6), st.floats(0, 6))
def test_a_larger_phi_is_never_a_smaller_network(a: float, b: float) -> None:
    small, large = (scale(EFFICIENTNET, coefficients_for(EFFICIENTNET, phi, "formula")) for phi in sorted((a, b)))
    assert small.input.resolution <= large.input.resolution
    assert small.head.channels <= large.head.channels
    assert all(a.channels <= b.channels for a, b in zip(small.stages, large.stages, strict=True))
    assert blocks(small) <= blocks(large)
