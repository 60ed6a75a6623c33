"""What the fields of a manifest must be, so that whoever reads them later can rely on it.

A manifest's digest and hashes tell damage, not sense: a program that knows little of bundles writes right ones too.
Every check raises OddFieldError with where, what was found and what was expected; nothing is allocated or run.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, get_args

from effgen.words import OutputKind

#: Elements of an image batch or of all outputs: 8 GiB of float32.
MOST_ELEMENTS = 1 << 31
#: Bytes of the activations.
MOST_WORKSPACE = 1 << 36
MOST_THREADS = 1024
#: Characters of a name: more is nothing to print.
MOST_NAME = 1024


def shown(value: object) -> str:
    """A value of anybody's, in little room."""
    try:
        return reprlib.repr(value)
    except ValueError:  # digits, of which Python writes so many
        return "a number of thousands of digits"


class OddFieldError(ValueError):
    """A field that makes no sense."""

    def __init__(self, where: str, found: Any, expected: str) -> None:
        super().__init__(f"{where} = {shown(found)}: expected {expected}")


#: Raises OddFieldError where the value that stands at a place is not as it should be.
Check = Callable[[str, Any], None]


def text(where: str, found: Any) -> None:
    """A string of any content, as long as a name may be."""
    _typed(where, found, str)
    if len(found) > MOST_NAME:
        raise OddFieldError(where, found, f"a str of at most {MOST_NAME} characters")


def number(where: str, found: Any) -> None:
    """A finite number."""
    # An int beyond float64 is finite, too, and no use to anybody.
    if type(found) not in (int, float) or not abs(found) < math.inf or abs(found) > 1e300:
        raise OddFieldError(where, found, "a finite number")


def _divisor(where: str, found: Any) -> None:
    number(where, found)
    if not found:
        raise OddFieldError(where, found, "a number other than 0")


def tolerance(where: str, found: Any) -> None:
    """What an output may miss by: NaN or infinity would let anything pass, or nothing."""
    _typed(where, found, float)
    if not 0 <= found < math.inf:
        raise OddFieldError(where, found, "a finite number from 0")


def whole(least: int, most: int, step: int = 1) -> Check:
    """A multiple of `step` from `least` to `most`."""

    def check(where: str, found: Any) -> None:
        _typed(where, found, int)
        if not least <= found <= most or found % step:
            every = f"a multiple of {step}" if step > 1 else "a whole number"
            raise OddFieldError(where, found, f"{every} from {least} to {most}")

    return check


def one_of(*known: Any) -> Check:
    """One of these values."""

    def check(where: str, found: Any) -> None:
        if type(found) not in map(type, known):
            _typed(where, found, type(known[0]))
        if found not in known:
            raise OddFieldError(where, found, " or ".join(map(str, known)))

    return check


def maybe(check: Check) -> Check:
    """As `check`, or null."""
    return lambda where, found: None if found is None else check(where, found)


def either(first: Check, second: Check) -> Check:
    """As one of two."""

    def check(where: str, found: Any) -> None:
        try:
            first(where, found)
        except OddFieldError:
            second(where, found)

    return check


def list_of(check: Check, least: int = 0, most: int | None = None) -> Check:
    """A list of so many, each as `check` says."""

    def check_all(where: str, found: Any) -> None:
        _typed(where, found, list)
        if len(found) < least or (most is not None and len(found) > most):
            count = f"{least}" if least == most else f"{least} or more"
            raise OddFieldError(where, found, f"a list of {count}")
        for index, item in enumerate(found):
            check(f"{where}[{index}]", item)

    return check_all


def names_of(check: Check) -> Check:
    """A table of any keys, each value as `check` says."""

    def check_all(where: str, found: Any) -> None:
        _typed(where, found, dict)
        for key, item in found.items():
            text(where, key)
            check(f"{where}[{key!r}]", item)

    return check_all


