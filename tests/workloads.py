"""Random workloads of every kind and type, and some of each to look at closely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.concat import Concat
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.kinds.interleave import Interleave
from effgen.kernels.kinds.mixed_depthwise import MixedDepthwise
from effgen.kernels.kinds.pool2d import Pool2d
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.workload import ACTIVATIONS, CODE_TYPES, FLOAT_TYPES, Workload, clip, elu, leaky_relu

CONVOLUTIONS = [
    Conv2d(2, 3, 5, 7, 13, activation="silu", residual=True),
    Conv2d(2, 3, 5, 7, 13, activation="silu", residual=True, activation_last=True),
    Conv2d(2, 3, 5, 7, 16, gated=True, activation="hard_swish"),
    Conv2d(2, 1, 1, 9, 21, activation="sigmoid"),
    Conv2d(1, 7, 6, 3, 11, (3, 3), (2, 2), (1, 1, 0, 1), data_layout="NCHW", activation="relu6"),
    Conv2d(1, 7, 6, 5, 8, (3, 2), (1, 2), (0, 1, 1, 0), activation="relu", residual=True),
    Conv2d(2, 7, 5, 11, 11, (3, 5), (2, 1), (1, 2, 1, 2), groups=11, activation="hard_sigmoid", row_sums=True),
    Conv2d(1, 5, 4, 6, 4, (3, 3), (1, 1), (1, 1, 1, 1), groups=2),
    Conv2d(2, 3, 5, 7, 13, activation="relu", residual=True, activation_last=True),
    Conv2d(1, 9, 8, 5, 8, (3, 2), (1, 2), (2, 1, 1, 0), dilation=(2, 3), activation="relu6"),
    Conv2d(1, 7, 6, 6, 4, (3, 3), (1, 1), (2, 2, 2, 2), groups=2, dilation=(2, 2)),
    Conv2d(1, 7, 6, 5, 8, (3, 3), (1, 2), (2, 1, 2, 1), dilation=(2, 1)),
]
POOLS = [
    Pool2d("max", 2, 7, 5, 3, (3, 2), (2, 1), (1, 1, 0, 0), dilation=(2, 1)),
    Pool2d("average", 2, 7, 5, 3, (3, 2), (2, 1), (1, 1, 2, 0)),
    Pool2d("average", 2, 7, 5, 3, (3, 2), (2, 1), (1, 1, 2, 0), (1, 1, 1, 0)),
]
EXPANSIONS = [
    ExpandDepthwise(
        Conv2d(1, 5, 6, 3, 13, activation="silu"),
        Conv2d(1, 5, 6, 13, 13, (3, 3), (2, 2), (1, 1, 1, 1), groups=13, activation="silu", row_sums=True),
    ),
    ExpandDepthwise(
        Conv2d(2, 7, 9, 3, 13, (3, 3), (2, 2), (0, 1, 1, 0), data_layout="NCHW", activation="silu"),
        Conv2d(2, 3, 4, 13, 13, (3, 3), (1, 1), (1, 1, 1, 1), groups=13, activation="relu", row_sums=True),
    ),
]
_FIRST = Conv2d(2, 9, 7, 13, 13, (3, 3), (2, 2), (1, 1, 1, 1), groups=13, activation="silu", row_sums=True)
MIXED = MixedDepthwise(
    (_FIRST, replace(_FIRST, in_channels=8, out_channels=8, groups=8, kernel=(5, 5), padding=(1, 2, 3, 2)))
)
SOME: list[Workload] = [
    *CONVOLUTIONS,
    GlobalAveragePool(2, 3, 5, 7),
    ChannelScale(2, 3, 5, 7),
    *POOLS,
    Concat(2, 3, 5, (7, 2, 2)),
    Concat(2, 3, 5, (7, 2), affine=True, activation="relu"),
    SqueezeExcite(2, 3, 5, 19, 5, "silu", "sigmoid"),
    Interleave(2, 3, 5, 6, 2, (4, 8)),
    MIXED,
    *EXPANSIONS,
]


def valid(make: Callable[..., Workload], **fields: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Workloads of these fields, but for those that are refused."""

    def made(**values: Any) -> Workload | None:
        try:
            return make(**values)
        except AssertionError:
            return None

    return st.builds(made, **fields).filter(lambda workload: workload is not None)


