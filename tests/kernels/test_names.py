"""Printed names are read back as what they were made of, so that records and tables need nothing else."""

import re
from dataclasses import replace
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workloads import CODES, RANDOM, SOME

from effgen.kernels.kinds import kinds, workload_from_name
from effgen.kernels.kinds.channel_scale import ChannelScale
from effgen.kernels.kinds.conv2d import Conv2d
from effgen.kernels.kinds.expand_depthwise import ExpandDepthwise
from effgen.kernels.kinds.global_average_pool import GlobalAveragePool
from effgen.kernels.kinds.squeeze_excite import SqueezeExcite
from effgen.kernels.workload import FLOAT_TYPES, NUMBER_TYPES, Workload
from effgen.records.shipped import shipped_records

PLAIN = Conv2d(1, 56, 56, 24, 144)
DEPTHWISE = Conv2d(1, 56, 56, 144, 144, (5, 5), (2, 2), (2, 2, 2, 2), groups=144, activation="silu")
STEM = Conv2d(1, 224, 224, 3, 32, (3, 3), (2, 2), (1, 1, 1, 1), data_layout="NCHW", activation="silu")


def test_every_kind_is_found_by_its_file() -> None:
    files = {file.name for file in resources.files("effgen.kernels.kinds").iterdir() if file.name.endswith(".py")}
    assert {f"{kind.__module__.rsplit('.', 1)[1]}.py" for kind in kinds()} == files - {"__init__.py"}
    assert set(kinds()) == set(RANDOM)


