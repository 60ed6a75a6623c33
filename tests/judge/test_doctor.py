"""Each check where all is well, and where something is not."""

import pytest

from effgen.errors import BuildError, TargetError
from effgen.judge import doctor
from effgen.judge.doctor import Check, DoctorReport, check_compiler, check_optional, check_pins, check_threads, examine
from effgen.machines.host import describe_host
from effgen.machines.processor import default_threads


def status_of(checks: object, name: str) -> Check:
    return next(check for check in checks if check.name == name)  # type: ignore[attr-defined]


def test_this_installation_is_healthy() -> None:
    phases: list[str] = []
    report = examine(phases.append)
    assert report.healthy, [check for check in report.checks if check.status == "problem"]
    names = {check.name for check in report.checks}
    assert {"apache-tvm", "apache-tvm-ffi", "torch", "C++ compiler", "threads", "compiler", "target cpu"} <= names
    assert phases[0] == "pins"


def test_pins_are_those_of_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = ["numpy==0.0.1", "not-there==2.0", "typer>=0.15", "build==1; extra == 'dev'"]
    monkeypatch.setattr(doctor, "requires", lambda name: requirements)
    wrong, absent = check_pins()
    assert (wrong.name, wrong.status, wrong.fix) == ("numpy", "problem", "pip install numpy==0.0.1")
    assert "expected exactly 0.0.1" in wrong.found
    assert (absent.status, absent.found) == ("problem", "not installed, expected 2.0")


def test_missing_optional_package_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_OPTIONAL", {"not-there": ("torch", "no judge")})
    (check,) = check_optional()
    assert (check.status, check.found) == ("warning", "not installed: no judge")
    assert check.fix == "pip install 'effgen[torch]'"


def test_no_compiler_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise BuildError("no C++ compiler found")

    monkeypatch.setattr(doctor, "native_linker", none)
    assert next(iter(check_compiler())).status == "problem"


def test_compiler_that_cannot_link_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "native_linker", lambda: "/bin/false")
    check = next(iter(check_compiler()))
    assert (check.status, check.found) == ("problem", "/bin/false cannot link: exit status 1")


def test_thread_limits_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cpu_quota", lambda: 0.5)
    monkeypatch.setenv("OMP_NUM_THREADS", "97")
    checks = list(check_threads())
    assert status_of(checks, "CPU quota").status == "warning"
    assert status_of(checks, "OMP_NUM_THREADS").status == "warning"
    assert status_of(checks, "threads").found.startswith(f"{default_threads()}: ")


def test_target_that_cannot_be_found_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise TargetError("targets/cpu.toml: broken")

    monkeypatch.setattr(doctor, "this_cpu", broken)
    (check,) = doctor.check_target()
    assert (check.status, check.found) == ("problem", "targets/cpu.toml: broken")


def test_warnings_leave_it_healthy() -> None:
    host = describe_host(sample_s=0.01)
    assert DoctorReport((Check("a", "warning", ""), Check("b", "ok", "")), host).healthy
    assert not DoctorReport((Check("a", "problem", ""),), host).healthy
