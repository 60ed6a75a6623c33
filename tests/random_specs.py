"""Random baselines for laws that hold for all of them."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from effgen.network.spec import KEYS_OF_BLOCKS, BlockKind, NetworkSpec

_ACTIVATIONS = st.sampled_from(["silu", "relu", "relu6", "hard_swish"])


@st.composite
def _squeeze_excite(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "ratio": draw(st.floats(0.01, 1)),
        "of": draw(st.sampled_from(["input", "expanded"])),
        "divisor": draw(st.sampled_from([1, 4, 8])),
        "min_fraction": draw(st.sampled_from([0, 0.9])),
        "activation": draw(st.none() | _ACTIVATIONS),
        "gate": draw(st.sampled_from(["sigmoid", "hard_sigmoid"])),
    }


@st.composite
def _head(draw: st.DrawFn) -> dict[str, Any]:
    keys = {key: draw(st.booleans()) for key in ("after_pool", "scale_width", "norm")}
    return keys | {"channels": draw(st.integers(1, 96)), "activation": draw(st.none() | _ACTIVATIONS)}


@st.composite
def _stage(draw: st.DrawFn) -> dict[str, Any]:
    block = draw(st.sampled_from(get_args(BlockKind)))
    of_some_blocks = {
        "expand_ratio": draw(st.sampled_from([1.0, 2.5, 4.0, 6.0])),
        "bottleneck_ratio": draw(st.sampled_from([0.25, 0.5, 1.0])),
        "squeeze_excite": draw(st.none() | _squeeze_excite()),
        "linear": draw(st.booleans()),
        "expand_of": draw(st.sampled_from(["input", "output"])),
        "always_expand": draw(st.booleans()),
        "start_kernel": draw(st.sampled_from([1, 3, 5])),
    }
    return {
        "block": block,
        "kernel": draw(st.sampled_from([1, 3, 5, 7])),
        "stride": draw(st.integers(1, 2)),
        "channels": draw(st.integers(1, 64)),
        "repeats": draw(st.integers(1, 3)),
        "activation": draw(st.none() | _ACTIVATIONS),
        "skip": draw(st.booleans()),
        "scale_width": draw(st.booleans()),
        "scale_depth": draw(st.booleans()),
        **{key: value for key, value in of_some_blocks.items() if block in KEYS_OF_BLOCKS[key]},
    }


@st.composite
def random_specs(draw: st.DrawFn) -> NetworkSpec:
    """A baseline of one to three stages, every key drawn; of up to 64 pixels."""
    stages = draw(st.lists(_stage(), min_size=1, max_size=3))
    law = {key: draw(st.sampled_from([1.0, 1.05, 1.2, 1.5])) for key in ("alpha", "beta", "gamma")}
    row = {"name": "r", "phi": 2.0, "width": 1.1, "depth": 1.3, "resolution": 40, "dropout": 0.3}
    data = {
        "name": "random",
        "activation": draw(_ACTIVATIONS),
        "padding": draw(st.sampled_from(["symmetric", "same"])),
        "input": {"resolution": draw(st.integers(32, 64)), "crop_padding": draw(st.integers(0, 32))},
        "norm": {"eps": draw(st.floats(1e-6, 0.1)), "momentum": draw(st.floats(0.001, 1))},
        "rounding": {
            "channel_divisor": draw(st.sampled_from([1, 4, 8])),
            "min_fraction": draw(st.sampled_from([0, 0.5, 0.9, 1])),
            "repeats": draw(st.sampled_from(["ceil", "round"])),
        },
        "scaling": law | {"published": draw(st.sampled_from([[], [row], [row | {"phi": None}]]))},
        "stem": {
            "stride": draw(st.integers(1, 2)),
            "channels": draw(st.integers(1, 48)),
            "max_pool": draw(st.none() | st.just({"kernel": 3, "stride": 2})),
            "scale_width": draw(st.booleans()),
        },
        "stages": stages,
        "head": draw(st.none() | _head()),
        "classifier": {"classes": draw(st.integers(1, 20)), "dropout": draw(st.floats(0, 0.9))},
    }
    return NetworkSpec.model_validate(data)
