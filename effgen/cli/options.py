"""Options that several commands share, and how they become requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from effgen.cli.groups import Only
from effgen.words import ChannelOrder, Engine, Fit, Law, Padding, Route

if TYPE_CHECKING:
    from effgen.graph.sizes import Sizes
    from effgen.network import NetworkRequest
    from effgen.network.file_network import OnnxRequest
    from effgen.network.preparation import PictureOptions
    from effgen.network.weight_sets import WeightsChoice


_NETWORK = "Network"

Spec = Annotated[
    str,
    typer.Option(metavar="NAME|FILE", help="A shipped family, or a .toml file of your own.", rich_help_panel=_NETWORK),
]
Phi = Annotated[
    str,
    typer.Option(
        metavar="NUMBER|ROW",
        help="The compound coefficient: 3 is B3; or a published row by name (b8, l2).",
        rich_help_panel=_NETWORK,
    ),
]
LawOption = Annotated[
    Law,
    typer.Option(
        "--law",
        help="Coefficients as published, or by the formula (depth alpha^phi, width beta^phi, resolution gamma^phi), "
        "which a phi without a published row uses in any case.",
        rich_help_panel=_NETWORK,
    ),
]
Width = Annotated[float | None, typer.Option(help="Width multiplier, by hand.", rich_help_panel=_NETWORK)]
Depth = Annotated[float | None, typer.Option(help="Depth multiplier, by hand.", rich_help_panel=_NETWORK)]
Resolution = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS|HxW|FACTORx",
        help="Input resolution, by hand: pixels, height and width (160x320), or a multiple of the baseline's own at "
        "phi 0 (2x, 1.3x).",
        rich_help_panel=_NETWORK,
    ),
]
Classes = Annotated[
    int | None, typer.Option(min=1, max=1_000_000, help="Classes of the classifier.", rich_help_panel=_NETWORK)
]
StemChannels = Annotated[
    int | None, typer.Option(min=1, help="Channels of the first convolution, by hand.", rich_help_panel=_NETWORK)
]
HeadChannels = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Channels of the head, by hand; many released networks keep 1280 at widths below 1.",
        rich_help_panel=_NETWORK,
    ),
]
Batch = Annotated[int, typer.Option(help="Images a call.", rich_help_panel=_NETWORK)]
NormEps = Annotated[
    str | None,
    typer.Option(
        metavar="pytorch|tensorflow|NUMBER",
        help="Batch-norm epsilon; it is not in a checkpoint (torchvision B0-B4 1e-5, B5-B7 and TensorFlow 1e-3).",
        rich_help_panel=_NETWORK,
    ),
]
PaddingOption = Annotated[
    Padding | None,
    typer.Option(
        "--padding", help="symmetric as PyTorch, same as TensorFlow; not in a checkpoint.", rich_help_panel=_NETWORK
    ),
]

_FILE = "A network of an ONNX file"

Onnx = Annotated[
    Path | None,
    typer.Option("--onnx", metavar="FILE", help="An ONNX file of a ConvNet, instead of a spec.", rich_help_panel=_FILE),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBERS",
        help="What is taken from its pixels, by channel: of 0 to 1, or of 0 to 255 where one is above 1; default: what "
        "the file's metadata says, else ImageNet's.",
        rich_help_panel=_FILE,
    ),
]
Std = Annotated[
    str | None,
    typer.Option(metavar="NUMBERS", help="What they are divided by then; default as --mean.", rich_help_panel=_FILE),
]
PixelRange = Annotated[
    Literal["1", "255"] | None,
    typer.Option(
        help="Its pixels reach from 0 to this, and mean and std are of such; with 255 and neither of these, pixels are "
        "taken as they are.",
        rich_help_panel=_FILE,
    ),
]
ChannelOrderOption = Annotated[
    ChannelOrder | None,
    typer.Option("--channel-order", help="The order of its channels; default: rgb.", rich_help_panel=_FILE),
]
FitOption = Annotated[
    Fit | None,
    typer.Option(
        "--fit",
        help="How a picture becomes its image: the middle of it, all of it out of shape, or all of it between bars; "
        "default: crop, of an image that is no square stretch.",
        rich_help_panel=_FILE,
    ),
]
Fill = Annotated[
    str | None,
    typer.Option(metavar="COLOUR", help="Of a letterbox's bars: a grey, or red,green,blue.", rich_help_panel=_FILE),
]
ResizeOption = Annotated[
    int | None,
    typer.Option(
        "--resize",
        metavar="PIXELS",
        help="The picture's shorter side, before its middle is cut out; default: 8/7 of the image's.",
        rich_help_panel=_FILE,
    ),
]
InterpolationOption = Annotated[
    Literal["nearest", "bilinear", "bicubic", "lanczos"] | None,
    typer.Option("--interpolation", help="How a picture is resized; default: bilinear.", rich_help_panel=_FILE),
]

Outputs = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Which outputs, or tensors inside, with commas between; default: all outputs.",
        rich_help_panel=_FILE,
    ),
]

InputShape = Annotated[
    str | None,
    typer.Option(
        metavar="NAME:SIZES",
        help="Sizes of its input that the file leaves open, e.g. x:1,3,48,192; --resolution: height and width alone.",
        rich_help_panel=_FILE,
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Checkpoint of effgen train, torchvision, timm, efficientnet_pytorch or a training script that uses them; "
        "default: random.",
    ),
]
WeightsKey = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Which of several sets of weights in --weights; default: averaged ones (EMA) before others.",
    ),
]
Rename = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OLD=NEW",
        help="Change names in --weights first: a regular expression and what takes its place; again for more.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of random weights.")]
Target = Annotated[
    str, typer.Option(metavar="NAME|FILE", help="The machine: cpu is this one; or a .toml file of your own.")
]
Dtype = Annotated[
    Literal["float32", "float16"],
    typer.Option("--dtype", help="Activations and weights; float16 on GPUs, with float32 sums."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists at the output path.")]
Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A directory that effgen compile wrote.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads of a call; default: this process's physical cores, within its quota.")
]
BundleThreads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Threads of a call; default: what the bundle was compiled for, at most the physical cores here.",
    ),
]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the report as JSON; - is standard output, and nothing else."),
]
Database = Annotated[
    Path | None,
    typer.Option("--db", metavar="FILE", help="The database of tuning records; default: the user's own."),
]
_ELSEWHERE = "Measuring elsewhere"

EngineOption = Annotated[
    Engine,
    typer.Option(
        "--engine", help="What searches: effgen in its rules' spaces, or TVM's MetaSchedule; records go to one place."
    ),
]
MeasureOption = Annotated[
    Route | None,
    typer.Option(
        "--measure", help="Where kernels are measured; default: as the target says.", rich_help_panel=_ELSEWHERE
    ),
]
RpcTracker = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="The tracker that knows the devices.", rich_help_panel=_ELSEWHERE),
]
RpcKey = Annotated[
    str | None,
    typer.Option(help="The devices' key at the tracker; default: the target's.", rich_help_panel=_ELSEWHERE),
]
RpcDevices = Annotated[
    int | None,
    typer.Option(metavar="N", help="At most so many devices at once; default: all.", rich_help_panel=_ELSEWHERE),
]
OfflineOut = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Write a folder of candidates to carry to the machine.", rich_help_panel=_ELSEWHERE
    ),
]
OfflineIn = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Read the results.jsonl that came back from it.", rich_help_panel=_ELSEWHERE),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More of what happens.")]


@dataclass(frozen=True)
class NetworkOptions:
    """Which network: one of a spec, or one of a file."""

    spec: Spec = "efficientnet"
    phi: Phi = "0"
    law: LawOption = "published"
    width: Width = None
    depth: Depth = None
    resolution: Resolution = None
    classes: Classes = None
    batch: Batch = 1
    norm_eps: NormEps = None
    padding: PaddingOption = None
    stem_channels: StemChannels = None
    head_channels: HeadChannels = None
    onnx: Onnx = None
    mean: Mean = None
    std: Std = None
    outputs: Outputs = None
    input_shape: InputShape = None
    pixel_range: PixelRange = None
    channel_order: ChannelOrderOption = None
    fit: FitOption = None
    fill: Fill = None
    resize: ResizeOption = None
    interpolation: InterpolationOption = None

    def of_spec(self) -> NetworkRequest:
        """The network of a spec as a request. Raises SpecError for an epsilon or a resolution that is none."""
        from effgen.network import NetworkRequest, norm_eps_from_text, resolution_from_text, sides_from_text
        from effgen.network.scaling import Overrides

        eps = None if self.norm_eps is None else norm_eps_from_text(self.norm_eps)
        pixels, factor, wide = None, None, None
        if self.resolution is not None and (sides := sides_from_text(self.resolution)):
            pixels, wide = sides
        elif self.resolution is not None:
            pixels, factor = resolution_from_text(self.resolution)
        by_hand = (self.width, self.depth, pixels, self.classes, eps, self.padding, factor, wide)
        overrides = Overrides(*by_hand, stem_channels=self.stem_channels, head_channels=self.head_channels)
        return NetworkRequest(self.spec, self.phi, self.law, self.batch, overrides)

    def of_file(self, context: typer.Context, seed: bool = False) -> OnnxRequest:
        """The network of a file as a request; `seed`: whether that means more to the command than a spec's weights.

        Raises GraphError where options of a spec stand beside `--onnx`.
        """
        from effgen.errors import GraphError
        from effgen.network.file_network import OnnxRequest, names_from_text

        assert self.onnx is not None
        given = [name for name in _OF_A_SPEC if is_given(context, name) and not (seed and name == "seed")]
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise GraphError(f"--onnx {self.onnx}: the file says what {names} would; leave one of them out")
        return OnnxRequest(
            file=self.onnx,
            batch=self.batch if is_given(context, "batch") else None,
            pictures=self._pictures(),
            outputs=() if self.outputs is None else names_from_text(self.outputs),
            sizes=self._sizes(),
        )

    def _sizes(self) -> Sizes:
        """Of a file's input. Raises GraphError for what is none."""
        from effgen.errors import GraphError
        from effgen.graph.sizes import Sizes, sizes_from_text
        from effgen.network import sides_from_text

        if self.input_shape is not None:
            if self.resolution is not None:
                raise GraphError(f"--resolution {self.resolution}: --input-shape says that, too; leave one of them out")
            return sizes_from_text(self.input_shape)
        if self.resolution is None:
            return Sizes()
        if self.resolution.isdigit() and int(self.resolution) > 0:
            return Sizes(image=(int(self.resolution), int(self.resolution)))
        if (sides := sides_from_text(self.resolution)) is None:
            raise GraphError(f"--resolution {self.resolution}: expected pixels, N or HEIGHTxWIDTH, of {self.onnx}")
        height, width = sides
        return Sizes(image=(height, width))

    def _pictures(self) -> PictureOptions:
        """What is said of a file's pictures. Raises GraphError for numbers that are none."""
        from effgen.network.preparation import PictureOptions, colour_from_text, numbers_from_text

        return PictureOptions(
            mean=None if self.mean is None else numbers_from_text("--mean", self.mean),
            std=None if self.std is None else numbers_from_text("--std", self.std),
            channel_order=self.channel_order,
            pixel_range=None if self.pixel_range is None else int(self.pixel_range),
            fit=self.fit,
            fill=None if self.fill is None else colour_from_text(self.fill),
            interpolation=self.interpolation,
            resize=self.resize,
        )

    def request(self, context: typer.Context, seed: bool = False) -> NetworkRequest | OnnxRequest:
        """The one that is asked for. Raises as both do, and GraphError for what is said of pictures or outputs beside
        a spec, which says it itself."""
        from effgen.errors import GraphError

        if self.onnx is not None:
            return self.of_file(context, seed)
        for name in _OF_PICTURES:
            if (value := getattr(self, name)) is not None:
                option = f"--{name.replace('_', '-')} {value}"
                raise GraphError(f"{option}: a spec has its own, under [input]; expected --onnx FILE beside it")
        if self.input_shape is not None:
            raise GraphError(f"--input-shape {self.input_shape}: of a spec --batch and --resolution say it")
        if self.outputs is not None:
            raise GraphError(f"--outputs {self.outputs}: a spec has one output; expected --onnx FILE beside it")
        return self.of_spec()


