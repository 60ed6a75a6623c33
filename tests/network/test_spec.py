"""Specs are read strictly, and what is wrong with one is said in one line."""

import math
from pathlib import Path

import pytest
from networks import TINY, edited, tiny_spec

from effgen.errors import SpecError
from effgen.network.build import network_from_spec
from effgen.network.spec import load_spec, parse_spec, shipped_spec_names


def message_of(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, where="mine.toml")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("mine.toml: ")
    return message.removeprefix("mine.toml: ")


def stage(number: int, old: str, new: str) -> str:
    """TINY with `old` replaced in stage `number`."""
    parts = TINY.split("[[stages]]")
    assert old in parts[number + 1]
    parts[number + 1] = parts[number + 1].replace(old, new, 1)
    return "[[stages]]".join(parts)


def case_id(value: str) -> str:
    """Short test ids: the message, not the TOML."""
    return "toml" if "\n" in value else value[:40]


SHIPPED = ["efficientnet", "efficientnet_edgetpu", "efficientnet_lite", "efficientnet_v2_b", "efficientnet_v2_s"]
SHIPPED += ["fbnet_c", "ghostnet", "lcnet", "mixnet_s", "mnasnet_a1", "mnasnet_b1", "mobilenet_v1", "mobilenet_v2"]
SHIPPED += ["mobilenet_v3_large", "mobilenet_v3_large_minimal", "mobilenet_v3_small", "mobilenet_v3_small_minimal"]
SHIPPED += ["mobilenet_v4_conv_medium", "mobilenet_v4_conv_small", "regnet_x_002", "regnet_x_004", "regnet_y_002"]
SHIPPED += ["regnet_y_004", "resnet18", "resnet34", "resnet50", "tinynet"]


def test_the_shipped_families_load() -> None:
    assert shipped_spec_names() == SHIPPED
    assert [load_spec(name).name for name in SHIPPED] == SHIPPED
    spec = load_spec("efficientnet")
    assert [s.repeats for s in spec.stages] == [1, 2, 2, 3, 3, 4, 1]
    assert [s.channels for s in spec.stages] == [16, 24, 40, 80, 112, 192, 320]
    assert [s.kernel for s in spec.stages] == [3, 3, 5, 3, 5, 5, 3]
    assert spec.total_stride == 32


def test_defaults_are_filled_in() -> None:
    spec = tiny_spec()
    assert (spec.norm.eps, spec.padding, spec.rounding.channel_divisor) == (1e-5, "symmetric", 8)
    assert spec.stages[0].expand_ratio == 1
    assert spec.stages[2].squeeze_excite is None
    assert spec.classifier.dropout == 0


