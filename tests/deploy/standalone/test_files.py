"""The files of the standalone library: what can be asked for, what is written, and what they hold."""

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import one_line
from standalone_bundles import (
    ALLOWED,
    EMIT,
    Made,
    made,
    needed_by,
    output_of,
    versions_of_glibc,
)

import effgen
from effgen.deploy.standalone import emits_from_texts
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BuildError, BundleError, VerifyError
from effgen.network import NetworkRequest
from effgen.runtime.standalone import StandaloneModel, load_standalone


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], ["bundle"]),
        (["standalone"], ["bundle", "standalone"]),
        (["executable"], ["bundle", "standalone", "executable"]),
        (["standalone, bundle", "executable"], ["bundle", "standalone", "executable"]),
    ],
)
def test_emits(texts: list[str], names: list[str]) -> None:
    assert list(emits_from_texts(texts)) == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--emit", "standalon"], "--emit standalon: did you mean standalone? known: bundle, executable, standalone"),
        (["--emit", "standalone", "--target", "cuda-sm90"], "--emit standalone: --target cuda-sm90 compiles for a GPU"),
        (["--emit", "executable", "--target", "cuda-sm80", "--dtype", "float16"], "--emit executable: --target cuda"),
        (
            ["--name", "my_model"],
            "--name my_model: is what a C library is called; expected --emit standalone beside it",
        ),
        *(
            (["--emit", "standalone", "--name", name], f"--name {name!r}: expected a C name that is no keyword: ")
            for name in (
                "double",
                "thread_local",
                "int8_t",
                "a-b",
                "3d_net",
                "My_Model",
                "a__b",
                "../x_1",
                "x_" * 40,
                "",
                "é_1",
            )
        ),
        (["--emit", "standalone", "--dtype", "float16"], "--dtype float16: kernels for CPUs are float32 yet"),
    ],
)
def test_what_cannot_be_emitted(options: list[str], message: str, run: Any, tmp_path: Path) -> None:
    assert one_line(run("compile", "-o", tmp_path / "out", *options)).startswith(message)
    assert not list(tmp_path.iterdir())


def test_bundle_holds_it(tiny: Made) -> None:
    assert tiny.manifest.standalone == {
        "name": "tiny_phi0",
        "header": "tiny_phi0.h",
        "shared": "libtiny_phi0.so",
        "static": "libtiny_phi0.a",
        "executable": "tiny_phi0",
    }
    assert {"tiny_phi0.h", "libtiny_phi0.so", "libtiny_phi0.a", "tiny_phi0"} <= tiny.manifest.files.keys()
    assert {file.name for file in tiny.bundle.iterdir()} == tiny.manifest.files.keys() | {"manifest.json"}


def test_not_unless_asked_for(tiny_bundle: Path, small_b0: Made) -> None:
    assert effgen.load(tiny_bundle).manifest.standalone is None
    assert small_b0.manifest.standalone is not None and small_b0.manifest.standalone["executable"] is None
    assert not (small_b0.bundle / small_b0.name).exists()


def test_changed_library_is_refused(tiny: Made, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny.bundle, tmp_path / "bundle")
    with (bundle / "libtiny_phi0.so").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"libtiny_phi0\.so: SHA-256 is"):
        load_standalone(bundle)


def test_path_out_of_the_bundle_is_refused(tiny: Made, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny.bundle, tmp_path / "bundle")
    standalone = {**(tiny.manifest.standalone or {}), "shared": "../evil.so"}
    (bundle / "manifest.json").write_text(replace(tiny.manifest, standalone=standalone).to_json())
    with pytest.raises(BundleError, match=r"standalone\.shared = '\.\./evil\.so': expected one of the files"):
        load_standalone(bundle)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"int nothing;", r"libtiny_phi0\.so: cannot be loaded: .*symbol: tiny_phi0_create; compile it again"),
        (None, r"libtiny_phi0\.so: cannot be loaded: no shared library of 64 bits; compile the bundle again"),
    ],
)
def test_library_that_cannot_be_loaded(code: bytes | None, message: str, tiny: Made, tmp_path: Path) -> None:
    library = tmp_path / "libtiny_phi0.so"
    if code is None:
        library.write_bytes(b"nothing")
    else:
        subprocess.run(["cc", "-shared", "-x", "c", "-", "-o", library], input=code, check=True)
    with pytest.raises(BundleError, match=message) as refused:
        StandaloneModel(tmp_path, tiny.manifest)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes", [{"input": {"shape": [1, 3, 31, 32]}}, {"outputs": [{"name": "x", "shape": [1, 9]}]}]
)
def test_library_of_other_arrays(changes: dict[str, Any], tiny: Made) -> None:
    """It would read and write beyond them: nobody tells it their sizes."""
    with pytest.raises(BundleError, match=r"libtiny_phi0\.so: takes or gives other arrays than the manifest says"):
        StandaloneModel(tiny.bundle, replace(tiny.manifest, **changes))


def test_library_of_another_processor(tiny: Made) -> None:
    target = tiny.manifest.target | {"name": "board", "llvm": {"mtriple": "riscv64-linux-gnu", "mcpu": "generic"}}
    with pytest.raises(BundleError, match=r"compiled for board, whose processor is riscv64; this one is"):
        StandaloneModel(tiny.bundle, replace(tiny.manifest, target=target))


