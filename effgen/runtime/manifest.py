"""What a bundle says of itself, and the check that its files are those that were written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effgen.errors import BundleError
from effgen.files.bounded import MissingError, UnreadableError, read_json
from effgen.files.staging import FolderKind
from effgen.machines.processor import architecture_of
from effgen.runtime.arrays import ALIGNMENT
from effgen.runtime.fields import OddFieldError, check_fields, shown
from effgen.words import OutputKind

#: Raised when a reader of the old format could misread a new bundle.
FORMAT_VERSION = 7

MANIFEST = "manifest.json"
LIBRARY = "lib.so"
KERNELS = "kernels.fatbin"
WEIGHTS = "weights.bin"
MODEL = "model.onnx"
#: What follows the name of an ONNX file that keeps its weights beside it, above protobuf's 2 GiB.
EXTERNAL_SUFFIX = ".data"
GOLDEN = "golden.npz"
#: The classes' names, where the bundle has them.
LABELS = "labels.txt"

#: What `--force` may replace.
BUNDLE_FOLDER = FolderKind(MANIFEST, "a bundle", "-o/--output")

#: The folder of an unpacked archive (`effgen pack`) that is the bundle.
PACKED = "bundle"

#: Keys that a message lists.
_LISTED = 5

#: The library's functions: see `effgen.compiler.entry`.
RUN = "run"
TRACE = "trace"
ARRAY_SIZE = "array_size"

#: The same on a pool of threads, whose number is the first argument: see `native/pool/entry.c`.
RUN_ON = "run_on"
TRACE_ON = "trace_on"


@dataclass(frozen=True)
class DeviceKind:
    """What follows from a manifest's `device.kind`: the file of the machine code, and whether that is the CPU's own;
    the most threads that a call can have here, None for all CPUs of the process."""

    code: str
    on_cpu: bool
    most_threads: int | None


#: What activations and weights may be.
DTYPES = ("float32", "float16")

DEVICE_KINDS = {"cpu": DeviceKind(LIBRARY, True, None), "cuda": DeviceKind(KERNELS, False, 1)}


@dataclass(frozen=True)
class Manifest:
    """A bundle's `manifest.json`. Plain JSON values throughout, so that any language can read it."""

    #: Family and phi as printed, e.g. `efficientnet phi=0`.
    name: str
    #: The scaled spec, phi, law, coefficients, norm_eps, padding, and where the weights came from; `golden`: who ran
    #: the golden image when the bundle was made and how far the answer was from PyTorch's (checked_by, rel_l2), or why
    #: nobody did (not_checked); `golden_not_judged` (noise, rel_l2) where PyTorch's own answer to the golden image is
    #: too unstable to hold the library to.
    network: dict[str, Any]
    #: Target name, LLVM target, the instruction sets that the library needs (/proc/cpuinfo spelling), and where it is
    #: foreign what builds programs for it (`toolchain`) and runs them elsewhere (`emulator`), as its TOML says.
    target: dict[str, Any]
    #: Where the kernels run: kind "cpu" (in `lib.so`), or "cuda" (in `kernels.fatbin`) with its architectures and the
    #: launches of a run: kernel, blocks, threads, step, and for each parameter [array, bytes from its start].
    device: dict[str, Any]
    versions: dict[str, str]
    #: Threads a call uses unless `load(threads=)` says otherwise.
    threads: int
    #: File name -> SHA-256 of every other file of the bundle.
    files: dict[str, str]
    #: name, shape (batch, channels, height, width), dtype, layout; and where it is known how a picture is prepared, as
    #: `effgen.runtime.picture.Preparation` says it: fit, resize and crop (pixels of a square's side, or height and
    #: width), interpolation, channel_order, pixel_range, mean and std (a number for each channel), and fill.
    input: dict[str, Any]
    #: Of each output: name, shape (the batch first; (batch, classes) of a classifier; images NCHW), dtype, and what the
    #: numbers are: kind, an `OutputKind` (older bundles do not say, and theirs are logits); and unless there is only a
    #: classifier's, `start`: bytes from the beginning of the array that holds all outputs.
    outputs: list[dict[str, Any]]
    #: name, family, source of the schedule, calls in one run.
    kernels: list[dict[str, Any]]
    #: The kernels' names in the order of their calls.
    steps: list[str]
    #: Bytes of activations, planned at compile time.
    workspace_bytes: int
    parameters: int
    #: Multiply-adds for one image.
    macs: int
    #: Type of the activations and weights between image and outputs, which are float32.
    dtype: str
    #: What `verify` holds the outputs to: rel_l2.
    tolerance: dict[str, float]
    #: The C library beside the bundle's files, where there is one: its C name, and the files header, shared, static and
    #: executable (None where it was not asked for).
    standalone: dict[str, Any] | None = None

    @property
    def classes(self) -> int | None:
        """Numbers in an image's output; None where the network is no classifier."""
        shape = self.outputs[0]["shape"]
        return shape[1] if len(self.outputs) == 1 and len(shape) == 2 else None

    @property
    def output_names(self) -> list[str]:
        """In the order in which a call returns them."""
        return [output["name"] for output in self.outputs]

    @property
    def architecture(self) -> str:
        """The processor family that the library is for, as `platform.machine()` spells it."""
        return architecture_of(self.target["llvm"]["mtriple"])

    @property
    def is_foreign(self) -> bool:
        """Whether this computer's processors are of another family. A GPU's bundle holds no code for them."""
        return self.device_kind.on_cpu and self.architecture != platform.machine()

    @property
    def file_layout(self) -> str:
        """How the ONNX file that the network was read from takes images: NCHW, as every bundle does, or NHWC."""
        layout: str = self.network.get("onnx", {}).get("layout", "NCHW")
        return layout

    @property
    def output_kind(self) -> OutputKind:
        """What the numbers of the first output are."""
        kind: OutputKind = self.outputs[0].get("kind", "logits")
        return kind

    @property
    def device_kind(self) -> DeviceKind:
        """What the kernels run on."""
        return DEVICE_KINDS[self.device["kind"]]

    def to_data(self) -> dict[str, Any]:
        """The fields as `manifest.json` has them."""
        return dataclasses.asdict(self) | {"format_version": FORMAT_VERSION}

    def to_json(self) -> str:
        """The text of `manifest.json`: the fields, and a digest of them, since no file holds the manifest's hash."""
        data = self.to_data()
        return json.dumps({**data, "digest": _digest(data)}, indent=2) + "\n"