_SIZES, _CHANNELS = st.integers(1, 12), st.integers(1, 40)
_PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4))
_PADDING = st.one_of(st.just((0, 0, 0, 0)), st.just((1, 1, 1, 1)), st.tuples(*[st.integers(0, 3)] * 4))
_DTYPES = st.sampled_from(FLOAT_TYPES)
_ACTIVATIONS = st.one_of(
    st.sampled_from(ACTIVATIONS),
    st.builds(leaky_relu, st.floats(width=32, allow_nan=False)),
    st.builds(clip, st.floats(width=32, allow_nan=False), st.floats(width=32, allow_nan=False)),
    st.builds(elu, st.floats(0, width=32)),
)
_IMAGE = {"batch": st.integers(1, 3), "height": _SIZES, "width": _SIZES}
_ENDS = {"activation": _ACTIVATIONS, "residual": st.booleans(), "activation_last": st.booleans(), "dtype": _DTYPES}
_WINDOW = {"kernel": _PAIRS, "stride": _PAIRS, "padding": _PADDING, "dilation": st.just((1, 1)) | _PAIRS}
_SHAPES = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=5).map(tuple), max_size=3).map(tuple)


def _convolution(**fields: Any) -> Conv2d:
    """`depth`: channels of a group where there are `groups` of them; None: every channel is one."""
    depth, groups = fields.pop("depth"), fields["groups"]
    if depth is None:
        return Conv2d(**fields | {"in_channels": groups, "out_channels": groups})
    return Conv2d(**fields | {"in_channels": groups * depth, "out_channels": groups * fields["out_channels"]})


_GROUPED = valid(
    _convolution,
    **_IMAGE,
    **_ENDS,
    **_WINDOW,
    out_channels=st.integers(1, 4),
    groups=st.integers(1, 12),
    depth=st.none() | st.integers(1, 3),
    data_layout=st.sampled_from(["NHWC", "NCHW"]),
    row_sums=st.booleans(),
)
_CONV2D = valid(
    Conv2d,
    **_IMAGE,
    **_ENDS,
    **_WINDOW,
    in_channels=_CHANNELS,
    out_channels=_CHANNELS,
    data_layout=st.sampled_from(["NHWC", "NCHW"]),
)
_MATRIX = valid(
    Conv2d,
    **_IMAGE,
    **_ENDS,
    in_channels=_CHANNELS,
    out_channels=_CHANNELS,
    stride=st.just((1, 1)) | _PAIRS,
    dilation=st.just((1, 1)) | _PAIRS,
    gated=st.booleans(),
    ahead=_SHAPES,
)


@st.composite
def _expansions(draw: st.DrawFn) -> ExpandDepthwise | None:
    image = {name: draw(strategy) for name, strategy in _IMAGE.items()}
    first = {**image, "in_channels": draw(_CHANNELS), "out_channels": draw(_CHANNELS), "activation": draw(_ACTIVATIONS)}
    dtype, ahead, stem = draw(_DTYPES), draw(_SHAPES), draw(st.booleans())
    window = {"kernel": (3, 3), "stride": (2, 2), "padding": draw(_PADDING), "data_layout": "NCHW"} if stem else {}
    try:
        expand = Conv2d(**first, **window, dtype=dtype)
        size = (expand.batch, expand.out_height, expand.out_width, expand.out_channels, expand.out_channels)
        depthwise = Conv2d(
            *size,
            **{name: draw(_WINDOW[name]) for name in ("kernel", "stride", "padding")},
            groups=expand.out_channels,
            activation=draw(_ACTIVATIONS),
            row_sums=draw(st.booleans()),
            dtype=dtype,
        )
        return ExpandDepthwise(expand, depthwise, () if stem else ahead)
    except AssertionError:
        return None


