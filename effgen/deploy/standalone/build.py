"""Kernels' object file + weights + driver -> header, shared library, static library, program.

    driver's sources, weights.S --compile--> objects --+
    kernels' object (as in lib.so) --------------------+-- ld -r, objcopy --> one object that exports the header's
                                                           functions alone --> libNAME.a, libNAME.so --> NAME

One object with everything else made local is what lets the static libraries of several models be linked into one
program.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from effgen.deploy.executors import compiler_of
from effgen.deploy.standalone.emit import EXECUTABLE
from effgen.errors import BuildError
from effgen.files.temporary import temporary_folder
from effgen.machines.old_glibc import FIRST_GLIBC, binary_tool, objcopy, old_symbols
from effgen.machines.programs import tool_output
from effgen.runtime.answers import AnswerLayout
from effgen.runtime.manifest import WEIGHTS, Manifest, sha256_of
from effgen.version import __version__
from effgen.words import OutputKind

#: The functions of the header, without the model's name.
FUNCTIONS = ("create", "run", "destroy", "error", "floats")

#: The driver's own sources, and those of the pool that every bundle's library has, too.
SOURCES = ("model.c", "processor.c", "weights.S", "../pool/pool.c", "../pool/cpus.c", "../pool/scratch.c")

# No instruction set beyond the architecture's first: the driver says what the processor lacks. `initial-exec`: the one
# thread-local pointer is found without a call into the dynamic loader.
_FLAGS = ("-O2", "-std=c11", "-fPIC", "-fvisibility=hidden", "-ftls-model=initial-exec", "-Wall", "-Wextra")

#: What the header says of the output.
_OUTPUTS: dict[OutputKind, str] = {
    "logits": "not normalised: softmax makes probabilities of it",
    "probabilities": "probabilities that sum to 1: no softmax is wanted",
    "log_probabilities": "natural logarithms of probabilities: exp makes these of it",
    "labels": "one probability for each of several labels: no softmax is wanted",
}


def write_standalone(
    manifest: Manifest, name: str, folder: Path, kernels: Sequence[Path], emit: Sequence[str]
) -> Manifest:
    """Write the library called `name` into the bundle `folder`, whose `manifest` this is and whose weights are there;
    returns the manifest that tells of it. `kernels`: the object files out of which its `lib.so` was linked.

    Raises BuildError where a compiler or one of its tools is missing or fails.
    """
    if manifest.architecture not in FIRST_GLIBC:
        known = ", ".join(sorted(FIRST_GLIBC))
        raise BuildError(f"--emit standalone: no driver for the processor {manifest.architecture}; known: {known}")
    compiler = compiler_of(manifest)
    names = _files(name, EXECUTABLE in emit)
    with temporary_folder("standalone") as work:
        objects = compile_driver(manifest, name, folder / WEIGHTS, work, compiler)
        whole = _joined(compiler, [*objects, *kernels], name, work / f"{name}.o")
        shutil.copyfile(work / names["header"], folder / names["header"])
        _archive(compiler, whole, folder / names["static"])
        _link_shared(compiler, manifest.architecture, whole, folder / names["shared"])
    made = replace(manifest, standalone=names)
    if names["executable"]:
        build_program(folder, made, folder / names["executable"])
    written = {file: sha256_of(folder / file) for key, file in names.items() if file and key != "name"}
    return replace(made, files={**manifest.files, **written})


def compile_driver(
    manifest: Manifest, name: str, weights: Path, work: Path, compiler: str, flags: Sequence[str] = ()
) -> list[Path]:
    """The driver's object files, and the headers that it was compiled with, written into `work`; `flags` come last, a
    sanitizer's say. Raises BuildError where the compiler fails."""
    values = _values(manifest, name, weights.stat().st_size)
    _write_header("model.h.in", values, work / f"{name}.h")
    _write_header("config.h.in", values, work / "config.h")
    objects = []
    for source in SOURCES:
        made = work / f"{Path(source).stem}.o"
        language = "assembler-with-cpp" if source.endswith(".S") else "c"
        define = [f"-DWEIGHTS_FILE={_quoted(weights.absolute())}"] if language != "c" else []
        command = [
            compiler,
            *_FLAGS,
            f"-I{work}",
            f"-I{sources().parent / 'pool'}",
            *define,
            *flags,
            "-x",
            language,
            "-c",
            str(sources() / source),
        ]
        tool_output([*command, "-o", made], f"{source}: compiling with {compiler} failed")
        objects.append(made)
    return objects


def build_program(bundle: Path, manifest: Manifest, path: Path) -> None:
    """Write the program that runs the standalone library of `bundle`, which nothing at all need be installed for.

    Raises BuildError where the compiler is missing or fails.
    """
    assert manifest.standalone is not None
    compiler, name = compiler_of(manifest), manifest.standalone["name"]
    with temporary_folder("standalone") as work:
        _write_header("config.h.in", _values(manifest, name, (bundle / WEIGHTS).stat().st_size), work / "config.h")
        folders = [f"-I{work}", f"-I{bundle}"]
        command = [compiler, *_FLAGS, *folders, "-static", "-x", "c", str(sources() / "program.c"), "-x", "none"]
        libraries = [str(bundle / manifest.standalone["static"]), "-lm", "-lpthread"]
        tool_output([*command, "-o", path, *libraries], f"{path.name}: linking with {compiler} failed")


def _write_header(template: str, values: dict[str, Any], path: Path) -> None:
    text = (sources() / template).read_text(encoding="utf-8")
    path.write_text(Template(text).substitute(values), encoding="utf-8")


def sources() -> Path:
    """The folder of the driver's sources."""
    return Path(str(resources.files("effgen.native_sources"))) / "standalone"


