"""Fuzzing of what is C and C++: effgen-run's readers, and the functions of a model's C library.

    python fuzz/native/harnesses.py [--seconds 60] [HARNESS...]

builds each harness with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer, by clang, and lets it run for so
long, on one CPU. What it finds is left in build/fuzz/HARNESS, with the corpus that it grew. Tests run the harnesses
for seconds, fed by mutate.cc and built with any C++ compiler.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effgen.deploy.standalone.build import compile_driver
from effgen.runtime.library import package_file
from effgen.runtime.manifest import Manifest

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parents[1] / "native"

#: Leaks are looked for, too; an allocation beyond this is an error of the reader's.
_LIMITS = ("-rss_limit_mb=2048", "-timeout=25", "-max_len=65536", "-print_final_stats=1")


@dataclass(frozen=True)
class Harness:
    """`sources`: of native/, that it is about; `seeds`: inputs to begin with; `c_library`: a model's driver instead;
    `tvm`: needs TVM's library of functions, whose JSON reader the runner uses."""

    sources: tuple[str, ...]
    seeds: Callable[[], list[bytes]]
    c_library: bool = False
    tvm: bool = False


def example_manifest() -> Manifest:
    """A network of two outputs that was never compiled."""
    return Manifest(
        name="fuzzed",
        network={},
        target={
            "name": "cpu",
            "description": "any",
            "llvm": {"mtriple": "x86_64-linux-gnu", "mcpu": "x86-64"},
            "features": [],
        },
        device={"kind": "cpu"},
        versions={},
        threads=2,
        files={"lib.so": "0" * 64, "weights.bin": "0" * 64, "golden.npz": "0" * 64},
        input={"name": "image", "shape": [1, 3, 8, 8], "dtype": "float32", "layout": "NCHW"},
        outputs=[
            {"name": "a", "shape": [1, 7], "dtype": "float32", "kind": "logits", "start": 0},
            {"name": "b", "shape": [1, 2, 3, 3], "dtype": "float32", "kind": "logits", "start": 64},
        ],
        kernels=[],
        steps=["one", "two"],
        workspace_bytes=1024,
        parameters=16,
        macs=1,
        dtype="float32",
        tolerance={"rel_l2": 1e-5},
    )


def _manifests() -> list[bytes]:
    data = example_manifest().to_data()
    one = {**data, "format_version": 4, "output": data["outputs"][0]}
    del one["outputs"]
    odd: dict[str, Any] = {"workspace_bytes": -1, "threads": 1 << 40, "name": "\x1b[31m\n", "steps": [[]], "files": []}
    texts = [json.dumps(table) for table in (data, one, *({**data, key: value} for key, value in odd.items()))]
    return [text.encode() for text in [*texts, "{" * 40 + "}" * 40, '{"a":' + "[" * 31 + "]" * 31 + "}", "{}"]]


def _arrays() -> list[bytes]:
    image, answer = np.ones((1, 3, 4, 4), np.float32), np.ones((1, 5), np.float32)
    found = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, input=image, output=answer)
        found.append(file.getvalue())
    for array in (image, answer, np.asfortranarray(image), np.zeros((0, 2), np.float32), np.float64(3)):
        file = io.BytesIO()
        np.save(file, array)
        found.append(file.getvalue())
    return found


def _command_lines() -> list[bytes]:
    lines = (
        "b0 --threads 2 --runs 50 --min-time 1.5 --layers --json",
        "b0 --input x.npy --output y.npy --skip-features",
        "--help",
        "b0 --runs -1",
        "b0 --min-time 1e400 --threads 0x10",
        "b0 --threads 99999999999999999999",
    )
    return [line.replace(" ", "\n").encode() for line in lines]


def _libraries() -> list[bytes]:
    """The head of an ELF file with a table of each kind."""
    machine = {"x86_64": 62, "aarch64": 183}
    found = []
    for number in machine.values():
        fields = (3, number, 1, 0, 64, 176, 0, 64, 56, 2, 64, 2, 0)
        header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", *fields)
        segments = [(1, 5, 0, 0, 0, 304, 304, 4096), (2, 6, 0, 0, 0, 16, 16, 8)]
        sections = [(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), (1, 1, 2, 0, 64, 100, 0, 0, 1, 0)]
        tables = [struct.pack("<IIQQQQQQ", *segment) for segment in segments]
        tables += [struct.pack("<IIQQQQIIQQ", *section) for section in sections]
        found.append(header + b"".join(tables))
    return found