@st.composite
def _of_codes(draw: st.DrawFn) -> Workload | None:
    """A matrix product of codes, alone or before a depthwise convolution; one that makes codes of floats."""
    made = st.sampled_from([None, *CODE_TYPES])
    try:
        match draw(st.integers(0, 2)):
            case 0:
                types = {"dtype": draw(st.sampled_from([*CODE_TYPES])), "code_type": draw(made)}
                return replace(draw(_MATRIX), **types, residual_type=draw(made))
            case 1:
                return replace(draw(_GROUPED), code_type=draw(made))
        drawn = draw(_expansions().filter(lambda workload: workload is not None))
        depthwise = replace(drawn.depthwise, dtype="float32", code_type=draw(made))
        expand = replace(drawn.expand, dtype=draw(st.sampled_from([*CODE_TYPES])))
        return replace(drawn, expand=expand, depthwise=depthwise)
    except AssertionError:
        return None


#: Kernels that read or write whole-number codes.
CODES = _of_codes().filter(lambda workload: workload is not None)

#: Every kind has its own here.
RANDOM: dict[type[Workload], SearchStrategy[Any]] = {
    Conv2d: st.one_of(_MATRIX, _CONV2D, _GROUPED),
    ExpandDepthwise: _expansions().filter(lambda workload: workload is not None),
    GlobalAveragePool: valid(GlobalAveragePool, **_IMAGE, channels=_CHANNELS, dtype=_DTYPES),
    ChannelScale: valid(ChannelScale, **_IMAGE, channels=_CHANNELS, dtype=_DTYPES),
    SqueezeExcite: valid(
        SqueezeExcite,
        **_IMAGE,
        channels=_CHANNELS,
        squeezed=_CHANNELS,
        activation=_ACTIVATIONS,
        gate_activation=_ACTIVATIONS,
        dtype=_DTYPES,
    ),
    Pool2d: valid(
        Pool2d,
        mode=st.sampled_from(["max", "average"]),
        **_IMAGE,
        channels=_CHANNELS,
        **_WINDOW,
        counted=st.just((0, 0, 0, 0)) | _PADDING,
        dtype=_DTYPES,
    ),
    Concat: valid(
        Concat,
        **_IMAGE,
        parts=st.lists(st.sampled_from([1, 8, 24]), min_size=1, max_size=6).map(tuple),
        affine=st.booleans(),
        activation=_ACTIVATIONS,
        dtype=_DTYPES,
    ),
}


@st.composite
def _mixed(draw: st.DrawFn) -> MixedDepthwise | None:
    common = {name: draw(strategy) for name, strategy in _IMAGE.items()}
    common |= {"activation": draw(_ACTIVATIONS), "row_sums": draw(st.booleans()), "dtype": draw(_DTYPES)}
    stride = draw(_PAIRS)
    try:
        parts = []
        for channels in draw(st.lists(_CHANNELS, min_size=2, max_size=4)):
            kernel = draw(_PAIRS)
            top, left = (draw(st.integers(0, taps - 1)) for taps in kernel)
            # As much on both sides together keeps the image's size, whatever the kernel's.
            around = (top, left, kernel[0] - 1 - top, kernel[1] - 1 - left)
            parts.append(
                Conv2d(
                    **common,
                    in_channels=channels,
                    out_channels=channels,
                    groups=channels,
                    kernel=kernel,
                    stride=stride,
                    padding=around,
                )
            )
        return MixedDepthwise(tuple(parts))
    except AssertionError:
        return None


RANDOM[MixedDepthwise] = _mixed().filter(lambda workload: workload is not None)
RANDOM[Interleave] = st.builds(
    lambda count, shares, **rest: Interleave(
        channels=sum(shares), count=count, cuts=tuple(count * share for share in shares), **rest
    ),
    **_IMAGE,
    count=st.integers(2, 4),
    shares=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    dtype=_DTYPES,
)


def float32_bytes(workload: Workload) -> int:
    """What a workload's arguments take if every value takes four bytes."""
    return sum(4 * prod(argument.shape) for argument in (*workload.inputs, *workload.outputs))
