"""A bundle with all that running it needs, for a machine that has neither Python nor TVM: one archive."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import tarfile
import textwrap
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from effgen.deploy.archive import write_archive
from effgen.deploy.executors import emulator_of, runner_program
from effgen.deploy.native.build import PROGRAM
from effgen.deploy.native.libraries import license_texts, runtime_versions
from effgen.deploy.signature import SIGNATURE, read_private_key
from effgen.deploy.unpack import FORMAT_VERSION, PACK, RUNTIME, SUMS, VERIFY, read_packable
from effgen.errors import BuildError, VerifyError
from effgen.files.staging import staged_file
from effgen.files.terminal import terminal_text
from effgen.machines.processor import missing_features
from effgen.machines.programs import run_program
from effgen.runtime.manifest import EXTERNAL_SUFFIX, MANIFEST, MODEL, PACKED, Manifest, refuse_gpu, sha256_of
from effgen.version import __version__
from effgen.words import OnPhase

README = "README.txt"
LICENSES = "licenses"

_MISSED = 3  # status of effgen-run (native/main.cc)

_GLIBC = re.compile(rb"(GLIBC|GLIBCXX)_(\d+(?:\.\d+)+)\0")


@dataclass(frozen=True)
class PackRequest:
    """What `effgen pack` was asked for. `runtime`: the processor family, None: the bundle's; `output` None: a name that
    says model and target, in the current folder; `with_model`: `model.onnx` too; `sign`: a private key."""

    bundle: Path
    runtime: str | None = None
    output: Path | None = None
    with_model: bool = False
    force: bool = False
    sign: Path | None = None


@dataclass(frozen=True)
class Pack:
    """What was written. `top`: its one folder; `files`: bytes of each below it; `libraries`: the least version that it
    asks for of the machine's `glibc` and `glibcxx` (libstdc++), where it asks for one; `verified_by`: the command that
    ran its `verify`, empty for none but this processor, None where nothing here could; `signed`: by a key."""

    path: Path
    top: str
    manifest: Manifest
    sha256: str
    bytes: int
    files: dict[str, int]
    libraries: dict[str, str]
    verified_by: tuple[str, ...] | None
    signed: bool = False


def pack_bundle(request: PackRequest, on_phase: OnPhase = lambda phase: None) -> Pack:
    """Write the archive, after its own `verify` has passed where something here can run it.

    Raises an EffgenError (one line): no bundle, one for a GPU or for another machine than asked for, a tool that is
    missing, an answer that misses the tolerance. Then nothing is written.
    """
    on_phase("check the bundle")
    manifest = read_packable(request.bundle, request.with_model)
    key = None if request.sign is None else read_private_key(request.sign)
    _check_machine(request, manifest)
    top = _name(manifest)
    output = request.output or Path(f"{top}.tar.gz")
    with staged_file(output, request.force) as staged:
        program = runner_program(manifest, on_phase)
        folder = staged.parent / top
        _fill(folder, request.bundle, _carried(manifest, request.with_model), program)
        verified_by = _verify(request.bundle, folder, manifest, on_phase)
        if key is not None:
            (folder / SIGNATURE).write_bytes(key.sign((folder / SUMS).read_bytes()))
        on_phase("write the archive")
        files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
        sizes = {name: file.stat().st_size for name, file in files.items()}
        libraries = _libraries(folder)
        _write(staged, top, files)
        shutil.rmtree(folder)
        written = sha256_of(staged), staged.stat().st_size
    return Pack(output, top, manifest, *written, sizes, libraries, verified_by, key is not None)


def _check_machine(request: PackRequest, manifest: Manifest) -> None:
    target = manifest.target["name"]
    why = "which effgen-run does not drive: copy the bundle there and run it from Python (docs/cuda.md)"
    refuse_gpu(request.bundle, manifest, why)
    if request.runtime not in (None, manifest.architecture):
        raise BuildError(
            f"--runtime {request.runtime}: the bundle {request.bundle} was compiled for {target}, whose processor is "
            f"{manifest.architecture}; leave --runtime out, or compile for a target of {request.runtime}"
        )


def _name(manifest: Manifest) -> str:
    """`efficientnet-phi-0-rpi4-aarch64`: by what the bundle says, not by where it lies."""
    words = re.findall(r"[A-Za-z0-9_.+]+", f"{manifest.name} {manifest.target['name']}")
    if words[-1] != manifest.architecture:
        words.append(manifest.architecture)
    return "-".join(words).lstrip(".+")[:80] or "pack"


def _carried(manifest: Manifest, with_model: bool) -> Manifest:
    """The manifest without the files that only this machine needs: the ONNX model, which PyTorch judges by, holds the
    weights a second time, and the standalone library holds them again."""
    left_out = set() if with_model else {MODEL, MODEL + EXTERNAL_SUFFIX}
    if manifest.standalone is not None:
        left_out |= set(manifest.standalone.values())
    files = {name: digest for name, digest in manifest.files.items() if name not in left_out}
    return dataclasses.replace(manifest, files=files, standalone=None)


def _fill(folder: Path, bundle: Path, manifest: Manifest, program: Path) -> None:
    """The archive's files, SHA256SUMS last."""
    (folder / PACKED).mkdir(parents=True)
    (folder / RUNTIME).mkdir()
    for name in manifest.files:
        shutil.copyfile(bundle / name, folder / PACKED / name)
    (folder / PACKED / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    for file in program.parent.iterdir():
        shutil.copyfile(file, folder / RUNTIME / file.name)
    (folder / RUNTIME / program.name).chmod(0o755)
    (folder / LICENSES).mkdir()
    for file_name, text in license_texts().items():
        (folder / LICENSES / file_name).write_bytes(text)
    script = resources.files("effgen.native_sources").joinpath("verify.sh").read_text(encoding="utf-8")
    (folder / VERIFY).write_text(script, encoding="utf-8")
    (folder / VERIFY).chmod(0o755)
    (folder / PACK).write_text(json.dumps(_facts(manifest), indent=2) + "\n", encoding="utf-8")
    (folder / README).write_text(_readme(folder, manifest), encoding="utf-8")
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    sums = "".join(f"{sha256_of(folder / name)}  {name}\n" for name in names)
    (folder / SUMS).write_text(sums, encoding="ascii")


def _facts(manifest: Manifest) -> dict[str, Any]:
    tvm, ffi = runtime_versions()
    return {
        "format_version": FORMAT_VERSION,
        "architecture": manifest.architecture,
        "model": manifest.name,
        "target": manifest.target["name"],
        "versions": {"effgen": __version__, "tvm": tvm, "tvm_ffi": ffi},
    }


def _verify(bundle: Path, folder: Path, manifest: Manifest, on_phase: OnPhase) -> tuple[str, ...] | None:
    """Run the folder's `verify` without timing; by which command, None where nothing here can."""
    try:
        command = emulator_of(manifest)
    except BuildError as error:
        on_phase(f"not verified: {error}")
        return None
    missing = [] if command else missing_features(manifest.target["features"])
    if missing:
        on_phase(f"not verified: this processor lacks {', '.join(missing)}")
        return None
    on_phase(f"verify it by {command[0] if command else 'this processor'}")
    environment = {**os.environ, "EFFGEN_EMULATOR": " ".join(command)}
    done = run_program(["sh", folder / VERIFY, "--runs", "0"], env=environment)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].replace(str(folder), str(bundle))
        kind = VerifyError if done.returncode == _MISSED else BuildError
        raise kind(f"{bundle}: the archive does not verify: {said}; nothing was written")
    return command


