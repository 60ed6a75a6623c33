"""Recipes: defaults, the ones that ship as examples, and errors of one line."""

import re
from pathlib import Path
from typing import Any

import pytest

from effgen.errors import TrainingError
from effgen.method.training.recipe import AugmentSpec, Recipe, load_recipe, parse_recipe

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_none_is_the_default() -> None:
    assert load_recipe(None) == Recipe()


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('epochs = 3\nwarmup_epochs = 1\noptimizer = "rmsprop"\n[augment]\nflip = true\n')
    assert load_recipe(path) == Recipe(epochs=3, warmup_epochs=1, optimizer="rmsprop", augment=AugmentSpec(flip=True))


def test_paper_recipe() -> None:
    """Paper, section 5: what it says of its training."""
    recipe = load_recipe(EXAMPLES / "imagenet_recipe.toml")
    assert (recipe.optimizer, recipe.learning_rate, recipe.schedule) == ("rmsprop", 0.256, "exponential")
    assert (recipe.decay, recipe.decay_epochs, recipe.weight_decay) == (0.97, 2.4, 1e-5)
    assert recipe.drop_connect == 0.2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "epoch: unknown key; did you mean epochs?"),
        ("epochs = 0", "epochs = 0: expected"),
        ('optimizer = "sgd"', "optimizer = 'sgd': expected"),
        ("learning_rate = -1.0", "learning_rate = -1.0: expected"),
        ("batch_size = 1", "batch_size = 1: expected"),
        ("[augment]\nshift = 0.9", "augment.shift = 0.9: expected"),
        ("[augment]\nmax_aspect = 1.5", "r.toml: augment.max_aspect = 1.5: expected augment.min_area below"),
        ("decay = 0.5", 'r.toml: decay = 0.5: expected schedule = "exponential" with it'),
        ("decay_epochs = 3.0", 'decay_epochs = 3: expected schedule = "exponential" with it'),
        ("decay_epochs = 1e-320", "decay_epochs = 1e-320: expected"),
        ("epochs = 5\nwarmup_epochs = 5", "warmup_epochs = 5: expected fewer than the 5 epochs"),
        ("epochs = ", "not valid TOML"),
    ],
    ids=lambda value: re.sub(r"\W+", "_", value)[:20],
)
def test_errors_are_one_line(text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(message)) as error:
        parse_recipe(text, "r.toml")
    assert str(error.value).startswith("r.toml: ") and "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"absent\.toml: cannot read the recipe: No such file"):
        load_recipe(tmp_path / "absent.toml")
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TrainingError, match="not UTF-8 text"):
        load_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize("changed", [{"seed": 3}, {"augment": AugmentSpec(rotate=5)}], ids=str)
def test_recipes_compare_by_value(changed: Any) -> None:
    assert Recipe().model_copy(update=changed) != Recipe()
