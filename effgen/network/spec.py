"""The declarative description of a baseline ConvNet: frozen data, read from TOML and validated strictly."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from effgen.errors import SpecError, candidates
from effgen.files.bounded import MOST_TOML_BYTES, UnreadableError, read_text, table_from_toml
from effgen.files.strict import StrictModel, first_problem
from effgen.words import ChannelOrder, Fit, Padding

Activation = Literal["silu", "relu", "relu6", "hard_swish"]
Gate = Literal["sigmoid", "hard_sigmoid"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
BlockKind = Literal[
    "mbconv", "fused_mbconv", "depthwise_separable", "conv", "bottleneck", "basic", "universal", "ghost"
]


def _odd(value: int) -> int:
    if value % 2 == 0:
        near = " or ".join(str(n) for n in (value - 1, value + 1) if 1 <= n <= 11)
        raise ValueError(f"expected an odd number from 1 to 11; did you mean {near}?")
    return value


KernelSize = Annotated[int, Field(ge=1, le=11), AfterValidator(_odd)]
Stride = Annotated[int, Field(ge=1, le=4)]
#: Channels of a tensor between layers, and repeats of a stage, at most.
MAX_CHANNELS = 65536
MAX_REPEATS = 512

#: Stages of a spec, rows of its published coefficients, and blocks of all stages together once they are scaled: ten
#: times as many as the deepest network published has.
MAX_STAGES, MAX_ROWS, MAX_BLOCKS = 64, 256, 1024

Channels = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
Multiplier = Annotated[float, Field(gt=0, le=64)]
Probability = Annotated[float, Field(ge=0, lt=1)]


#: A part of a colour.
_Tone = Annotated[int, Field(ge=0, le=255)]


class InputSpec(StrictModel):
    """The image: channels, resolution in pixels, and how a picture becomes one.

    `resolution` is the height and, unless `width` says another, the width; scaling keeps their ratio. A picture is
    resized to cover the image and `crop_padding` pixels more at the shorter side, and the middle cut out (`fit`
    "crop"); or resized to it whatever its shape ("stretch"); or to fit into it, between bars of the colour `fill`
    ("letterbox"). Then (pixel - mean) / std, with pixels from 0 to `pixel_range`; mean and std by the network's
    channels.
    """

    channels: Annotated[int, Field(ge=1, le=1024)] = 3
    resolution: Annotated[int, Field(ge=1, le=8192)] = 224
    mean: list[float] = [0.485, 0.456, 0.406]
    std: list[Annotated[float, Field(gt=0)]] = [0.229, 0.224, 0.225]
    interpolation: Interpolation = "bicubic"
    crop_padding: Annotated[int, Field(ge=0, le=8192)] = 0
    width: Annotated[int, Field(ge=1, le=8192)] | None = None
    channel_order: ChannelOrder = "rgb"
    pixel_range: Literal[1, 255] = 1
    fit: Fit = "crop"
    fill: Annotated[list[_Tone], Field(min_length=3, max_length=3)] = [0, 0, 0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.resolution, self.width or self.resolution

    @property
    def framing(self) -> dict[str, Any]:
        """What an ONNX file says beside mean and std, as `effgen.runtime.picture.Preparation` names it: resize, crop
        (pixels of a square's side, or height and width), interpolation, and what is not as usual."""
        sides = (self.size_of(self.crop_padding), self.size)
        resize, crop = (side if side[0] != side[1] else side[0] for side in sides)
        usual = {key: InputSpec.model_fields[key].default for key in ("channel_order", "pixel_range", "fit", "fill")}
        others = {key: value for key, default in usual.items() if (value := getattr(self, key)) != default}
        if "fill" in others:
            others["fill"] = tuple(self.fill)
        return {"resize": resize, "crop": crop, "interpolation": self.interpolation, **others}

    def size_of(self, padding: int) -> tuple[int, int]:
        """Height and width with so many pixels more at the shorter side, in proportion at the other."""
        shorter = min(self.size)
        height, width = (round(side * (shorter + padding) / shorter) for side in self.size)
        return height, width

    def resized(self, resolution: int) -> InputSpec:
        """The same image with this height, its shape kept."""
        width = None if self.width is None else max(1, round(self.width * resolution / self.resolution))
        return self.model_copy(update={"resolution": resolution, "width": width})


class NormSpec(StrictModel):
    """Batch normalisation. `momentum` is the share of the new batch (PyTorch's meaning)."""

    eps: Annotated[float, Field(gt=0, le=0.1)] = 1e-5
    momentum: Annotated[float, Field(gt=0, le=1)] = 0.1


class RoundingSpec(StrictModel):
    """How scaled channels and repeats become whole numbers."""

    channel_divisor: Annotated[int, Field(ge=1, le=64)] = 8
    min_fraction: Annotated[float, Field(ge=0, le=1)] = 0.9
    repeats: Literal["ceil", "round"] = "ceil"


class PublishedRow(StrictModel):
    """Coefficients of a released model; without `phi` it is reached by its name only."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    phi: Annotated[float, Field(ge=0)] | None = None
    width: Multiplier
    depth: Multiplier
    resolution: Annotated[int, Field(ge=1, le=8192)]
    dropout: Probability | None = None


class ScalingSpec(StrictModel):
    """alpha (depth), beta (width), gamma (resolution) of the paper's equation 3, and the published rows."""

    alpha: Annotated[float, Field(ge=1, le=4)] = 1.2
    beta: Annotated[float, Field(ge=1, le=4)] = 1.1
    gamma: Annotated[float, Field(ge=1, le=4)] = 1.15
    published: Annotated[list[PublishedRow], Field(max_length=MAX_ROWS)] = []


class SqueezeExciteSpec(StrictModel):
    """Squeeze-excite: hidden channels are `ratio` of the block's input or of its expanded channels.

    They are a multiple of `divisor` that is not below `min_fraction` of what the ratio says (MobileNetV3: 8, 0.9).
    """

    ratio: Annotated[float, Field(gt=0, le=1)]
    of: Literal["input", "expanded"] = "input"
    divisor: Annotated[int, Field(ge=1, le=64)] = 1
    min_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    activation: Activation | None = None
    gate: Gate = "sigmoid"


class MaxPoolSpec(StrictModel):
    """The maximum over windows; padded as convolutions are."""

    kernel: KernelSize = 3
    stride: Stride = 2


class StemSpec(StrictModel):
    """The first convolution, and the max pooling behind it where there is one (ResNet).

    `scale_width = false` keeps its channels at every phi.
    """

    kernel: KernelSize = 3
    stride: Stride = 2
    channels: Channels
    activation: Activation | None = None
    max_pool: MaxPoolSpec | None = None
    scale_width: bool = True


class StageSpec(StrictModel):
    """A row of the paper's Table 1: the first block has `stride`, all share the rest.

    `expand_ratio` is of the block's input channels, or of its output channels (`expand_of`); at ratio 1 there is no
    expansion unless `always_expand` says so (FBNet). `more_kernels` are the depthwise windows of further parts of the
    channels, and `expand_groups` and `project_groups` the parts that 1x1 convolutions take apart (MixNet).
    `bottleneck_ratio` is of the output channels (ResNet-50: 64 of 256); its window has groups of `group_width` channels
    where that is stated (RegNet). `linear = false` puts an activation behind a depthwise separable block's pointwise
    convolution (MobileNetV1). `start_kernel` is the depthwise window before a universal block's expansion, `kernel` the
    one behind it, and 1 means that there is none (MobileNetV4).
    Which keys a block kind takes is in `KEYS_OF_BLOCKS`.
    """

    block: BlockKind
    kernel: KernelSize
    stride: Stride
    channels: Channels
    repeats: Annotated[int, Field(ge=1, le=MAX_REPEATS)]
    expand_ratio: Annotated[float, Field(gt=0, le=16)] = 1.0
    expand_of: Literal["input", "output"] = "input"
    always_expand: bool = False
    more_kernels: Annotated[list[KernelSize], Field(max_length=8)] = []
    expand_groups: Annotated[int, Field(ge=1, le=64)] = 1
    project_groups: Annotated[int, Field(ge=1, le=64)] = 1
    start_kernel: KernelSize = 1
    bottleneck_ratio: Annotated[float, Field(gt=0, le=4)] = 0.25
    group_width: Channels | None = None
    squeeze_excite: SqueezeExciteSpec | None = None
    linear: bool = True
    activation: Activation | None = None
    skip: bool = True
    scale_width: bool = True
    scale_depth: bool = True


#: The keys that only some block kinds have; elsewhere they keep their defaults.
KEYS_OF_BLOCKS: Mapping[str, tuple[BlockKind, ...]] = {
    "expand_ratio": ("mbconv", "fused_mbconv", "universal", "ghost"),
    "expand_of": ("mbconv", "fused_mbconv", "universal", "ghost"),
    "always_expand": ("mbconv",),
    "more_kernels": ("mbconv",),
    "expand_groups": ("mbconv",),
    "project_groups": ("mbconv",),
    "squeeze_excite": ("mbconv", "fused_mbconv", "depthwise_separable", "bottleneck", "ghost"),
    "linear": ("depthwise_separable",),
    "start_kernel": ("universal",),
    "bottleneck_ratio": ("bottleneck",),
    "group_width": ("bottleneck",),
}


class HeadSpec(StrictModel):
    """The 1x1 convolution before pooling; or `after_pool`, then with a bias and no batch norm (MobileNetV3), unless
    `norm` says that it has one instead (MobileNetV4)."""

    channels: Channels
    after_pool: bool = False
    norm: bool = False
    activation: Activation | None = None
    scale_width: bool = True


class ClassifierSpec(StrictModel):
    """The linear layer; dropout acts in training only and is kept for the record."""

    classes: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    dropout: Probability = 0.0


class NetworkSpec(StrictModel):
    """A baseline, or what scaling made of one: the same fields, with whole channels and repeats."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
    activation: Activation
    padding: Padding = "symmetric"
    input: InputSpec = InputSpec()
    norm: NormSpec = NormSpec()
    rounding: RoundingSpec = RoundingSpec()
    scaling: ScalingSpec = ScalingSpec()
    stem: StemSpec
    stages: Annotated[list[StageSpec], Field(min_length=1, max_length=MAX_STAGES)]
    head: HeadSpec | None = None
    classifier: ClassifierSpec = ClassifierSpec()

    @property
    def total_stride(self) -> int:
        """How many input pixels one cell of the last feature map stands for, along one side."""
        stride = self.stem.stride * (self.stem.max_pool.stride if self.stem.max_pool else 1)
        for stage in self.stages:
            stride *= stage.stride
        return stride


def shipped_spec_names() -> list[str]:
    """Names that `load_spec` takes beside paths."""
    folder = resources.files("effgen.network.specs")
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


def load_spec(name_or_path: str) -> NetworkSpec:
    """Read a shipped family by name, or a user's baseline by path (anything with a `/` or ending in `.toml`).

    Raises SpecError with one line: file, key, value found, what was expected.
    """
    if name_or_path.endswith(".toml") or "/" in name_or_path:
        path = Path(name_or_path)
        try:
            return parse_spec(read_text(path, MOST_TOML_BYTES), where=str(path))
        except UnreadableError as error:
            raise SpecError(f"{path}: cannot read the spec: {error}") from None
    if name_or_path not in shipped_spec_names():
        known = candidates(name_or_path, shipped_spec_names())
        raise SpecError(f"--spec {name_or_path}: unknown family; {known}; or give the path of a .toml file")
    text = (resources.files("effgen.network.specs") / f"{name_or_path}.toml").read_text(encoding="utf-8")
    return parse_spec(text, where=f"specs/{name_or_path}.toml")


def parse_spec(text: str, where: str) -> NetworkSpec:
    """Validate the TOML `text`; `where` names its origin in error messages."""
    try:
        data = table_from_toml(text)
    except UnreadableError as error:
        raise SpecError(f"{where}: not valid TOML: {error}") from None
    try:
        spec = NetworkSpec.model_validate(data)
    except ValidationError as error:
        raise SpecError(f"{where}: {first_problem(error, NetworkSpec)}") from None
    _check_whole(spec, where)
    return spec


def _check_whole(spec: NetworkSpec, where: str) -> None:
    """Rules that span several keys."""
    for key in ("mean", "std"):
        values = getattr(spec.input, key)
        if len(values) != spec.input.channels:
            raise SpecError(
                f"{where}: input.{key} = {values}: expected one number for each of the {spec.input.channels} channels"
            )
    if spec.input.fit != "crop" and spec.input.crop_padding:
        raise SpecError(
            f"{where}: input.crop_padding = {spec.input.crop_padding}: nothing is cut off by fit = "
            f'"{spec.input.fit}"; leave it out'
        )
    for index, stage in enumerate(spec.stages):
        _check_keys_of_block(stage, f"{where}: stages[{index}]")
    for key in ("name", "phi"):
        seen = [value for row in spec.scaling.published if (value := getattr(row, key)) is not None]
        twice = [value for value in seen if seen.count(value) > 1]
        if twice:
            raise SpecError(f"{where}: scaling.published: {key} = {twice[0]} stands twice; expected one row for each")
    for key, pixels in zip(("resolution", "width"), spec.input.size, strict=True):
        if pixels < spec.total_stride:
            raise SpecError(
                f"{where}: input.{key} = {pixels}: expected at least the network's total stride, {spec.total_stride}"
            )


def _check_keys_of_block(stage: StageSpec, where: str) -> None:
    for key, kinds in KEYS_OF_BLOCKS.items():
        if stage.block not in kinds and getattr(stage, key) != StageSpec.model_fields[key].default:
            raise SpecError(f"{where}.{key}: a {stage.block} block has none; expected it in {', '.join(kinds)} only")