def test_a_path_is_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TINY, encoding="utf-8")
    assert load_spec(str(path)) == tiny_spec()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            stage(1, "kernel = 5", "kernel = 4"),
            "stages[1].kernel = 4: expected an odd number from 1 to 11; did you mean 3 or 5?",
        ),
        (stage(0, "kernel = 3", "kernel = 13"), "stages[0].kernel = 13: expected less than or equal to 11"),
        (stage(0, "kernel = 3", 'kernel = "3"'), "stages[0].kernel = '3': expected a valid integer"),
        (stage(0, "kernel = 3", "kernel = 3.0"), "stages[0].kernel = 3.0: expected a valid integer"),
        (stage(2, "repeats = 1", "repeats = 0"), "stages[2].repeats = 0: expected greater than or equal to 1"),
        (stage(2, "repeats = 1", ""), "stages[2].repeats: missing; add it"),
        (stage(0, "ratio = 0.25", "ratio = nan"), "stages[0].squeeze_excite.ratio = nan: expected a finite number"),
        (
            stage(0, "squeeze_excite = { ratio = 0.25 }", "squeeze_excite = 4"),
            "stages[0].squeeze_excite = 4: expected a table",
        ),
        (
            edited(TINY, activation='"gelu"'),
            "activation = 'gelu': expected 'silu', 'relu', 'relu6' or 'hard_swish'",
        ),
        (edited(TINY, name='"My Net"'), "name = 'My Net': expected to match pattern '^[a-z][a-z0-9_]*$'"),
        (edited(TINY, classes="0"), "classifier.classes = 0: expected greater than or equal to 1"),
        (
            edited(TINY, resolution="4"),
            "input.resolution = 4: expected at least the network's total stride, 8",
        ),
        (
            edited(TINY, resolution="32\nchannels = 1"),
            "input.mean = [0.485, 0.456, 0.406]: expected one number for each of the 1 channels",
        ),
        (edited(TINY, resolution="32\nstd = [1, 0, 1]"), "input.std[1] = 0: expected greater than 0"),
        (edited(TINY, resolution="32\nmean = [1, inf, 1]"), "input.mean[1] = inf: expected a finite number"),
        (
            edited(TINY, resolution='32\ninterpolation = "cubic"'),
            "input.interpolation = 'cubic': expected 'nearest', 'bilinear', 'bicubic' or 'lanczos'",
        ),
        (
            edited(TINY, resolution='32\nfit = "stretch"\ncrop_padding = 4'),
            'input.crop_padding = 4: nothing is cut off by fit = "stretch"; leave it out',
        ),
        (edited(TINY, resolution="32\nwidth = 7"), "input.width = 7: expected at least the network's total stride, 8"),
        (edited(TINY, resolution="32\nfill = [0, 0, 256]"), "input.fill[2] = 256: expected less than or equal to 255"),
        (edited(TINY, resolution="32\npixel_range = 2"), "input.pixel_range = 2: expected 1 or 255"),
        (
            edited(TINY, resolution="32\ncrop_padding = -1"),
            "input.crop_padding = -1: expected greater than or equal to 0",
        ),
    ],
    ids=case_id,
)
def test_a_bad_value_is_named_with_what_was_expected(text: str, message: str) -> None:
    assert message_of(text) == message


def test_no_stages() -> None:
    text = edited(TINY, activation='"silu"\nstages = []')
    head = text[text.index("[head]") :]
    found = message_of(text.split("[[stages]]")[0] + head)
    assert found == "stages = []: expected to have at least 1 item"


@pytest.mark.parametrize(
    ("text", "near"),
    [
        (edited(TINY, activation='"silu"\npading = "same"'), "pading: unknown key; did you mean padding?"),
        (stage(1, "stride = 2", "stride = 2\nkernels = 3"), "stages[1].kernels: unknown key; did you mean kernel?"),
        (
            stage(1, "ratio = 0.25", "ratio = 0.25, gates = 'sigmoid'"),
            "stages[1].squeeze_excite.gates: unknown key; did you mean gate?",
        ),
    ],
    ids=case_id,
)
def test_an_unknown_key_lists_the_known_ones(text: str, near: str) -> None:
    found = message_of(text)
    assert found.startswith(near)
    assert "known: activation, " in found


def test_further_problems_are_counted() -> None:
    text = edited(edited(TINY, classes="0"), resolution="0")
    assert message_of(text).endswith("(and 1 more)")


def test_a_long_value_does_not_flood_the_message() -> None:
    assert len(message_of(edited(TINY, activation=f'"{"x" * 5000}"'))) < 200


def test_text_that_is_not_toml() -> None:
    assert message_of("name = ").startswith("not valid TOML: ")


def test_a_key_given_twice_is_not_toml() -> None:
    assert message_of(edited(TINY, activation='"silu"\nactivation = "relu"')).startswith("not valid TOML: ")


ROWS = """
[scaling]
published = [
    {{ name = "b0", phi = 0, width = 1.0, depth = 1.0, resolution = 32 }},
    {{ name = "{name}", phi = {phi}, width = 1.0, depth = 1.0, resolution = 32 }},
]
"""