#: What commands ask of a network.
_SCALED = ("spec", "phi", "law", "width", "depth", "resolution")
_ENDS = ("stem_channels", "head_channels")
_BUILT = ("classes", "batch", "norm_eps", "padding")
_OF_PICTURES = ("mean", "std", "pixel_range", "channel_order", "fit", "fill", "resize", "interpolation")
AnyNetwork = NetworkOptions
SpecOrFile = Annotated[NetworkOptions, Only((*_SCALED, *_BUILT, *_ENDS, "onnx", "outputs", "input_shape"))]
OfSpec = Annotated[NetworkOptions, Only((*_SCALED, *_BUILT, *_ENDS))]
ToTrain = Annotated[NetworkOptions, Only((*_SCALED, "norm_eps", "padding"))]
ToFit = Annotated[NetworkOptions, Only(_BUILT)]

#: Options that say which network of which spec, or its weights: an ONNX file has both.
_OF_A_SPEC = (
    *(name for name in _SCALED if name != "resolution"),
    *_ENDS,
    *("classes", "norm_eps", "padding", "weights", "weights_key", "rename", "seed"),
)


def is_given(context: typer.Context, name: str) -> bool:
    """Whether the user gave the option: not its default, whatever that is."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def weights_choice(key: str | None, rename: list[str] | None) -> WeightsChoice:
    """`--weights-key` and `--rename`. Raises WeightsError for a rename that is none."""
    from effgen.network.weight_sets import WeightsChoice, renames_from_texts

    return WeightsChoice(key, renames_from_texts(rename or []))
