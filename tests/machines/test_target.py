"""Targets: what ships, what is detected, and what a wrong file is told."""

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from importlib import resources
from pathlib import Path

import pytest

from effgen.errors import TargetError
from effgen.machines import detection
from effgen.machines.detection import FoundGpu
from effgen.machines.machine import Cpu, Gpu, MachineFacts
from effgen.machines.microarchitecture import MICROARCHITECTURES, this_microarchitecture
from effgen.machines.processor import missing_features
from effgen.machines.target import load_target, target_names, this_cpu
from effgen.machines.target_file import Costs, Cuda, cuda_archs_from_text, inherited_costs

COMPLETE = """
description = "a test"
cores = 3
features = ["avx2"]
[llvm]
mtriple = "x86_64-linux-gnu"
mcpu = "x86-64-v3"
[vector]
bytes = 32
registers = 16
[cache]
l1 = 1024
l2 = 2048
"""

GPU = """[cuda]
arch = "sm_90"
multiprocessors = 132
shared_memory = 232448
l2 = 52428800
"""


def test_every_shipped_target_loads() -> None:
    assert {"cpu", "x86-64-v3", "x86-64-v4"} <= set(target_names())
    for name in target_names():
        assert load_target(name).name == name


def test_detected_machine_can_run_its_own_code() -> None:
    machine = load_target("cpu")
    assert missing_features(machine.features) == []
    assert machine.cores == len(os.sched_getaffinity(0))
    assert machine.l1_bytes < machine.l2_bytes
    assert machine.llvm["kind"] == "llvm"
    assert machine.llvm["mcpu"] == machine.mcpu != ""


def test_generic_targets_know_their_vectors() -> None:
    v3, v4 = load_target("x86-64-v3"), load_target("x86-64-v4")
    assert (v3.lanes, v3.vector_registers) == (8, 16)
    assert (v4.lanes, v4.vector_registers) == (16, 32)


def test_missing_features_are_named() -> None:
    assert missing_features(["no_such_feature", *load_target("cpu").features]) == ["no_such_feature"]