def _write(path: Path, top: str, files: dict[str, Path]) -> None:
    try:
        write_archive(path, top, files, frozenset({VERIFY, f"{RUNTIME}/{PROGRAM}"}))
    except (ValueError, tarfile.TarError) as error:  # a file of 8 GiB, a name of 256 characters
        raise BuildError(f"{path.name}: the bundle does not fit an archive: {error}") from None


def _readme(folder: Path, manifest: Manifest) -> str:
    target, shape, machine = manifest.target, tuple(manifest.input["shape"]), manifest.architecture
    stated = target.get("emulator") or {"command": [f"qemu-{machine}-static", "-L", "SYSROOT"]}
    features = textwrap.fill(
        terminal_text(", ".join(target["features"])) or "any", 110, initial_indent="    ", subsequent_indent="    "
    )
    tvm, ffi = runtime_versions()
    kind = manifest.output_kind.replace("_", " ")
    title = f"{manifest.name}, compiled by effgen {__version__} for {target['name']}: {target.get('description', '')}"
    return f"""{terminal_text(title)}

    ./verify

checks every file against SHA256SUMS, runs the network on the image of bundle/golden.npz, compares the answer with
PyTorch's, and times it. Exit status 3: the answer misses the tolerance; 1: an error, in one line. Options:

    ./verify --threads 2 --runs 50 --layers
    ./verify --input images.npy --output outputs.npy     # float32 {shape}, normalised -> {kind}

It needs {", ".join(["Linux", *needed_libraries(_libraries(folder)), "sha256sum"])}, and a processor of
{machine} with these instruction sets:

{features}

On another machine, with an emulator (its times say nothing):

    EFFGEN_EMULATOR="{terminal_text(" ".join(stated["command"]))}" ./verify

bundle/     the network: lib.so (kernels), weights.bin, golden.npz, manifest.json; from Python: effgen.load("bundle")
runtime/    effgen-run, with libtvm_runtime.so of Apache TVM {tvm} and libtvm_ffi.so of tvm-ffi {ffi}
licenses/   of those two libraries
pack.json   what this is, for programs; `effgen unpack` checks it
{SIGNATURE}   where there is one: of SHA256SUMS, by Ed25519; EFFGEN_KEY=key.pub.pem ./verify checks it by openssl
"""


def needed_libraries(versions: dict[str, str]) -> list[str]:
    """`Pack.libraries` in words."""
    words = {"glibc": "glibc {} or newer", "glibcxx": "libstdc++ with GLIBCXX_{}"}
    return [words[name].format(version) for name, version in versions.items()]


def _libraries(folder: Path) -> dict[str, str]:
    """The versions of libc and libstdc++ that the files ask for, as in `Pack`."""
    found: dict[bytes, tuple[int, ...]] = {b"GLIBC": (), b"GLIBCXX": ()}
    for file in [*folder.glob(f"{RUNTIME}/*"), folder / PACKED / "lib.so"]:
        for library, version in _GLIBC.findall(file.read_bytes()):
            found[library] = max(found[library], tuple(int(part) for part in version.split(b".")))
    return {name.decode().lower(): ".".join(map(str, version)) for name, version in found.items() if version}
