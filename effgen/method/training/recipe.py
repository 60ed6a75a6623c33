"""How a network is trained: frozen data, read from TOML and validated strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from effgen.errors import TrainingError
from effgen.files.bounded import MOST_TOML_BYTES, UnreadableError, read_text, table_from_toml
from effgen.files.strict import StrictModel, first_problem

Share = Annotated[float, Field(ge=0, lt=1)]


class AugmentSpec(StrictModel):
    """How a training picture is changed each time it is shown; evaluation shows it as it is.

    `shift` moves it by up to this share of its side, both ways; `min_area` cuts out a part of this share of its area at
    the least, with sides of up to `max_aspect`, and enlarges it; `rotate` turns it by up to so many degrees; `flip`
    mirrors every other one (digits and letters must not be). `brightness` and `contrast` change by up to these shares.
    What comes in from outside the picture repeats its border.
    """

    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    min_area: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_aspect: Annotated[float, Field(ge=1, le=4)] = 1.0
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    flip: bool = False
    brightness: Share = 0.0
    contrast: Share = 0.0


class Recipe(StrictModel):
    """All that a training depends on beside the network and the data set.

    `learning_rate` is the highest: it is reached in `warmup_epochs` and falls to 0 by half a cosine, or, where the
    `schedule` is "exponential", by `decay` every `decay_epochs` (paper, section 5: 0.97 every 2.4). `weight_decay` acts
    on kernels alone. `ema_decay` is that of the moving average of weights and batch-norm statistics, which is what is
    evaluated; it grows towards it as (1 + steps) / (10 + steps). `drop_connect` is the rate of the last block
    (stochastic depth; it grows linearly over the blocks), dropout is the network's own. `gradient_clip` is the largest
    norm of the gradient, 0 for no limit. `mixed_precision` "auto" computes in float16 where there is a GPU.
    """

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 30
    batch_size: Annotated[int, Field(ge=2, le=65536)] = 64
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    optimizer: Literal["rmsprop", "adamw"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 3e-3
    schedule: Literal["cosine", "exponential"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0)] = 2.0
    decay: Annotated[float, Field(gt=0, le=1)] = 0.97
    decay_epochs: Annotated[float, Field(ge=1e-3)] = 2.4
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 1e-2
    label_smoothing: Share = 0.1
    gradient_clip: Annotated[float, Field(ge=0)] = 5.0
    ema_decay: Share = 0.99
    drop_connect: Share = 0.0
    mixed_precision: Literal["auto", "off"] = "auto"
    augment: AugmentSpec = AugmentSpec()

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs = {self.warmup_epochs:g}: expected fewer than the {self.epochs} epochs")
        return self

    @model_validator(mode="after")
    def _check_decay(self) -> Self:
        for key in ("decay", "decay_epochs"):
            value = getattr(self, key)
            if self.schedule != "exponential" and value != type(self).model_fields[key].default:
                raise ValueError(f'{key} = {value:g}: expected schedule = "exponential" with it')
        return self

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        by = self.augment
        if by.max_aspect > 1 and by.min_area == 1:
            raise ValueError(
                f"augment.max_aspect = {by.max_aspect:g}: expected augment.min_area below 1 with it: it shapes the "
                f"parts that are cut out"
            )
        return self


def load_recipe(path: Path | None) -> Recipe:
    """The recipe in the TOML file at `path`; the defaults, which suit small data sets, for None.

    Raises TrainingError with one line: file, key, value found, what was expected.
    """
    if path is None:
        return Recipe()
    try:
        return parse_recipe(read_text(path, MOST_TOML_BYTES), str(path))
    except UnreadableError as error:
        raise TrainingError(f"{path}: cannot read the recipe: {error}") from None


def parse_recipe(text: str, where: str) -> Recipe:
    """Validate the TOML `text`; `where` names its origin in error messages."""
    try:
        return Recipe.model_validate(table_from_toml(text))
    except UnreadableError as error:
        raise TrainingError(f"{where}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise TrainingError(f"{where}: {first_problem(error, Recipe)}") from None