def table(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """A table that has these keys, and may have the optional ones; others are nobody's concern."""

    def check(where: str, found: Any) -> None:
        _typed(where, found, dict)
        for key, inside in required.items():
            inside(f"{where}.{key}", found.get(key))
        for key, inside in (optional or {}).items():
            if key in found:
                inside(f"{where}.{key}", found[key])

    return check


def pair(first: Check, second: Check) -> Check:
    """A list of two."""

    def check(where: str, found: Any) -> None:
        list_of(anything, 2, 2)(where, found)
        first(f"{where}[0]", found[0])
        second(f"{where}[1]", found[1])

    return check


def anything(where: str, found: Any) -> None:
    """Not looked at."""


def shape(rank: int | None = None) -> Check:
    """Positive extents, `rank` of them (None: one at least), of a tensor that can be."""

    def check(where: str, found: Any) -> None:
        list_of(whole(1, MOST_ELEMENTS), rank or 1, rank)(where, found)
        if math.prod(found) > MOST_ELEMENTS:
            raise OddFieldError(where, found, f"a shape of at most {MOST_ELEMENTS} elements")

    return check


def _typed(where: str, found: Any, kind: type) -> None:
    if type(found) is not kind:
        raise OddFieldError(where, found, kind.__name__)


_side = whole(1, MOST_ELEMENTS)
_sides = maybe(either(_side, list_of(_side, 2, 2)))

_NETWORK = table(
    {},
    {
        "spec": maybe(table({"name": text})),
        "phi": maybe(number),
        "law": maybe(text),
        "weights": table(
            {},
            {
                "origin": text,
                "file": text,
                "sha256": text,
                "seed": whole(0, 2**63 - 1),
                "weights_key": maybe(text),
                "renames": list_of(pair(text, text)),
                "model": maybe(text),
                "naming": maybe(text),
            },
        ),
        "onnx": table({}, {"layout": one_of("NCHW", "NHWC"), "reading": table({})}),
        "golden": table({}),
        "golden_not_judged": table({}),
    },
)


def _triple(where: str, found: Any) -> None:
    """LLVM's, of which names of files and programs are made."""
    text(where, found)
    if not re.fullmatch(r"[A-Za-z0-9_]+(-[A-Za-z0-9_.]+)*", found):
        raise OddFieldError(where, found, "an LLVM triple, as x86_64-linux-gnu")


_TARGET = table(
    {
        "name": text,
        "llvm": table({"mtriple": _triple}, {"mcpu": text}),
        "features": list_of(text),
    },
    {
        "description": text,
        "toolchain": maybe(table({"compiler": text, "package": text})),
        "emulator": maybe(table({"command": list_of(text, 1), "package": text})),
    },
)

#: The arrays that a GPU's kernels are given parts of.
_ARRAYS = ("image", "logits", "weights", "workspace")

#: Of a launch; what CUDA itself allows at most.
_LAUNCH = table(
    {
        "step": whole(0, 2**31 - 1),
        "kernel": text,
        "blocks": whole(1, 2**31 - 1),
        "threads": whole(1, 1024),
        "arguments": list_of(pair(one_of(*_ARRAYS), whole(0, 2**40))),
    }
)
_ON_GPU = table({"archs": list_of(text), "launches": list_of(_LAUNCH, 1)})

_INPUT = table(
    {"shape": shape(4)},
    {
        "name": text,
        "dtype": one_of("float32"),
        "layout": one_of("NCHW"),
        "mean": maybe(list_of(number)),
        "std": maybe(list_of(_divisor)),
        "resize": _sides,
        "crop": _sides,
        "interpolation": maybe(text),
        "channel_order": text,
        "pixel_range": whole(1, 255),
        "fit": text,
        "fill": list_of(whole(0, 255)),
    },
)


def _output(alignment: int) -> Check:
    return table(
        {"name": text, "shape": shape()},
        {
            "dtype": one_of("float32"),
            "kind": one_of(*get_args(OutputKind)),
            "start": whole(0, 4 * MOST_ELEMENTS, alignment),
        },
    )


def _c_name(where: str, found: Any) -> None:
    text(where, found)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", found):
        raise OddFieldError(where, found, "a name in C")


_STANDALONE = table({"name": _c_name, "header": text, "shared": text, "static": text}, {"executable": maybe(text)})

_KERNEL = table(
    {"name": text, "family": text, "source": text},
    {"calls": whole(0, 2**31 - 1), "decisions": table({})},
)


def check_fields(data: Mapping[str, Any], devices: tuple[str, ...], dtypes: tuple[str, ...], alignment: int) -> None:
    """Raise OddFieldError where a field of the manifest `data`, which has all of them, makes no sense.

    `devices` and `dtypes`: those that are known; the outputs begin at multiples of `alignment` bytes.
    """
    fields: dict[str, Check] = {
        "name": text,
        "network": _NETWORK,
        "target": _TARGET,
        "device": table({"kind": one_of(*devices)}),
        "versions": names_of(text),
        "threads": whole(1, MOST_THREADS),
        "files": names_of(text),
        "input": _INPUT,
        "outputs": list_of(_output(alignment), 1),
        "kernels": list_of(_KERNEL),
        "steps": list_of(text),
        "workspace_bytes": whole(0, MOST_WORKSPACE, 4),
        "parameters": whole(0, 2**63 - 1),
        "macs": whole(0, 2**63 - 1),
        "dtype": one_of(*dtypes),
        "tolerance": table({"rel_l2": tolerance}),
        "standalone": maybe(_STANDALONE),
    }
    for key, check in fields.items():
        check(key, data[key])
    _check_together(data)


def _check_together(data: Mapping[str, Any]) -> None:
    """What one field says of another."""
    batch = data["input"]["shape"][0]
    for index, output in enumerate(data["outputs"]):
        where = f"outputs[{index}].shape"
        if output["shape"][0] != batch:
            raise OddFieldError(where, output["shape"], f"the batch of the input first, which is {batch}")
        if output.get("start", 0) // 4 + math.prod(output["shape"]) > MOST_ELEMENTS:
            raise OddFieldError(where, output["shape"], f"an end within {MOST_ELEMENTS} elements")
    for key in ("mean", "std"):
        channels, values = data["input"]["shape"][1], data["input"].get(key)
        if values is not None and len(values) != channels:
            raise OddFieldError(f"input.{key}", values, f"a number for each of the {channels} channels")
    for key, name in (data["standalone"] or {}).items():
        if name is not None and key != "name" and name not in data["files"]:
            raise OddFieldError(f"standalone.{key}", name, "one of the files")
    if data["device"]["kind"] == "cuda":
        _ON_GPU("device", data["device"])
        _check_launches(data)


def _check_launches(data: Mapping[str, Any]) -> None:
    """The steps of a GPU's launches are in order and have names; what they are given begins inside its array."""
    outputs = max(output.get("start", 0) + 4 * math.prod(output["shape"]) for output in data["outputs"])
    sizes = {"image": 4 * math.prod(data["input"]["shape"]), "logits": outputs, "workspace": data["workspace_bytes"]}
    before = 0
    for index, launch in enumerate(data["device"]["launches"]):
        where, step = f"device.launches[{index}]", launch["step"]
        if not before <= step < len(data["steps"]):
            raise OddFieldError(f"{where}.step", step, f"one from {before} to {len(data['steps']) - 1}")
        before = step
        for number, (array, start) in enumerate(launch["arguments"]):
            if start >= sizes.get(array, 2**63):
                raise OddFieldError(
                    f"{where}.arguments[{number}]", [array, start], f"a start within its {sizes[array]} bytes"
                )