def failure(manifest: Manifest, threads: int, status: int) -> str:
    """What a status of a CPU library's functions, other than 0, means."""
    if status > 0:
        return f"{manifest.name}: out of memory in {manifest.steps[status - 1]}"
    return (
        f"{manifest.name}: cannot start {threads} threads: {os.strerror(-status)}; "
        f"give fewer, or raise the limit (ulimit -u, ulimit -v, a container's)"
    )


def _digest(data: dict[str, Any]) -> str:
    """SHA-256 of the fields as JSON with sorted keys and no white space."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_foreign(path: Path, manifest: Manifest) -> None:
    """Raise BundleError where the bundle at `path` is for processors of another family."""
    if manifest.is_foreign:
        raise BundleError(
            f"{path}: compiled for {manifest.target['name']}, whose processor is {manifest.architecture}; this one is "
            f"{platform.machine()}: compile with `--target cpu` here"
        )


def refuse_gpu(path: Path, manifest: Manifest, why: str) -> None:
    """Raise BundleError where the bundle at `path` is for a GPU, and `why` that is none here."""
    if not manifest.device_kind.on_cpu:
        raise BundleError(f"{path}: compiled for a GPU ({manifest.target['name']}), {why}")


def read_manifest(path: str | Path, whole: bool = True) -> Manifest:
    """The manifest of the bundle directory `path`, after every file's hash was checked.

    `whole` False: of what only runs, code and weights, without the model and the golden pair that it is judged by.
    Raises BundleError: no bundle there, another format, a missing or changed file, a link that leaves the bundle.
    """
    bundle = Path(path)
    manifest = parse_manifest(bundle)
    code = manifest.device_kind.code
    needed = {code, WEIGHTS, MODEL, GOLDEN} if whole else {code, WEIGHTS}
    missing = sorted(needed - manifest.files.keys())
    if missing == [MODEL]:
        raise BundleError(f"{bundle}: holds no {MODEL}, which judges it: pack it with --with-model")
    if missing:
        raise BundleError(f"{bundle / MANIFEST}: files: no hash of {missing[0]}; compile the bundle again")
    for name, expected in manifest.files.items():
        _check_file(bundle, name, expected)
    return manifest


def _check_file(bundle: Path, name: str, expected: str) -> None:
    if Path(name).name != name:
        raise BundleError(f"{bundle / MANIFEST}: files[{name!r}]: expected a plain file name inside the bundle")
    file = bundle / name
    try:
        if not file.is_file():
            raise BundleError(f"{file}: missing from the bundle; compile it again")
        if file.is_symlink() and file.resolve().parent != bundle.resolve():
            raise BundleError(f"{file}: is a symbolic link that leaves the bundle; copy what it points to")
        found = sha256_of(file)
    except OSError as error:  # no permission, a name longer than the file system takes
        raise BundleError(f"{file}: cannot be read: {error.strerror}; copy or compile the bundle again") from None
    if found != expected:
        raise BundleError(
            f"{file}: SHA-256 is {found[:12]}..., the manifest says {expected[:12]}...: the file was changed "
            f"or damaged; compile the bundle again"
        )


def parse_manifest(bundle: Path) -> Manifest:
    """The manifest of the bundle directory, whose files are not looked at. Raises BundleError."""
    path = bundle / MANIFEST
    try:
        data = read_json(path)
    except MissingError:
        raise BundleError(f"{bundle}: {_no_bundle(bundle)}") from None
    except UnreadableError as error:
        if not bundle.is_dir():
            raise BundleError(f"{bundle}: {_no_bundle(bundle)}") from None
        raise BundleError(f"{path}: cannot be read as JSON: {error}") from None
    check_version(path, data, FORMAT_VERSION, "compile it again")
    digest = data.pop("digest", None)
    if digest != _digest(data):
        raise BundleError(f"{path}: does not match its own digest: it was changed or damaged; compile the bundle again")
    data.pop("format_version")
    if odd := data.keys() ^ {field.name for field in dataclasses.fields(Manifest)}:
        named = ", ".join(map(shown, sorted(odd)[:_LISTED]))
        raise BundleError(f"{path}: keys missing or surplus: {named}; compile the bundle again")
    try:
        check_fields(data, tuple(DEVICE_KINDS), DTYPES, ALIGNMENT)
    except OddFieldError as error:
        raise BundleError(f"{path}: {error}; compile the bundle again") from None
    return Manifest(**data)


def check_version(path: Path, data: Any, known: int, older: str) -> None:
    """Raise BundleError where the `format_version` of the JSON `data`, read from `path`, is not `known`: `older` says
    what to do about an older one."""
    version = data.get("format_version") if isinstance(data, dict) else None
    if type(version) is int and version > known:
        raise BundleError(
            f"{path}: format_version = {version}: written by a newer effgen, this one reads {known}; upgrade effgen"
        )
    if type(version) is not int or version != known:
        raise BundleError(f"{path}: format_version = {shown(version)}: this effgen reads {known}; {older}")


def _no_bundle(path: Path) -> str:
    """What is there instead of a bundle."""
    if path.is_file():
        return f"is a file, expected a bundle's directory; of an archive, `effgen unpack {path} -o DIR` makes one"
    if (path / PACKED / MANIFEST).is_file():
        return f"is an unpacked archive; its bundle is {path / PACKED}"
    return f"no bundle here (no {MANIFEST}); make one with `effgen compile`"
