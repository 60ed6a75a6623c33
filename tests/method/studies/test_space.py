"""MnasNet's space: every point makes a network, the starting one among them, and strides, stem and head stay."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import tiny_spec

from effgen.errors import SpecError
from effgen.method.studies.space import NetworkSpace, Point, digest_of_network, space_around
from effgen.network.lowering.network import lower
from effgen.network.spec import NetworkSpec, load_spec, parse_spec
from effgen.network.spec_file import toml_from_spec

#: Families whose stages are of every block kind.
FAMILIES = ("efficientnet", "efficientnet_v2_s", "mnasnet_a1", "mobilenet_v1", "mobilenet_v3_large", "resnet50")
SPACES = {name: space_around(load_spec(name)) for name in FAMILIES} | {"tiny": space_around(tiny_spec())}


@st.composite
def points(draw: st.DrawFn, space: NetworkSpace) -> Point:
    return {key: draw(st.sampled_from(values)) for key, values in space.choices.items()}


@pytest.mark.parametrize("family", SPACES)
@settings(max_examples=25)
@given(data=st.data())
def test_every_point_is_a_network(family: str, data: st.DataObject) -> None:
    space = SPACES[family]
    spec = space.spec_at(data.draw(points(space)), "drawn")
    try:
        graph = lower(spec)
    except SpecError as error:
        assert "parameters: expected at most" in str(error)  # ResNet-50's largest blocks, wide windows and expanded
        return
    start = lower(space.start)
    assert graph.macs > 0 and graph.values[graph.output].shape == start.values[start.output].shape
    # What is written for the user is read as the same network, whatever else it says of itself.
    assert parse_spec(toml_from_spec(spec), "drawn.toml") == spec
    assert [stage.stride for stage in spec.stages] == [stage.stride for stage in space.start.stages]
    assert (spec.stem, spec.head, spec.input) == (space.start.stem, space.start.head, space.start.input)


@pytest.mark.parametrize("family", SPACES)
def test_start_is_a_point(family: str) -> None:
    space = SPACES[family]
    assert all(value in space.choices[key] for key, value in space.start_point.items())
    assert space.spec_at(space.start_point, space.start.name) == space.start


def decided(spec: NetworkSpec, **changed: Any) -> NetworkSpec:
    """The tiny space's network whose last stage decides otherwise."""
    space = space_around(spec)
    return space.spec_at({**space.start_point, **{f"stages.2.{key}": value for key, value in changed.items()}}, "t")


def test_choices_are_relative_to_the_start() -> None:
    space = space_around(tiny_spec())
    assert space.choices["stages.1.channels"] == (16, 24)  # 12, 16 and 20 in multiples of 8
    assert space.choices["stages.1.repeats"] == (1, 2, 3)
    assert space.choices["stages.0.repeats"] == (1, 2)
    assert space.choices["stages.1.expand_ratio"] == (1.0, 3.0, 4.0, 6.0)
    assert space.choices["stages.1.se_ratio"] == (0.0, 0.25)
    assert space.choices["stages.1.block"] == ("mbconv", "fused_mbconv", "depthwise_separable", "conv")
    bottlenecks = space_around(load_spec("resnet50"))
    assert bottlenecks.choices["stages.0.block"][-1] == "bottleneck"
    assert space.size == (4 * 2 * 3 * 2 * 2 * 2 * 2) * (4 * 2 * 4 * 2 * 2 * 2 * 3) * (4 * 2 * 4 * 2 * 2 * 2 * 2)


def test_squeeze_excite_comes_as_the_other_stages_have_it() -> None:
    space = space_around(load_spec("mobilenet_v3_large"))
    squeezing = next(stage.squeeze_excite for stage in space.start.stages if stage.squeeze_excite)
    point = {**space.start_point, "stages.1.block": "mbconv", "stages.1.se_ratio": 0.25}
    assert space.spec_at(point, "t").stages[1].squeeze_excite == squeezing
    assert decided(tiny_spec(), se_ratio=0.25).stages[2].squeeze_excite is not None
    assert decided(tiny_spec(), se_ratio=0.0).stages[2].squeeze_excite is None


def test_blocks_get_the_keys_that_they_have() -> None:
    stage = decided(tiny_spec(), block="conv", expand_ratio=6.0, se_ratio=0.25).stages[2]
    assert (stage.block, stage.expand_ratio, stage.squeeze_excite) == ("conv", 1.0, None)


def test_same_networks_have_the_same_digest() -> None:
    tiny = tiny_spec()

    def digest(**changed: Any) -> str:
        return digest_of_network(lower(decided(tiny, **changed)))

    start = digest_of_network(lower(tiny))
    assert digest() == start == digest(skip=False)  # its one block has another shape than its input
    assert digest(block="conv", expand_ratio=1.0) == digest(block="conv", expand_ratio=6.0)
    others = [digest(kernel=5), digest(expand_ratio=3.0), digest(repeats=2), digest(channels=32), digest(se_ratio=0.25)]
    assert len({start, *others}) == 6
    assert digest(repeats=2) != digest(repeats=2, skip=False)
