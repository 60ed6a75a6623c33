"""`effgen pack`: an archive that verifies itself wherever it is unpacked, and runs nothing that was changed."""

import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from commands import one_line
from damage import edit_manifest, flip, listing, seal, truncate
from networks import noise

import effgen
from effgen.deploy.executors import InProcess
from effgen.deploy.native import build_runner
from effgen.deploy.pack import PackRequest, _carried, pack_bundle
from effgen.deploy.unpack import unpack_archive
from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BuildError, VerifyError
from effgen.graph.onnx import write as export
from effgen.judge.case import golden_pair, relative_l2
from effgen.judge.verify import verify_bundle
from effgen.network import NetworkRequest
from effgen.runtime import load, read_manifest
from effgen.runtime.manifest import MODEL

HERE = platform.machine()
TOP = f"tiny-phi-0-cpu-{HERE}"
QEMU = "qemu-aarch64-static"


@pytest.fixture(autouse=True)
def cache(runner_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(runner_cache))


@pytest.fixture(scope="module")
def packed(tiny_bundle: Path, runner_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny bundle's archive."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(runner_cache))
        path = tmp_path_factory.mktemp("packed") / "tiny.tar.gz"
        assert pack_bundle(PackRequest(tiny_bundle, output=path)).verified_by == ()
        yield path


@pytest.fixture
def folder(packed: Path, tmp_path: Path) -> Path:
    """The archive unpacked by tar, in a path with a space."""
    place = tmp_path / "a board"
    place.mkdir()
    subprocess.run(["tar", "-xzf", packed, "-C", place], check=True)
    return place / TOP


def verify(folder: Path, *options: object, **how: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([folder / "verify", *map(str, options)], capture_output=True, text=True, **how)


def refused(folder: Path, message: str, **how: Any) -> None:
    """One line, and nothing on standard output, where effgen-run would have said something."""
    done = verify(folder, **how)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith("verify: ") and done.stderr.count("\n") == 1 and message in done.stderr, done.stderr


# What is written.


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
    standalone = {"name": "tiny", "header": None, "shared": "libtiny.so", "static": None, "executable": None}

    def add(data: dict[str, Any]) -> None:
        data["standalone"] = standalone
        data["files"] |= {"libtiny.so": "", "labels.txt": ""}

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


# Verifying.


def test_verify_from_anywhere(folder: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    for file in [*folder.rglob("*"), folder]:
        file.chmod(file.stat().st_mode & 0o555)
    clean = {"PATH": os.defpath}
    for command, place in (
        ([folder / "verify"], "/"),
        (["./verify"], folder),
        (["sh", "verify"], folder),
        (["verify"], tmp_path),
    ):
        environment = clean if command != ["verify"] else {"PATH": f"{folder}:{os.defpath}"}
        command = [*command, "--runs", "3", "--min-time", "0"]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done
        lines = [line.split()[0] for line in done.stdout.splitlines()]
        assert (
            lines == ["model", "target", "golden", "time"] and ": pass\n" in done.stdout and "(3 runs)" in done.stdout
        )
    for file in [folder, *folder.rglob("*")]:
        file.chmod(file.stat().st_mode | 0o200)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_options_are_handed_on(folder: Path, tmp_path: Path) -> None:
    report = json.loads(verify(folder, "--threads", 1, "--runs", 2, "--min-time", 0, "--json").stdout)
    assert report["threads"] == 1 and len(report["runs_ms"]) == 2 and report["passed"]
    np.save(tmp_path / "x.npy", noise((2, 3, 32, 32)))
    done = verify(folder, "--input", "x.npy", "--output", "y.npy", cwd=tmp_path)  # paths as they are meant here
    assert (done.returncode, done.stderr) == (0, "")
    model = InProcess(load(folder / "bundle"))
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model(noise((2, 3, 32, 32))))
    assert verify(folder, "--nonsense").returncode == 2


def test_under_an_emulator_it_runs_once_and_looks_at_no_features(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "emulator").write_text('#!/bin/sh\nprintf "%s\\n" "$*" >&2\nshift\nexec "$@"\n')
    (tmp_path / "emulator").chmod(0o755)
    emulated = {**os.environ, "PATH": f"{tmp_path}:{os.defpath}", "EFFGEN_EMULATOR": "emulator -L"}
    done = verify(folder, env=emulated)
    assert done.returncode == 0 and "(1 runs)" in done.stdout
    assert done.stderr.startswith("-L ") and "--skip-features --runs 1 --min-time 0\n" in done.stderr
    assert "(4 runs)" in verify(folder, "--runs", 4, env=emulated).stdout
    np.save(tmp_path / "x.npy", noise((1, 3, 32, 32)))
    assert verify(folder, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy", env=emulated).returncode == 0
    refused(folder, "EFFGEN_EMULATOR: no-such: not found", env={**emulated, "EFFGEN_EMULATOR": "no-such -x"})


def test_checked_libraries_come_before_others(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "libtvm_ffi.so").write_text("no library")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    assert verify(folder, "--runs", 0, env=environment).returncode == 0


FILES = [
    "bundle/lib.so", "bundle/weights.bin", "bundle/manifest.json", "bundle/golden.npz", "runtime/effgen-run",
    "runtime/libtvm_ffi.so", "runtime/libtvm_runtime.so", "pack.json", "README.txt", "verify",
]  # fmt: skip


def set_trap(folder: Path) -> None:
    """A runtime that tells by its output that it was run."""
    (folder / "runtime" / "effgen-run").write_text("#!/bin/sh\necho ran\n")


@pytest.mark.parametrize("name", FILES)
def test_flipped_byte_is_told_before_anything_runs(folder: Path, name: str) -> None:
    position = -2 if name == "verify" else None  # the script runs until it checks itself
    flip(folder / name, position)
    refused(folder, f"{name}: changed, damaged or missing")


@pytest.mark.parametrize("name", ["bundle/lib.so", "runtime/libtvm_ffi.so"])
def test_truncated_or_missing_file(folder: Path, name: str) -> None:
    truncate(folder / name, 100)
    refused(folder, f"{name}: changed, damaged or missing")
    (folder / name).unlink()
    refused(folder, f"{name}: changed, damaged or missing")


def test_program_in_its_place(folder: Path) -> None:
    set_trap(folder)
    refused(folder, "runtime/effgen-run: changed, damaged or missing")


@pytest.mark.parametrize("name", ["runtime/libstdc++.so.6", "bundle/x", "runtime/sub/x", "runtime/line\nfeed"])
def test_file_too_many(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("surplus")
    refused(folder, f"{name.splitlines()[0]}: not listed in SHA256SUMS")


def test_what_a_user_writes_beside_is_no_harm(folder: Path) -> None:
    (folder / "report.json").write_text("{}")
    assert verify(folder, "--runs", 0).returncode == 0


@pytest.mark.parametrize("name", ["bundle/lib.so", "runtime/libtvm_ffi.so"])
def test_link_in_place_of_a_file(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "moved")
    (folder / name).symlink_to(tmp_path / "moved")
    refused(folder, f"{name}: is a link or a device, expected a file")


def test_link_in_place_of_a_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "runtime").rename(tmp_path / "moved")
    (folder / "runtime").symlink_to(tmp_path / "moved")
    refused(folder, "runtime: no such folder")


def edit_sums(folder: Path, old: str, new: str) -> None:
    text = (folder / "SHA256SUMS").read_text()
    assert old in text
    (folder / "SHA256SUMS").write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  bundle/lib.so", " *bundle/lib.so", "SHA256SUMS: damaged"),
        ("  bundle/lib.so", "  ../bundle/lib.so", "SHA256SUMS: damaged"),
        ("  pack.json", "  pack.jsom", "SHA256SUMS: does not list pack.json"),
        ("\n", "\r\n", "SHA256SUMS: damaged"),
        ("\n", "", "SHA256SUMS: damaged"),
        ("a", "g", "SHA256SUMS: damaged"),
    ],
)
def test_sums_that_are_none(folder: Path, old: str, new: str, message: str) -> None:
    edit_sums(folder, old, new)
    refused(folder, message)


def test_sums_that_leave_out_a_file(folder: Path) -> None:
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    for name in ("bundle/lib.so", "runtime/libtvm_ffi.so"):
        kept = [line for line in lines if not line.endswith(f"{name}\n")]
        (folder / "SHA256SUMS").write_text("".join(kept))
        refused(folder, f"{name}: not listed in SHA256SUMS")
    for content in ("", "".join(lines[:4])):
        (folder / "SHA256SUMS").write_text(content)
        refused(folder, "SHA256SUMS: ")
    (folder / "SHA256SUMS").unlink()
    refused(folder, "SHA256SUMS: missing or empty")


def tools(place: Path, without: str = "", **scripts: str) -> dict[str, str]:
    """An environment with what a small system has, a program left out or replaced."""
    place.mkdir()
    for name in ("sh", "find", "sort", "sed", "grep", "head", "uname", "sha256sum"):
        if name in scripts:
            (place / name).write_text(f"#!/bin/sh\n{scripts[name]}\n")
            (place / name).chmod(0o755)
        elif name != without:
            (place / name).symlink_to(str(shutil.which(name)))
    return {"PATH": str(place)}


def test_small_system(folder: Path, tmp_path: Path) -> None:
    assert verify(folder, "--runs", 0, env=tools(tmp_path / "bin")).returncode == 0
    refused(folder, "sha256sum: not found: it checks the files", env=tools(tmp_path / "less", without="sha256sum"))


@pytest.mark.skipif(not shutil.which("busybox"), reason="needs busybox")
def test_busybox(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("sh", "find", "sed", "grep", "head", "uname", "sha256sum"):
        (place / name).symlink_to(str(shutil.which("busybox")))
    how: dict[str, Any] = {"env": {"PATH": str(place)}, "capture_output": True, "text": True}
    done = subprocess.run([place / "sh", folder / "verify", "--runs", "0"], **how)
    assert (done.returncode, done.stderr) == (0, ""), done
    flip(folder / "bundle" / "lib.so")
    done = subprocess.run([place / "sh", folder / "verify", "--runs", "0"], **how)
    assert done.returncode == 1 and "bundle/lib.so: changed, damaged or missing" in done.stderr


def test_another_machine(folder: Path, tmp_path: Path) -> None:
    refused(folder, f"made for {HERE}, this machine is s390x", env=tools(tmp_path / "bin", uname="echo s390x"))


def test_program_that_may_not_run(folder: Path) -> None:
    (folder / "runtime" / "effgen-run").chmod(0o644)
    refused(folder, "runtime/effgen-run: not executable; run chmod +x on it")


def test_program_that_does_not_start(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "emulator").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "emulator").chmod(0o755)
    environment = {"PATH": os.defpath, "EFFGEN_EMULATOR": str(tmp_path / "emulator")}
    refused(folder, "does not start here (status 127); README.txt", env=environment)


def test_answer_that_is_missed_is_status_three(folder: Path) -> None:
    edit_manifest(folder / "bundle", lambda data: data.update(tolerance={"rel_l2": 0.0}))
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    done = subprocess.run(["sha256sum", "bundle/manifest.json"], cwd=folder, capture_output=True, text=True, check=True)
    kept = [line for line in lines if not line.endswith("manifest.json")]
    (folder / "SHA256SUMS").write_text("\n".join([*kept, done.stdout]))
    done = verify(folder, "--runs", 0)
    assert done.returncode == 3 and "expected at most 0" in done.stderr


# What is refused, and leaves nothing.


@pytest.fixture
def broken(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "broken")


def not_packed(bundle: Path, run: Any, message: str, *options: str, status: int = 1) -> None:
    output = bundle.parent / "new" / "x.tar.gz"
    assert message in one_line(run("pack", bundle, "-o", output, *options, "-q"), status)
    assert not output.parent.exists()


def test_runtime_of_another_machine(broken: Path, run: Any) -> None:
    other = "aarch64" if HERE == "x86_64" else "x86_64"
    message = f"--runtime {other}: the bundle {broken} was compiled for cpu, whose processor is {HERE}; leave --runtime"
    not_packed(broken, run, message, "--runtime", other)
    assert run("pack", broken, "--runtime", "mips")[0] == 2


def test_bundle_of_a_gpu(broken: Path, run: Any) -> None:
    (broken / "lib.so").rename(broken / "kernels.fatbin")

    def to_gpu(data: dict[str, Any]) -> None:
        data["device"]["kind"] = "cuda"
        data["files"]["kernels.fatbin"] = data["files"].pop("lib.so")

    edit_manifest(broken, to_gpu)
    not_packed(broken, run, "compiled for a GPU (cpu), which effgen-run does not drive: copy the bundle there")


def test_unknown_machine(broken: Path, run: Any) -> None:
    edit_manifest(broken, lambda data: data["target"]["llvm"].update(mtriple="s390x-linux-gnu"))
    not_packed(broken, run, "target cpu: no compiler that links for s390x-linux-gnu")


@pytest.mark.parametrize("name", ["lib.so", "weights.bin", "golden.npz", "model.onnx"])
def test_damaged_bundle(broken: Path, run: Any, name: str) -> None:
    flip(broken / name)
    not_packed(broken, run, f"{name}: SHA-256 is")
    not_packed(broken.parent / "absent", run, "no bundle here")


def test_bundle_without_a_golden_pair(broken: Path, run: Any) -> None:
    (broken / "golden.npz").unlink()
    not_packed(broken, run, f"{broken}/golden.npz: missing from the bundle")
    edit_manifest(broken, lambda data: data["files"].pop("golden.npz"))
    not_packed(
        broken, run, f"{broken}/manifest.json: files: no hash of golden.npz, which judges it; compile the bundle"
    )


def test_wrong_answer(broken: Path, run: Any) -> None:
    image, output = golden_pair(broken)
    np.savez(broken / "golden.npz", input=image, output=output + np.float32(1e-3))
    seal(broken)
    not_packed(broken, run, "the archive does not verify: effgen-run: ", status=3)
    with pytest.raises(VerifyError, match=rf"{broken}/bundle: golden pair: relative L2 .*; nothing was written"):
        pack_bundle(PackRequest(broken, output=broken.parent / "x"))


def test_library_that_does_not_load(broken: Path, run: Any) -> None:
    subprocess.run(["cc", "-shared", "-x", "c", "/dev/null", "-o", broken / "lib.so"], check=True)
    seal(broken)
    not_packed(broken, run, "the archive does not verify: effgen-run: ")


def test_processor_that_this_one_is_not(broken: Path) -> None:
    edit_manifest(broken, lambda data: data["target"].update(features=["avx1024"]))
    phases: list[str] = []
    packed = pack_bundle(PackRequest(broken, output=broken.parent / "x"), phases.append)
    assert packed.verified_by is None and "not verified: this processor lacks avx1024" in phases


def test_path_that_cannot_be_written(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match="file is not a directory"):
        pack_bundle(PackRequest(tiny_bundle, output=tmp_path / "file" / "x"))


# For a board.


@pytest.fixture(scope="module")
def board_pack(tiny_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    compile_bundle(CompileRequest(NetworkRequest(spec=str(tiny_spec)), folder / "tiny", target="rpi4"))
    packed = pack_bundle(PackRequest(folder / "tiny", "aarch64", folder / "x.tar.gz"))
    assert packed.verified_by is not None and Path(packed.verified_by[0]).name == QEMU
    return folder / "x.tar.gz"


@pytest.mark.arm
@pytest.mark.parametrize("by", ["tar", "effgen"])
def test_board_pack_in_a_folder_that_holds_nothing_else(board_pack: Path, by: str, tmp_path: Path, run: Any) -> None:
    if by == "tar":
        subprocess.run(["tar", "-xzf", board_pack, "-C", tmp_path], check=True)
        (tmp_path / "tiny-phi-0-rpi4-aarch64").rename(tmp_path / "alone")
    else:
        assert run("unpack", board_pack, "-o", tmp_path / "alone")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["alone"]
    environment = {"PATH": os.defpath, "EFFGEN_EMULATOR": f"{QEMU} -L /usr/aarch64-linux-gnu"}
    done = subprocess.run(["./verify"], cwd=tmp_path / "alone", env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "target     rpi4, " in done.stdout and ": pass\n" in done.stdout and "(1 runs)" in done.stdout
    if HERE != "aarch64":
        refused(tmp_path / "alone", f"made for aarch64, this machine is {HERE}", env={"PATH": os.defpath})
    flip(tmp_path / "alone" / "bundle" / "lib.so")
    refused(tmp_path / "alone", "bundle/lib.so: changed, damaged or missing", env=environment)


@pytest.mark.arm
def test_board_pack_without_an_emulator(board_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, mode=1, path=None: None if name == QEMU else real(name, path=path)
    )
    phases: list[str] = []
    packed = pack_bundle(PackRequest(board_pack.parent / "tiny", output=tmp_path / "x.tar.gz"), phases.append)
    assert packed.verified_by is None and any(phase.startswith(f"not verified: {QEMU}: not found") for phase in phases)
    assert (tmp_path / "x.tar.gz").read_bytes() == board_pack.read_bytes()
    assert read_manifest(board_pack.parent / "tiny").target["name"] == "rpi4"
