"""Random networks: the same for the same seed, of every kind, none too large."""

from collections import Counter
from typing import get_args

import pytest

from effgen.method.latency.samples import BLOCKS, sample_networks
from effgen.network.lowering.network import lower
from effgen.network.spec import BlockKind, parse_spec
from effgen.network.spec_file import toml_from_spec


def test_seed_decides() -> None:
    once, again, other = ([*sample_networks(5, seed)] for seed in ("a", "a", "b"))
    assert once == again
    assert [spec.stages for spec in once] != [spec.stages for spec in other]
    assert [spec.name for spec in once] == ["a_0", "a_1", "a_2", "a_3", "a_4"]


def test_a_longer_series_begins_with_the_shorter_one() -> None:
    assert [*sample_networks(2, "a")] == [*sample_networks(6, "a")][:2]


def test_networks_are_specs_that_a_user_may_write() -> None:
    for spec in sample_networks(30, "valid"):
        assert parse_spec(toml_from_spec(spec), "sample.toml") == spec
        assert lower(spec).macs < 2.5e9


def test_every_kind_and_size_is_drawn() -> None:
    specs = [*sample_networks(60, "all")]
    stages = [stage for spec in specs for stage in spec.stages]
    assert {stage.block for stage in stages} == set(get_args(BlockKind))
    assert {stage.kernel for stage in stages} == {3, 5, 7}
    assert {spec.input.resolution for spec in specs} == set(range(96, 321, 32))
    assert Counter(stage.squeeze_excite is None for stage in stages).keys() == {True, False}


@pytest.mark.parametrize("block", sorted(set(BLOCKS)))
def test_kinds_can_be_chosen(block: str) -> None:
    (spec,) = sample_networks(1, "one", (block,))  # type: ignore[arg-type]
    assert {stage.block for stage in spec.stages} == {block}