@pytest.mark.parametrize("kind", RANDOM, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_names_say_everything(kind: type[Workload], data: st.DataObject) -> None:
    """No two workloads have one name then."""
    workload = data.draw(RANDOM[kind])
    assert re.fullmatch("[A-Za-z][A-Za-z0-9_]*", workload.name)
    assert workload_from_name(workload.name) == workload


@given(CODES)
def test_names_of_codes_say_everything(workload: Workload) -> None:
    assert re.fullmatch("[A-Za-z][A-Za-z0-9_]*", workload.name)
    assert workload_from_name(workload.name) == workload


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
@pytest.mark.parametrize("workload", SOME, ids=lambda workload: workload.name)
def test_the_type_is_part_of_the_name(workload: Workload, dtype: str) -> None:
    typed = workload.with_dtype(dtype)
    assert typed.dtype == dtype and typed.name.split("_", 1) == [
        NUMBER_TYPES[dtype].short,
        workload.name.split("_", 1)[1],
    ]
    assert workload_from_name(typed.name) == typed


@pytest.mark.parametrize("record_set", ["x86-64-v3", "x86-64-v4"])
def test_shipped_records_can_be_read(record_set: str) -> None:
    names = {record.kernel for record in shipped_records(record_set, "zen4").records}
    found = {name: workload_from_name(name) for name in names}
    assert len(found) > 300 and all(workload is not None and workload.name == name for name, workload in found.items())


def test_shapes_asked_for_ahead_are_read_back() -> None:
    plain = Conv2d(1, 7, 7, 96, 24)
    ahead = plain.with_ahead(((18, 1, 1, 40, 16), (3, 5, 5, 8)))
    assert ahead.name == "f32_pointwise_m49_k96_n24_ahead_w18x1x1x40x16_w3x5x5x8"
    assert workload_from_name(ahead.name) == ahead != plain == ahead.without_ahead


@pytest.mark.parametrize(
    "name",
    [
        "",
        "f32",
        "fused_relu",
        "f64_scale_c8_h7",
        "f32_scale_c8_h7_b1",  # the usual is not said
        "f32_scale_c8_h7w7",
        "f32_scale_c08_h7",
        "f32_scale_c8_h0",
        "f32_scale_c8_h7_",
        "f32_scale_c8_h7_1",  # another of the same name in one library
        "f32_scale_c8_h\N{ARABIC-INDIC DIGIT SEVEN}",
        "f32_concat_c8_c8_h7",
        "f32_pointwise_m7_k8_n8",  # of no square
        "f32_pointwise_m49_k8_n8_silu_res_relu",
        "f32_conv2d_k3s1_i8o8_h3_p1x1",
        "f32_conv2d_k9s1_i8o8_h3_p0x0x0x0",  # larger than the image
        "f32_dwconv2d_k3s1_c8_h7_gated",
        "f32_expand_k8_dwconv2d",
        "f32_expand_k8_dwconv2d_k3s1_c8_h7_res",
        "f32_pointwise_m49_k96_n24_ahead216x864",  # in KiB, as it once was
    ],
)
def test_other_names_are_nobodys(name: str) -> None:
    assert workload_from_name(name) is None


def test_a_name_with_other_words_is_another_kernel() -> None:
    scale = ChannelScale(2, 7, 9, 1152)
    assert workload_from_name("f32_scale_c1152_h7w9_b2") == scale
    assert workload_from_name("f32_avgpool_c1152_h7w9_b2") != scale
    assert workload_from_name("f16_scale_c1152_h7w9_b2") == replace(scale, dtype="float16")


def variants(base: Conv2d) -> list[Conv2d]:
    changes: list[dict[str, object]] = [
        {},
        {"batch": 2},
        {"batch": 4, "height": base.height // 2, "width": base.width // 2},  # as many rows as the base
        {"height": base.height * 2, "width": base.width // 2},
        {"width": base.width * 2},
        {"stride": (1, 2)},
        {"stride": (2, 1)},
        {"padding": (0, 0, 1, 1)},
        {"padding": (1, 1, 0, 0)},
        {"activation": "sigmoid"},
        {"residual": True},
        {"residual": True, "activation": "relu"},
        {"residual": True, "activation": "relu", "activation_last": True},
        {"data_layout": "NCHW"},
    ]
    return [replace(base, **change) for change in changes]  # type: ignore[arg-type]


def expansions(depthwise: Conv2d) -> list[ExpandDepthwise]:
    if depthwise.residual:
        return []
    expand = Conv2d(depthwise.batch, depthwise.height, depthwise.width, 24, depthwise.in_channels)
    changed = (expand, replace(expand, in_channels=16), replace(expand, activation="silu"))
    return [ExpandDepthwise(first, depthwise) for first in changed]


def test_names_are_unique() -> None:
    bases = [PLAIN, DEPTHWISE, STEM, Conv2d(1, 1, 1, 24, 144), Conv2d(1, 56, 56, 144, 144, (3, 3), groups=2)]
    workloads: set[Workload] = set()
    for base in bases:
        small = base if base.height > 1 else replace(base, height=2, width=2)
        workloads |= {base, *variants(small), *variants(replace(small, batch=3))}
    workloads |= {replace(w, gated=True) for w in workloads if isinstance(w, Conv2d) and w.family == "pointwise"}
    depthwise = [replace(w, row_sums=True) for w in workloads if isinstance(w, Conv2d) and w.family == "depthwise"]
    workloads |= {*depthwise, *(w for conv in depthwise for w in expansions(conv))}
    workloads |= {
        SqueezeExcite(batch, height, width, channels, squeezed, activation, gate)
        for batch, height, width in ((1, 4, 4), (2, 4, 4), (1, 2, 8), (1, 4, 8))
        for channels, squeezed in ((96, 4), (96, 24), (24, 4))
        for activation, gate in (("silu", "sigmoid"), ("relu", "sigmoid"), ("relu", "hard_sigmoid"))
    }  # type: ignore[arg-type]
    for kind in (GlobalAveragePool, ChannelScale):
        workloads |= {kind(b, h, w, 96) for b in (1, 2, 4) for h in (2, 4, 8) for w in (2, 4, 8)}
    names = {workload.name for workload in workloads}
    assert len(names) == len(workloads)
