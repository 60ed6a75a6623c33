"""A spec that a program made comes back from its file as it was, and phi = 0 leaves it as it is."""

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from networks import tiny_spec
from random_specs import random_specs

from effgen.errors import BuildError, SpecError
from effgen.network.scaling import coefficients_for, scale
from effgen.network.spec import NetworkSpec, load_spec, parse_spec, shipped_spec_names
from effgen.network.spec_file import as_baseline, toml_from_spec, write_spec


@given(random_specs())
def test_what_is_written_is_read_again(spec: NetworkSpec) -> None:
    assert parse_spec(toml_from_spec(spec), "written") == spec


@pytest.mark.parametrize("name", shipped_spec_names())
def test_shipped_families_come_back(name: str) -> None:
    assert parse_spec(toml_from_spec(load_spec(name)), "written") == load_spec(name)


def test_comments_stand_above_whatever_they_hold() -> None:
    text = toml_from_spec(tiny_spec(), comment='found by a search\nof "a\x07b.toml"')
    assert text.startswith('# found by a search\n# of "a?b.toml"\nname = ')
    assert parse_spec(text, "written") == tiny_spec()


@pytest.mark.parametrize("phi", ["0", "1", "2.5", "b4"])
def test_a_scaled_spec_is_its_own_baseline(phi: str) -> None:
    family = load_spec("efficientnet")
    alone = as_baseline(scale(family, coefficients_for(family, phi)), name="mine")
    assert (alone.name, alone.scaling.published) == ("mine", [])
    assert scale(alone, coefficients_for(alone, 0)) == alone


@given(random_specs(), st.floats(-3, 3))
def test_so_is_any_scaled_spec(spec: NetworkSpec, phi: float) -> None:
    try:
        scaled = scale(spec, coefficients_for(spec, phi, "formula"))
    except SpecError:
        assume(False)
    alone = parse_spec(toml_from_spec(as_baseline(scaled)), "written")
    assert scale(alone, coefficients_for(alone, "0")) == as_baseline(scaled)


def test_a_file_is_written_whole_and_not_over_another(tmp_path: Path) -> None:
    path = tmp_path / "new" / "mine.toml"
    write_spec(tiny_spec(), path, comment="mine")
    assert load_spec(str(path)) == tiny_spec()
    with pytest.raises(BuildError, match="exists already"):
        write_spec(tiny_spec(), path)
    write_spec(tiny_spec(channels="16"), path, force=True)
    assert load_spec(str(path)).stem.channels == 16
    assert [file.name for file in path.parent.iterdir()] == ["mine.toml"]