def test_published_rows_are_unique() -> None:
    assert message_of(TINY + ROWS.format(name="b0", phi=1)) == (
        "scaling.published: name = b0 stands twice; expected one row for each"
    )
    assert message_of(TINY + ROWS.format(name="b1", phi=0)) == (
        "scaling.published: phi = 0.0 stands twice; expected one row for each"
    )
    assert math.isclose(parse_spec(TINY + ROWS.format(name="b1", phi=1.5), "x").scaling.published[1].phi or 0, 1.5)


def test_an_unknown_family_lists_the_known_ones() -> None:
    with pytest.raises(SpecError) as caught:
        load_spec("efficientnets")
    assert str(caught.value) == (
        f"--spec efficientnets: unknown family; did you mean efficientnet? known: {', '.join(SHIPPED)}; "
        "or give the path of a .toml file"
    )


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.toml: cannot read the spec: No such file or directory$"):
        load_spec(str(tmp_path / "none.toml"))
    with pytest.raises(SpecError, match=r"cannot read the spec: Is a directory$"):
        load_spec(f"{tmp_path}/")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match=r"cannot read the spec: not UTF-8 text$"):
        load_spec(str(binary))


@pytest.mark.parametrize(
    ("block", "key", "message"),
    [
        (
            "conv",
            "expand_ratio = 4",
            "expand_ratio: a conv block has none; expected it in mbconv, fused_mbconv, universal, ghost only",
        ),
        (
            "basic",
            "squeeze_excite = { ratio = 0.25 }",
            "squeeze_excite: a basic block has none; "
            "expected it in mbconv, fused_mbconv, depthwise_separable, bottleneck, ghost only",
        ),
        ("basic", "group_width = 8", "group_width: a basic block has none; expected it in bottleneck only"),
        ("ghost", "start_kernel = 3", "start_kernel: a ghost block has none; expected it in universal only"),
        ("mbconv", "linear = false", "linear: a mbconv block has none; expected it in depthwise_separable only"),
        (
            "fused_mbconv",
            "bottleneck_ratio = 0.5",
            "bottleneck_ratio: a fused_mbconv block has none; expected it in bottleneck only",
        ),
    ],
)
def test_a_key_of_another_block_kind_is_refused(block: str, key: str, message: str) -> None:
    text = stage(2, 'block = "mbconv"\nexpand_ratio = 2', f'block = "{block}"\n{key}')
    assert message_of(text) == f"stages[2].{message}"


def test_a_max_pool_counts_in_the_total_stride() -> None:
    text = edited(TINY, channels="8\nmax_pool = { stride = 4 }")
    assert parse_spec(text, "mine.toml").total_stride == 32
    assert message_of(edited(text, resolution="31")).endswith("at least the network's total stride, 32")


#: A stage of 512 blocks.
DEEP = '[[stages]]\nblock = "conv"\nkernel = 3\nstride = 1\nchannels = 8\nrepeats = 512\n'
WIDEST = "channels = 65536"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TINY.replace("[head]", DEEP * 10_000 + "[head]"), "larger than 256 KiB, which is the most that is read here"),
        (TINY.replace("[head]", DEEP * 100 + "[head]"), "expected to have at most 64 items"),
        (TINY.replace("[head]", DEEP * 3 + "[head]"), "tiny: 1540 blocks in all stages: expected at most 1024"),
        (edited(TINY, resolution="8192").replace("channels = 24", WIDEST), " numbers an image: expected at"),
        (TINY.replace("channels = 32", WIDEST).replace("channels = 24", WIDEST), " parameters: "),
        ("a = " + "[" * 500 + "]" * 500, "not valid TOML: nested more than 32 deep"),
        (edited(TINY, classes="9" * 1500), "not valid TOML: holds a whole number of more than 64 bits"),
        (edited(TINY, classes="0x" + "f" * 1500), "not valid TOML: holds a whole number of more than 64 bits"),
    ],
    ids=["bytes", "stages", "blocks", "activations", "parameters", "depth", "digits", "hexadecimal"],
)  # fmt: skip
def test_more_than_any_network_has(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        network_from_spec(parse_spec(text, "mine.toml"))
    assert message in str(caught.value) and "\n" not in str(caught.value)