def _files(name: str, executable: bool) -> dict[str, Any]:
    """What the manifest says: the C name and the files."""
    return {
        "name": name,
        "header": f"{name}.h",
        "shared": f"lib{name}.so",
        "static": f"lib{name}.a",
        "executable": name if executable else None,
    }


def _values(manifest: Manifest, name: str, weights_bytes: int) -> dict[str, Any]:
    """What stands for the names in the templates."""
    batch, channels, height, width = manifest.input["shape"]
    mean, std = manifest.input.get("mean"), manifest.input.get("std")
    features = manifest.target["features"]
    return {
        "name": name,
        "NAME": name.upper(),
        "version": __version__,
        "title": _comment(manifest.name),
        "target": _comment(f"{manifest.target['name']} ({manifest.target['llvm']['mcpu']})"),
        "batch": batch,
        "channels": channels,
        "height": height,
        "width": width,
        **_answer_values(manifest, name),
        "output_kind": manifest.output_kind.upper(),
        "threads": manifest.threads,
        "workspace": manifest.workspace_bytes,
        "normalisation": _normalisation(manifest) if mean and std else "",
        "constants": "".join(
            f"#define {name.upper()}_{key} {_braced(f'{float(value)!r}f' for value in values)}\n"
            for key, values in (("MEAN", mean), ("STD", std))
            if values
        ),
        "weights_floats": weights_bytes // 4,
        "workspace_floats": manifest.workspace_bytes // 4,
        "features": "{" + "".join(f'"{feature}", ' for feature in features) + "NULL}",
        "features_text": ", ".join(features),
    }


def _answer_values(manifest: Manifest, name: str) -> dict[str, Any]:
    """What the templates say of the outputs: a classifier's are its logits, others have numbers."""
    layout, macro = AnswerLayout.of(manifest), name.upper()
    titles = [_comment(f"{output['name']} {'x'.join(map(str, output['shape']))}") for output in manifest.outputs]
    floats = ["(size_t)" + " * ".join(map(str, shape)) for shape in layout.shapes]
    facts = {
        "outputs": len(titles),
        "output_floats": _braced(floats),
        "output_starts": _braced(map(str, layout.starts)),
        "output_titles": _braced(json.dumps(title) for title in titles),
        "array_floats": layout.floats,
        "is_classifier": int(manifest.classes is not None),
    }
    if manifest.classes is not None:
        sizes = {"CLASSES": manifest.classes, "LOGITS_FLOATS": f"({floats[0]})"}
        kind = _OUTPUTS[manifest.output_kind]
        answer = f"The output, called logits below: float32 [BATCH][CLASSES], contiguous, {kind}."
        computed, parameter = "the output", "float *logits"
    else:
        sizes = {"OUTPUTS": len(titles)}
        for number, (shape, count) in enumerate(zip(layout.shapes, floats, strict=True)):
            sizes |= {f"OUTPUT{number}_FLOATS": f"({count})", f"OUTPUT{number}_SHAPE": _braced(map(str, shape))}
        listed = "".join(f"\n     {number}: {title}" for number, title in enumerate(titles))
        one = len(titles) == 1
        computed = "the output" if one else "the outputs, but those whose pointer is NULL,"
        layout_text = "float32, contiguous, images as [batch][channels][height][width]"
        answer = f"The output{'' if one else 's'}: {layout_text}:{listed}\n  "
        parameter = "float *output" if one else f"float *const outputs[{macro}_OUTPUTS]"
    lines = "".join(f"#define {macro}_{key} {value}\n" for key, value in sizes.items())
    return {**facts, "answer": answer, "sizes": lines, "computed": computed, "parameter": parameter}


def _braced(values: Iterable[str]) -> str:
    """An initialiser of C."""
    return "{" + ", ".join(values) + "}"


def _normalisation(manifest: Manifest) -> str:
    """What the header says of an image's values."""
    pixel = "pixel" if manifest.input.get("pixel_range", 1) == 255 else "pixel / 255"
    order = "; channel 0 is blue, 2 is red" if manifest.input.get("channel_order", "rgb") == "bgr" else ""
    return f",\n   every value ({pixel} - MEAN[channel]) / STD[channel], pixels from 0 to 255{order}"


def _comment(text: str) -> str:
    """Text of a user's that ends no comment."""
    return re.sub(r"[^\w .,=+()-]", "?", text)


def _quoted(path: Path) -> str:
    """A path as a string of the assembler's, which reads the bytes of other letters as they are."""
    return json.dumps(str(path), ensure_ascii=False)


def _joined(compiler: str, objects: Sequence[Path], name: str, path: Path) -> Path:
    """One object of all, which exports the header's functions only."""
    tool_output([compiler, "-r", "-nostdlib", "-o", path, *objects], f"{path.name}: linking with {compiler} failed")
    keep = [f"--keep-global-symbol={name}_{function}" for function in FUNCTIONS]
    objcopy(compiler, ["--strip-debug", *keep], path)
    return path


def _archive(compiler: str, whole: Path, path: Path) -> None:
    tool_output([binary_tool(compiler, "ar"), "rcsD", path, whole], f"{path.name}: ar failed")


def _link_shared(compiler: str, architecture: str, whole: Path, path: Path) -> None:
    """C++ compilers add their library to what they link: `--as-needed` leaves it out again."""
    old = old_symbols(compiler, architecture)
    if old.objcopy:
        objcopy(compiler, old.objcopy, whole)
    libraries = [*old.link, "-Wl,--as-needed", "-lm", "-lpthread"]
    options = [f"-Wl,-soname,{path.name}", "-Wl,-z,defs", "-Wl,-z,relro,-z,now", "-Wl,-z,noexecstack"]
    tool_output(
        [compiler, "-shared", "-o", path, *options, whole, *libraries], f"{path.name}: linking with {compiler} failed"
    )
