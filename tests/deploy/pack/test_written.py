"""What `effgen pack` writes: all that running needs, the same bytes twice."""

import json
import os
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import onnx
import pytest
from commands import one_line
from damage import edit_manifest, listing, seal
from packing import HERE, TOP

import effgen
from effgen.deploy.native import build_runner
from effgen.deploy.pack import PackRequest, _carried, pack_bundle
from effgen.deploy.unpack import unpack_archive
from effgen.graph.onnx import write as export
from effgen.judge.case import golden_pair, relative_l2
from effgen.judge.verify import verify_bundle
from effgen.runtime import read_manifest
from effgen.runtime.manifest import MODEL


def test_holds_what_running_needs(packed: Path, tiny_bundle: Path) -> None:
    with tarfile.open(packed) as archive:
        names = [name.removeprefix(f"{TOP}/") for name in archive.getnames()]
    licenses = [name for name in names if name.startswith("licenses/")]
    assert names == sorted(names) and "licenses/apache-tvm.LICENSE" in licenses
    assert set(names) - set(licenses) == {
        "README.txt", "SHA256SUMS", "pack.json", "verify", "runtime/effgen-run", "runtime/libtvm_ffi.so",
        "runtime/libtvm_runtime.so", "bundle/golden.npz", "bundle/lib.so", "bundle/manifest.json", "bundle/weights.bin",
    }  # fmt: skip


def test_same_bytes_twice(packed: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = shutil.copytree(tiny_bundle, tmp_path / "deep" / "elsewhere")
    for file in elsewhere.iterdir():
        os.utime(file, (1, 1))
        file.chmod(0o600)
    monkeypatch.chdir(elsewhere.parent)
    again = pack_bundle(PackRequest(Path("elsewhere"), HERE))
    assert again.path == Path(f"{TOP}.tar.gz") and again.path.read_bytes() == packed.read_bytes()
    assert listing(tmp_path / "deep") == sorted(["elsewhere", f"{TOP}.tar.gz", *listing_of(elsewhere, "elsewhere")])


def listing_of(folder: Path, name: str) -> list[str]:
    return [f"{name}/{below}" for below in listing(folder)]


def test_labels_come_along_the_standalone_library_stays_at_home(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (bundle / "libtiny.so").write_text("weights again")
    (bundle / "labels.txt").write_text("a\nb\n")
    (bundle / "tiny.h").write_text("its header")
    standalone = {
        "name": "tiny",
        "header": "tiny.h",
        "shared": "libtiny.so",
        "static": "libtiny.so",
        "executable": None,
    }

    def add(data: dict[str, Any]) -> None:
        data["standalone"] = standalone
        data["files"] |= {"libtiny.so": "", "tiny.h": "", "labels.txt": ""}

    edit_manifest(bundle, add)
    seal(bundle)
    assert not [name for name in pack_bundle(PackRequest(bundle, output=tmp_path / "x")).files if "tiny" in name]
    carried = unpack_archive(tmp_path / "x", tmp_path / "out").manifest
    assert carried.standalone is None and carried.files.keys() == {"lib.so", "weights.bin", "golden.npz", "labels.txt"}


def test_model_stays_at_home_in_one_file_or_two(tiny_bundle: Path, tmp_path: Path) -> None:
    """Above 2 GiB its weights are in a file of their own."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "EXTERNAL_ABOVE_BYTES", 10_000)
        written = export.save_onnx(onnx.load(bundle / MODEL), bundle / MODEL)
    assert len(written) == 2
    edit_manifest(bundle, lambda data: data["files"].update({file.name: "" for file in written}))
    seal(bundle)
    manifest = read_manifest(bundle)
    at_home = {file.name for file in written}
    assert at_home <= manifest.files.keys()
    assert _carried(manifest, with_model=False).files.keys() == manifest.files.keys() - at_home
    assert _carried(manifest, with_model=True).files == manifest.files


def test_model_comes_along_if_asked_for(tiny_bundle: Path, tmp_path: Path, run: Any) -> None:
    assert run("pack", tiny_bundle, "--with-model", "-o", tmp_path / "x.tar.gz")[0] == 0
    assert run("unpack", tmp_path / "x.tar.gz", "-o", tmp_path / "x")[0] == 0
    report = verify_bundle(tmp_path / "x" / "bundle")
    assert report.passed and report.judged == 9


def test_python_loads_what_was_packed(folder: Path, run: Any) -> None:
    image, expected = golden_pair(folder / "bundle")
    assert relative_l2(effgen.load(folder / "bundle")(image), expected) <= 1e-5
    message = one_line(run("verify", folder / "bundle"))
    assert message == f"{folder / 'bundle'}: holds no model.onnx, which judges it: pack it with --with-model"
    assert f"is an unpacked archive; its bundle is {folder / 'bundle'}" in one_line(run("verify", folder))


def test_report(tiny_bundle: Path, tmp_path: Path, run: Any) -> None:
    code, out, err = run("pack", tiny_bundle, "-o", tmp_path / "x.tar.gz")
    assert code == 0 and "verified  by this processor" in out and "verify it by this processor" in err
    needs = re.search(r"needs +glibc (2\.\d+) or newer, libstdc\+\+ with GLIBCXX_(3\.4(?:\.\d+)?) *\n", out)
    assert needs, out
    data = json.loads(run("pack", tiny_bundle, "-o", tmp_path / "x.tar.gz", "--force", "--json", "-")[1])
    assert data["libraries"] == {"glibc": needs[1], "glibcxx": needs[2]}
    with tarfile.open(tmp_path / "x.tar.gz") as archive:
        readme = archive.extractfile(f"{TOP}/README.txt")
        assert readme and f"glibc {needs[1]} or newer, libstdc++ with GLIBCXX_{needs[2]}" in readme.read().decode()
    assert (data["architecture"], data["top"], data["verified_by"]) == (HERE, TOP, [])
    assert data["bytes"] == (tmp_path / "x.tar.gz").stat().st_size and data["files"]["bundle/lib.so"] > 0
    assert "exists already" in one_line(run("pack", tiny_bundle, "-o", tmp_path / "x.tar.gz"))


@pytest.mark.slow
def test_program_is_the_same_wherever_it_is_built(runner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = build_runner(f"{HERE}-linux-gnu", "c++", "g++")
    assert program != runner.program and program.read_bytes() == runner.program.read_bytes()
    assert b"site-packages" not in program.read_bytes()
