"""A processor, feature or option that LLVM does not know is refused by name, with those that it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import one_line

from effgen.errors import TargetError
from effgen.machines.llvm import check_llvm
from effgen.machines.target import load_target, stated_target, target_names
from effgen.runtime.library import prepare_tvm

X86, ARM = "x86_64-linux-gnu", "aarch64-linux-gnu"

TARGET = """
description = "mine"
cores = 2
features = ["FEATURE"]
[llvm]
mtriple = "x86_64-linux-gnu"
mcpu = "x86-64-v3"
[vector]
bytes = 16
registers = 16
[cache]
l1 = 32768
l2 = 524288
"""


@pytest.fixture(autouse=True, scope="module")
def _tvm() -> None:
    prepare_tvm()


def llvm(mtriple: str, mcpu: str, *mattr: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"mtriple": mtriple, "mcpu": mcpu, "mattr": list(mattr), "cl-opt": list(options)}


@pytest.mark.parametrize("name", target_names())
def test_llvm_knows_what_ships(name: str) -> None:
    stated = stated_target(name)
    if stated.llvm is not None:
        check_llvm(name, stated.llvm.model_dump(by_alias=True), stated.features or ())


@pytest.mark.parametrize(
    "known",
    [
        llvm(X86, "znver5", "-avx512bf16"),
        llvm(X86, "x86-64-v2", "+avx2,+fma"),
        llvm(X86, "x86-64", options=("-enable-misched=0",)),
        llvm(ARM, "generic", "+sve", "-dotprod"),
        llvm("arm64-linux-gnu", "apple-m1"),
        llvm("armv7l-linux-gnueabihf", "cortex-a9", "+neon"),
    ],
)
def test_known(known: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    check_llvm("mine", known)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("unknown", "message"),
    [
        (llvm(X86, "znver6"), r"llvm\.mcpu = 'znver6': LLVM \d+ knows no such x86_64 CPU; did you mean znver5, znver4"),
        (llvm(ARM, "cortex-a79"), r"'cortex-a79': .* no such aarch64 CPU; did you mean cortex-a78, cortex-a77"),
        (llvm(X86, "x86-64-v33"), r"did you mean x86-64-v3, "),
        (llvm(X86, "cortex-a76"), r"'cortex-a76': LLVM \d+ knows no such x86_64 CPU"),
        (llvm(X86, "qqqq"), r"known: alderlake, .*znver5$"),
        (llvm(X86, "k6"), r"'k6': has no 64-bit mode, which llvm\.mtriple = 'x86_64-linux-gnu' asks for"),
        (llvm("x86_46-linux-gnu", "znver4"), r"LLVM knows no processors of x86_46; did you mean x86_64"),
        (llvm(X86, "znver4", "+avx512foo"), r"llvm\.mattr: '\+avx512foo': LLVM \d+ knows no such .*mean avx512f, "),
        (llvm(X86, "znver4", "+avx2", "-axv512f"), r"'-axv512f': LLVM \d+ knows no such x86_64 feature; .*avx512f"),
        (llvm(X86, "znver4", "+avx2,+fme"), r"'\+fme': LLVM \d+ knows no such x86_64 feature; did you mean fma"),
        (llvm(X86, "znver4", "avx2"), r"'avx2': expected a feature with \+ or - before it, e\.g\. '\+avx2'"),
        (llvm(X86, "znver4", options=("-no-such=1",)), r"llvm\.cl-opt: '-no-such=1': LLVM \d+ knows no such option"),
    ],
)
def test_unknown(unknown: dict[str, Any], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TargetError, match=rf"^mine: .*{message}"):
        check_llvm("mine", unknown)
    assert capfd.readouterr() == ("", "")


def test_instruction_sets_that_llvm_would_not_use() -> None:
    with pytest.raises(TargetError, match=r"^mine: features: avx2: llvm\.mcpu = 'x86-64-v2' has none of it; .*\+avx2"):
        check_llvm("mine", llvm(X86, "x86-64-v2"), ["pni", "avx2"])
    with pytest.raises(TargetError, match=r"features: avx2: llvm\.mattr = \['-avx2'\] takes it away"):
        check_llvm("mine", llvm(X86, "x86-64-v3", "-avx2"), ["avx2"])
    check_llvm("mine", llvm(X86, "x86-64-v2", "+avx2"), ["avx2"])


def mine(folder: Path, old: str = "", new: str = "") -> Path:
    path = folder / "mine.toml"
    path.write_text(TARGET.replace("FEATURE", "sse4_2").replace(old, new))
    return path


@pytest.mark.parametrize("command", [["compile", "-o", "OUT"], ["tune", "--trials", "1"]])
def test_commands_refuse_it_in_one_line(run: Any, tmp_path: Path, command: list[str]) -> None:
    path, out = mine(tmp_path, "x86-64-v3", "x86-64-v9"), tmp_path / "out"
    words = [out if word == "OUT" else word for word in command]
    line = one_line(run(*words, "--target", path))
    assert line.startswith(f"{path}: llvm.mcpu = 'x86-64-v9': LLVM ")
    assert not out.exists()


def test_a_name_that_is_added_to_what_ships_is_asked_about_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from effgen.kernels.lowering import tvm_target

    machine = dataclasses.replace(load_target("x86-64-v3"), mcpu="x86-64-v9")
    with pytest.raises(TargetError, match=r"^--target x86-64-v3: llvm\.mcpu = 'x86-64-v9'"):
        tvm_target(machine)