@pytest.mark.parametrize("folder", ["größe 中 🙂", "a \"b\" 'c'", "back\\slash\\n", "a,b;c$d%s#e&f"])
def test_odd_folders(folder: str, tiny: Made, tiny_spec: Path, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    again = made(tmp_path / folder, NetworkRequest(spec=str(tiny_spec)))
    for name in ("libtiny_phi0.so", "tiny_phi0"):
        assert again.manifest.files[name] == tiny.manifest.files[name], name


def test_same_input_same_files(tiny: Made, tiny_spec: Path, tmp_path: Path) -> None:
    again = made(tmp_path, NetworkRequest(spec=str(tiny_spec)))
    ours, theirs = tiny.manifest.files, again.manifest.files
    for name in ("tiny_phi0.h", "libtiny_phi0.a", "libtiny_phi0.so", "tiny_phi0"):
        assert ours[name] == theirs[name], name


def test_needs_nothing(tiny: Made) -> None:
    assert needed_by("readelf", tiny.shared) <= ALLOWED
    assert max(versions_of_glibc("readelf", tiny.shared)) <= (2, 17)
    listed = subprocess.run(["ldd", tiny.bundle / tiny.name], capture_output=True, text=True)
    assert "not a dynamic executable" in listed.stderr + listed.stdout or "statically linked" in listed.stdout


def test_exports_its_functions_only(tiny: Made) -> None:
    wanted = {f"tiny_phi0_{name}" for name in ("create", "run", "destroy", "error", "floats")}
    for options, library in ((["-D"], tiny.shared), ([], tiny.static)):
        lines = output_of("nm", *options, "--defined-only", "--extern-only", library).splitlines()
        assert {line.split()[-1] for line in lines if " " in line} == wanted


def test_no_mutable_state(tiny: Made) -> None:
    """Beside what the C compiler's start-up code keeps, nothing is written but through a handle."""
    lines = output_of("objdump", "-t", tiny.static).splitlines()
    written = [line for line in lines if re.search(r" O \.(data|bss)\t", line)]
    assert [line.split()[-1] for line in written] == []


def test_kernels_are_the_bundles(tiny: Made) -> None:
    """The functions of the object that `lib.so` was linked from, by name and size."""

    def functions(file: Path) -> Counter[tuple[str, ...]]:
        lines = (line.split() for line in output_of("nm", "--print-size", file).splitlines())
        return Counter((words[1], words[3]) for words in lines if len(words) == 4 and words[2] in "tT")

    (kernels,) = tiny.kernels
    assert functions(kernels).total() > 3
    for library in (tiny.static, tiny.shared, tiny.bundle / "lib.so"):
        assert functions(kernels) <= functions(library)


def test_name_of_an_onnx_files(tiny: Made, run: Any, tmp_path: Path) -> None:
    options = ["--target", "cpu", "--emit", "standalone", "--quiet"]
    for folder, more, name in (("own", [], "tiny_phi0_onnx"), ("given", ["--name", "my_net"], "my_net")):
        shutil.copy(tiny.bundle / "model.onnx", tmp_path / "tiny_phi0_onnx.onnx")
        done = run("compile", "--onnx", tmp_path / "tiny_phi0_onnx.onnx", "-o", tmp_path / folder, *options, *more)
        assert done[0] == 0, done[2]
        assert load_standalone(tmp_path / folder).manifest.standalone["name"] == name  # type: ignore[index]
        assert (tmp_path / folder / f"{name}.h").is_file() and (tmp_path / folder / f"lib{name}.a").is_file()


def test_wrong_library_is_not_written(tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = StandaloneModel.__call__
    monkeypatch.setattr(StandaloneModel, "__call__", lambda self, image: right(self, image) * np.float32(1.0001))
    request = CompileRequest(NetworkRequest(spec=str(tiny_spec)), tmp_path / "out", emit=EMIT)
    with pytest.raises(VerifyError, match=r"the standalone library disagrees with PyTorch: relative L2 1\.00e-04"):
        compile_bundle(request)
    assert not list(tmp_path.iterdir())


def test_missing_tool(tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from effgen.machines import old_glibc

    real = old_glibc.tool_output

    def without_objcopy(command: Any, failure: str) -> str:
        return "no-objcopy\n" if "-print-prog-name=objcopy" in command else real(command, failure)

    monkeypatch.setattr(old_glibc, "tool_output", without_objcopy)
    for kept in (old_glibc.old_symbols, old_glibc.binary_tool):
        kept.cache_clear()
    request = CompileRequest(NetworkRequest(spec=str(tiny_spec)), tmp_path / "out", emit=EMIT)
    with pytest.raises(BuildError, match=r"^no-objcopy: not found: .*apt-get install binutils"):
        compile_bundle(request)
    assert not list(tmp_path.iterdir())


def test_processor_that_the_driver_does_not_know(tiny: Made, tmp_path: Path) -> None:
    from effgen.deploy.standalone import write_standalone

    target = tiny.manifest.target | {"llvm": {"mtriple": "riscv64-linux-gnu", "mcpu": "generic"}}
    with pytest.raises(BuildError, match="no driver for the processor riscv64; known: aarch64, x86_64"):
        write_standalone(replace(tiny.manifest, target=target), "tiny_phi0", tmp_path, [], EMIT)
