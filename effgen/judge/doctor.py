"""Is this installation able to do its work? One line for each thing that can be wrong, with what to do about it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from effgen.errors import EffgenError
from effgen.files.temporary import temporary_folder
from effgen.machines.cgroup import cpu_quota
from effgen.machines.host import Host, describe_host
from effgen.machines.processor import default_threads, physical_cores, usable_cpus
from effgen.machines.programs import run_program, tool_version
from effgen.machines.target import this_cpu
from effgen.machines.toolchain import native_linker
from effgen.records.shipped import shipped_sets
from effgen.runtime.library import prepare_tvm
from effgen.words import OnPhase

CheckStatus = Literal["ok", "warning", "problem"]

#: What effgen can do without: distribution -> (the extra that brings it, what is lost).
_OPTIONAL = {
    "torch": ("torch", "verify has only the golden pair, and compile cannot compute one"),
    "onnxruntime": ("peers", "bench --peers onnxruntime has nothing to run"),
    "openvino": ("peers", "bench --peers openvino has nothing to run"),
    "plotly": ("report", "compare writes no HTML report"),
}


@dataclass(frozen=True)
class Check:
    """One line: a `problem` stops effgen from working, a `warning` takes something away. `fix` says what to do."""

    name: str
    status: CheckStatus
    found: str
    fix: str = ""


@dataclass(frozen=True)
class DoctorReport:
    """Every check, and the machine that they were made on."""

    checks: tuple[Check, ...]
    machine: Host

    @property
    def healthy(self) -> bool:
        """Whether no check found a problem; warnings do not count."""
        return all(check.status != "problem" for check in self.checks)


def examine(on_phase: OnPhase = lambda phase: None) -> DoctorReport:
    """Check everything; takes a few seconds, most of them to import the compiler."""
    checks: list[Check] = []
    for phase, group in _GROUPS.items():
        on_phase(phase)
        checks += group()
    on_phase("machine")
    return DoctorReport(tuple(checks), describe_host())


def check_pins() -> Iterator[Check]:
    """Installed versions against the exact pins in this package's own metadata: there is no second list."""
    for requirement in requires("effgen") or []:
        pin = re.match(r"([\w.-]+)\s*==\s*([^\s;,]+)\s*$", requirement)
        if pin is not None:
            yield _pin(pin[1], pin[2])


def _pin(name: str, wanted: str) -> Check:
    fix = f"pip install {name}=={wanted}"
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(name, "problem", f"not installed, expected {wanted}", fix)
    if found != wanted:
        return Check(name, "problem", f"{found}, expected exactly {wanted}", fix)
    return Check(name, "ok", found)


def check_optional() -> Iterator[Check]:
    """Packages that effgen can do without."""
    for name, (extra, loss) in _OPTIONAL.items():
        try:
            yield Check(name, "ok", version(name))
        except PackageNotFoundError:
            yield Check(name, "warning", f"not installed: {loss}", f"pip install 'effgen[{extra}]'")


def check_compiler() -> Iterator[Check]:
    """TVM writes object files; a C++ compiler links them. It is made to link something."""
    try:
        found = native_linker()
    except EffgenError as error:
        yield Check("C++ compiler", "problem", str(error), "apt-get install g++")
        return
    failure = _link_failure(found)
    if failure:
        yield Check("C++ compiler", "problem", f"{found} cannot link: {failure}", "apt-get install libc6-dev")
    else:
        yield Check("C++ compiler", "ok", f"{found}, {tool_version(found)}")


def _link_failure(compiler: str) -> str:
    """Why `compiler` cannot make a shared library; empty where it can."""
    with temporary_folder("doctor") as folder:
        source = folder / "probe.cc"
        source.write_text("#include <cmath>\nfloat probe(float x) { return std::exp(x); }\n")
        command = [compiler, "-shared", "-fPIC", str(source), "-o", str(folder / "probe.so")]
        done = run_program(command)
    if done.returncode == 0:
        return ""
    return (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[0]


def check_threads() -> Iterator[Check]:
    """How many threads are used unless the user says otherwise, and why not more."""
    cpus, threads, quota = usable_cpus(), default_threads(), cpu_quota()
    cores = len(physical_cores(cpus))
    facts = f"{threads}: {cores} cores, {len(cpus)} of {os.cpu_count()} CPUs in the affinity mask"
    yield Check("threads", "ok", facts)
    if quota is not None and quota < cores:
        text = f"the container may use {quota:g} CPUs' time, fewer than {cores} cores"
        yield Check("CPU quota", "warning", text, "raise the container's limit for more threads")
    value = os.environ.get("OMP_NUM_THREADS")
    if value is not None and value != str(threads):
        fix = "unset it, or say --threads"
        yield Check("OMP_NUM_THREADS", "warning", f"{value} for PyTorch, but {threads} for effgen", fix)
    else:
        yield Check("OMP_NUM_THREADS", "ok", "not set" if value is None else value)


def check_tvm() -> Iterator[Check]:
    """TVM can be imported and generates code for this processor."""
    try:
        prepare_tvm()
        import tvm
        from tvm.target import codegen

        backends = [str(name) for name in codegen.llvm_get_targets()]
        found = f"TVM {tvm.__version__} with LLVM {codegen.llvm_version_major()}"
    except Exception as error:  # a broken installation fails in as many ways as there are libraries
        yield Check("compiler", "problem", f"{type(error).__name__}: {error}", "reinstall the pinned versions above")
        return
    known = [name for name in ("x86_64", "aarch64", "nvptx64") if name in backends]
    yield Check("compiler", "ok", f"{found}, code for {', '.join(known)}")


def check_target() -> Iterator[Check]:
    """What `--target cpu` means here."""
    try:
        machine = this_cpu()
    except EffgenError as error:
        yield Check("target cpu", "problem", str(error), "give another --target")
        return
    found = f"{machine.mcpu}, {machine.vector_bytes * 8}-bit vectors, {machine.cores} cores"
    if machine.vector_bytes < 32 and machine.mtriple.startswith("x86_64"):
        yield Check("target cpu", "warning", f"{found}: no AVX2, kernels will be slow", "use a newer machine")
    else:
        yield Check("target cpu", "ok", found)
    yield Check("instruction sets", "ok", " ".join(machine.features) or "none of note")
    yield Check("micro-architecture", "ok", machine.microarchitecture or "unknown")
    yield Check("costs of the rules", "ok", machine.costs_of)
    yield Check("shipped records", "ok", ", ".join(each.name for each in shipped_sets(machine)) or "none that fit")


_GROUPS: dict[str, Callable[[], Iterator[Check]]] = {
    "pins": check_pins,
    "optional packages": check_optional,
    "threads": check_threads,  # before TVM, for which its variables are set
    "compiler": check_tvm,
    "C++ compiler": check_compiler,
    "target": check_target,
}