def test_checking_features_needs_no_compiler() -> None:
    code = (
        "import sys\nfrom effgen.machines.processor import missing_features\n"
        "from effgen.machines.target import load_target\n"
        "missing_features(load_target('x86-64-v3').features)\nassert 'tvm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_is_a_machine(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(COMPLETE)
    machine = load_target(path)
    assert (machine.name, machine.cores, machine.l2_bytes) == ("mine", 3, 2048)
    assert machine.llvm == {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v3"}


def test_a_stated_table_overrides_detection(tmp_path: Path) -> None:
    path = tmp_path / "half.toml"
    path.write_text('description = "half"\ndetect = true\ncores = 1\n[vector]\nbytes = 32\nregisters = 16\n')
    machine = load_target(str(path))
    assert (machine.cores, machine.vector_bytes, machine.mcpu) == (1, 32, load_target("cpu").mcpu)


def test_micro_architectures(tmp_path: Path) -> None:
    """What a file says, what LLVM's name of its CPU says, this computer's where the CPU is detected."""
    assert load_target("cpu").microarchitecture == this_microarchitecture()
    assert [load_target(name).microarchitecture for name in ("rpi4", "x86-64-v4", "cuda-sm90")] == [
        "cortex-a72",
        "",
        "",
    ]
    path = tmp_path / "mine.toml"
    path.write_text(f'microarchitecture = "zen5"\n{COMPLETE}')
    assert load_target(path).microarchitecture == "zen5"
    path.write_text(f'microarchitecture = "zen55"\n{COMPLETE}')
    message = r"mine\.toml: microarchitecture = 'zen55': expected the name of a micro-architecture; did you mean zen5"
    with pytest.raises(TargetError, match=message):
        load_target(path)


def test_what_is_known_of_micro_architectures() -> None:
    """Every file is of a known one, and states known costs by width; they stand over what the width inherits."""
    files = [file for file in resources.files("effgen.targets.costs").iterdir() if file.name.endswith(".toml")]
    assert {file.name.removesuffix(".toml") for file in files} >= {"zen3", "zen4", "zen5", "emerald-rapids"}
    for file in files:
        name = file.name.removesuffix(".toml")
        assert name in MICROARCHITECTURES
        for table, stated in tomllib.loads(file.read_text()).items():
            width = int(table.removeprefix("bytes-"))
            costs, whose = inherited_costs(width, name)
            plain, of_width = inherited_costs(width)
            assert costs.model_dump() == plain.model_dump() | stated and stated.keys() <= Costs.model_fields.keys()
            assert whose == f"{of_width}; of {name} {', '.join(stated)}"
    assert inherited_costs(64, "zen4") == inherited_costs(64) == inherited_costs(64, "none")


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(TargetError, match=r"x86-64-v5.*did you mean x86-64-v4\?.*cpu, cuda, .*x86-64-v3, x86-64-v4"):
        load_target("x86-64-v5")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("registers = 16", "registers = 2", r"bad\.toml: vector\.registers = 2: expected"),
        ("bytes = 32", "bytes = 33", r"bad\.toml: vector\.bytes = 33: expected a multiple of 16"),
        ("cores = 3", 'cores = "3"', r"bad\.toml: cores = '3': expected a valid integer"),
        ("cores = 3", "", r"bad\.toml: expected cores; state them, or detect = true"),
        ("cores = 3", "coers = 3", r"bad\.toml: coers: unknown key; did you mean cores\?"),
        ("mcpu = ", "mcup = ", r"bad\.toml: llvm\.mcup: unknown key; did you mean mcpu\?"),
        ('description = "a test"', "", r"bad\.toml: description: missing; add it"),
        ("cores = 3", "cores =", r"bad\.toml: not TOML"),
        ('"avx2"', '"asimd"', r"bad\.toml: features: asimd is no instruction set of x86_64, which llvm\.mtriple names"),
        ('"avx2"', "", r"bad\.toml: vector\.bytes = 32: needs avx2 among the features"),
        ("[cache]", '[emulator]\ncommand = []\npackage = "p"\n[cache]', r"emulator\.command = \[\]: expected to have"),
        ("[cache]", '[toolchain]\ncompiler = "g++"\n[cache]', r"bad\.toml: toolchain\.package: missing; add it"),
        (
            "[cache]",
            '[measure]\nroute = "ssh"\n[cache]',
            r"measure\.route = 'ssh': expected 'local', 'rpc' or 'offline'",
        ),
        ("[cache]", '[measure]\nkey = "a"\n[cache]', r"measure\.key = 'a': only a tracker asks for it"),
        ("[cache]", "[tolerance]\nfloat32 = 0.0\n[cache]", r"tolerance\.float32 = 0\.0: expected greater than 0"),
        ("[cache]", "[costs]\nlauch = 1\n[cache]", r"bad\.toml: costs\.lauch: unknown key; did you mean launch\?"),
        ("[cache]", "[costs]\nlaunch = -1\n[cache]", r"costs\.launch = -1: expected greater than or equal to 0"),
        ("[cache]", "[costs]\nstream_bytes = 0\n[cache]", r"costs\.stream_bytes = 0: expected greater than 0"),
        ("[cache]", "[costs]\nchain = 1.5\n[cache]", r"costs\.chain = 1\.5: expected a valid integer"),
        ("[cache]", '[costs]\nstore = "2"\n[cache]', r"costs\.store = '2': expected a valid number"),
        ("[cache]", "[costs]\ngate = nan\n[cache]", r"costs\.gate = nan: expected a finite number"),
        ("cores = 3", "cores = 3\ncosts = 3", r"bad\.toml: costs = 3: expected a table"),
        ("[cache]", f"{GPU}[cache]", r"bad\.toml: vector: describes a CPU, but the kernels run on a GPU"),
    ],
)
def test_a_wrong_file_is_told_what_to_change(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(COMPLETE.replace(old, new))
    with pytest.raises(TargetError, match=message) as caught:
        load_target(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sm_90", "sm90", r"cuda\.arch = 'sm90': expected to match pattern"),
        ("sm_90", "sm_90a", r"cuda\.arch = 'sm_90a': expected to match pattern"),
        ("multiprocessors = 132", "", r"cuda\.multiprocessors: missing; add it"),
    ],
)
def test_a_wrong_gpu_is_told_what_to_change(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "gpu.toml"
    host = '[llvm]\nmtriple = "x86_64-linux-gnu"\nmcpu = "x86-64"\n'
    path.write_text(f'description = "a GPU"\n{host}{GPU}')
    assert load_target(path).tvm["arch"] == "sm_90"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(TargetError, match=message):
        load_target(path)


def test_a_gpu_has_no_costs_of_a_cpu(tmp_path: Path) -> None:
    path = tmp_path / "gpu.toml"
    host = '[llvm]\nmtriple = "x86_64-linux-gnu"\nmcpu = "x86-64"\n'
    path.write_text(f'description = "a GPU"\n{host}{GPU}[costs]\nlaunch = 1\n')
    with pytest.raises(TargetError, match=r"costs: describes a CPU, but the kernels run on a GPU"):
        load_target(path)


def test_costs_that_a_file_leaves_out_are_those_of_its_width(tmp_path: Path) -> None:
    """Zen 4's; where vectors have 32 bytes Zen 3's, and what is known of the micro-architecture."""
    zen4, zen3 = load_target("x86-64-v4"), load_target("x86-64-v3")
    assert isinstance(zen4, Cpu) and isinstance(zen3, Cpu) and zen3.costs != zen4.costs
    for name in target_names():
        machine = load_target(name)
        if isinstance(machine, Cpu):
            inherited = (zen3 if machine.vector_bytes == 32 else zen4).costs
            known = inherited_costs(machine.vector_bytes, machine.microarchitecture)[0]
            assert machine.costs == (known if machine.microarchitecture else inherited), name
    for stated, inherited in ((32, zen3), (16, zen4)):
        path = tmp_path / f"of{stated}.toml"
        path.write_text(re.sub(r"(?m)^bytes = \d+", f"bytes = {stated}", COMPLETE) + "[costs]\nlaunch = 30000\n")
        machine = load_target(path)
        assert isinstance(machine, Cpu)
        assert machine.costs == inherited.costs.model_copy(update={"launch": 30_000.0})


def test_costs_of_zen_3_say_where_they_are_from() -> None:
    text = (resources.files("effgen.targets") / "x86-64-v3.toml").read_text(encoding="utf-8")
    table = text.partition("[costs]\n")[2].splitlines()
    assert table and all(line.partition("#")[2].strip() for line in table)


def test_every_cost_of_zen_4_says_where_it_is_from() -> None:
    text = (resources.files("effgen.targets") / "x86-64-v4.toml").read_text(encoding="utf-8")
    table = text.partition("[costs]\n")[2].splitlines()
    assert {line.partition(" ")[0] for line in table} == set(Costs.model_fields)
    assert all(line.partition("#")[2].strip() for line in table)


def test_a_cpu_and_a_gpu_have_no_field_of_the_other() -> None:
    cpu, gpu = load_target("x86-64-v4"), load_target("cuda-sm90")
    assert isinstance(cpu, Cpu) and isinstance(gpu, Gpu)
    shared = {item.name for item in fields(MachineFacts)}
    of_cpu, of_gpu = ({item.name for item in fields(kind)} - shared for kind in (Cpu, Gpu))
    assert of_cpu == {
        "vector_bytes",
        "vector_registers",
        "l1_bytes",
        "l2_bytes",
        "cores",
        "features",
        "costs",
        "costs_of",
    }
    assert of_gpu == {"archs", "multiprocessors", "shared_memory", "l2"}


def test_what_both_answer() -> None:
    cpu, gpu = load_target("x86-64-v3"), load_target("cuda-sm90").with_archs(("sm_80", "sm_90"))
    assert (cpu.processor, cpu.compiles_for, cpu.cuda_programs) == ("x86-64-v3", "x86-64-v3", ())
    assert (gpu.processor, gpu.compiles_for, gpu.cuda_programs) == ("sm_80", "sm_80,sm_90", ("nvcc",))
    assert (cpu.tvm, gpu.tvm["kind"], gpu.tvm["host"]) == (cpu.llvm, "cuda", gpu.llvm)
    assert (cpu.lanes, [cpu.lanes_of(channels) for channels in (24, 20, 3)]) == (8, [8, 4, 8])
    assert (gpu.lanes, [gpu.lanes_of(channels) for channels in (24, 20, 3)]) == (4, [24, 24, 8])
    assert "avx2" in cpu.needed_features and gpu.needed_features == ()
    assert not load_target("jetson-orin").is_foreign


def test_threads_are_of_a_cpu() -> None:
    cpu, gpu = load_target("rpi4"), load_target("cuda-sm90")
    assert (cpu.threads, cpu.with_threads(2).threads, cpu.with_threads(None)) == (4, 2, cpu)
    assert (gpu.threads, gpu.with_threads(2), gpu.most_threads_here) == (1, gpu, 1)
    assert cpu.most_threads_here == len(os.sched_getaffinity(0))
    assert cpu.with_threads(2).second_level_bytes == 2 * 262144


def test_this_cpu_is_what_cpu_means() -> None:
    assert this_cpu() == load_target("cpu")


def test_arm_targets_are_cross_compiled_and_emulated() -> None:
    for name in ("aarch64", "rpi4", "rpi5", "graviton3"):
        machine = load_target(name)
        assert (machine.architecture, machine.lanes, machine.vector_registers) == ("aarch64", 4, 32)
        assert machine.toolchain is not None and machine.emulator is not None


def test_keys_are_passed_through_to_llvm(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(COMPLETE.replace("[vector]", 'mattr = ["+fma"]\nmfloat-abi = "hard"\ncl-opt = ["-x=1"]\n[vector]'))
    llvm = load_target(path).llvm
    assert (llvm["mattr"], llvm["mfloat-abi"], llvm["cl-opt"]) == (["+fma"], "hard", ["-x=1"])


def test_cuda_means_the_default_gpu_where_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "found_gpu", lambda: None)
    machine = load_target("cuda")
    assert isinstance(machine, Gpu) and machine.archs == ("sm_80",)
    monkeypatch.setattr(detection, "found_gpu", lambda: FoundGpu("a card", Cuda(**tomllib.loads(GPU)["cuda"])))
    machine = load_target("cuda")
    assert isinstance(machine, Gpu) and machine.archs == ("sm_90",)


def test_machine_code_for_several_gpus() -> None:
    machine = load_target("cuda-sm90").with_archs(cuda_archs_from_text("sm_90,sm_80"))
    assert isinstance(machine, Gpu) and (machine.archs, machine.arch) == (("sm_80", "sm_90"), "sm_80")
    with pytest.raises(TargetError, match=r"--cuda-arch sm_90a: expected names such as sm_80,sm_90"):
        cuda_archs_from_text("sm_80,sm_90a")
    with pytest.raises(TargetError, match=r"--cuda-arch sm_80: --target rpi4 is a CPU"):
        load_target("rpi4").with_archs(("sm_80",))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"no\.toml: No such file"):
        load_target(tmp_path / "no.toml")