def _texts() -> list[bytes]:
    return [text.encode() for text in ("efficientnet phi=0", "größe 中 🙂", "\x1b[2J\x9b\n\r\t", "a\u202eb\u2028")]


def _calls() -> list[bytes]:
    return [bytes([0, 0, 1, 1, 0, 0, 1, 0, 32, 2, 0, 0]), bytes([0, 1, 0, 1, 1, 3, 4, 0, 255, 3, 0, 9, 1, 2, 8])]


HARNESSES = {
    "manifest": Harness(("manifest.cc", "canonical.cc", "sha256.cc"), _manifests, tvm=True),
    "npz": Harness(("npz.cc",), _arrays, tvm=True),
    "options": Harness(("options.cc",), _command_lines),
    "library": Harness(("machine.cc",), _libraries),
    "printable": Harness(("printable.cc",), _texts),
    "entry_points": Harness((), _calls, c_library=True),
}


def build(name: str, folder: Path, fuzzer: bool = False) -> Path:
    """The harness as a program in `folder`: of libFuzzer's, or fed by mutate.cc."""
    harness, output = HARNESSES[name], folder / name
    kinds = "fuzzer,address,undefined" if fuzzer else "address,undefined"
    compiler = "clang" if fuzzer else "gcc"
    flags = ["-g", "-O1", f"-fsanitize={kinds}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", f"-I{folder}"]
    objects: list[Path] = []
    if harness.c_library:
        weights = folder / "weights.bin"
        weights.write_bytes(bytes(256))
        objects = compile_driver(example_manifest(), "fuzzed", weights, folder, compiler, flags)
        flags += [f"-I{NATIVE / 'standalone'}", f"-I{NATIVE / 'pool'}"]
    sources = [HERE / f"{name}.cc", *(NATIVE / source for source in harness.sources)]
    sources += [] if fuzzer else [HERE / "mutate.cc"]
    libraries: list[object] = ["-lpthread"]
    if harness.tvm:
        library = package_file("tvm_ffi", "lib/libtvm_ffi.so")
        headers = package_file("tvm_ffi", "include/tvm/ffi/tvm_ffi.h").parents[2]
        flags += ["-isystem", str(headers)]
        libraries += [library, f"-Wl,-rpath,{library.parent}"]
    compiler = "clang++" if fuzzer else "c++"
    _run(compiler, "-std=c++17", *flags, f"-I{NATIVE}", *sources, *objects, "-o", output, *libraries)
    return output


def write_seeds(name: str, folder: Path) -> list[Path]:
    """The harness's seeds as files, each called by its hash, which is libFuzzer's custom too."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for seed in HARNESSES[name].seeds():
        files.append(folder / hashlib.sha1(seed).hexdigest())
        files[-1].write_bytes(seed)
    return files


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


def main(words: Sequence[str] | None = None) -> int:
    """Exit status 1 where a harness found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="of each harness")
    parser.add_argument("harnesses", nargs="*", metavar="HARNESS", help=", ".join(HARNESSES))
    options = parser.parse_args(words)
    failed = []
    for name in options.harnesses or HARNESSES:
        folder = Path("build/fuzz") / name
        folder.mkdir(parents=True, exist_ok=True)
        program = build(name, folder, fuzzer=True)
        write_seeds(name, folder / "corpus")
        found = f"-artifact_prefix={folder}/"
        limits = [*_LIMITS, f"-max_total_time={options.seconds}", found]
        print(f"== {name}, {options.seconds} s", flush=True)
        if subprocess.run([program, *limits, folder / "corpus"], check=False).returncode != 0:
            failed.append(name)
    print(f"failed: {', '.join(failed)}: see build/fuzz" if failed else "no harness found anything")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
