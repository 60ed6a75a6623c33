"""Whether LLVM knows the processor that a target names: asked for another, it takes `generic` and goes on.

TVM is imported when the first question is asked, not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import Any

from effgen.errors import TargetError
from effgen.files.standard_error import captured_standard_error
from effgen.machines.processor import architecture_of, features_of

#: Names in a message: the nearest ones, or all where there are no more than so many.
_NEAREST, _FEW = 5, 12

#: What LLVM calls a processor of x86 that runs 64-bit code; without it, it ends the process.
_64_BIT = "64bit"


def check_llvm(where: str, llvm: Mapping[str, Any], features: Iterable[str] = ()) -> None:
    """Raise TargetError, which begins with `where`: the triple, the CPU, a feature or an option is unknown to LLVM, or
    it would use none of the instruction sets `features`, spelled as in /proc/cpuinfo.

    `llvm`: what `tvm.target.Target` takes: mtriple, mcpu and, where there are any, mattr and cl-opt.
    """
    attributes, options = (tuple(llvm.get(key, ())) for key in ("mattr", "cl-opt"))
    problem = _problem(llvm["mtriple"], llvm["mcpu"], attributes, options, tuple(features))
    if problem:
        raise TargetError(f"{where}: {problem}")


@cache
def _problem(
    mtriple: str, mcpu: str, attributes: tuple[str, ...], options: tuple[str, ...], features: tuple[str, ...]
) -> str:
    """What is wrong, empty where nothing is."""
    with captured_standard_error():  # LLVM prints what it does not know
        problem = _of_triple(mtriple, mcpu) or _of_cpu(mtriple, mcpu)
        if not problem:
            of_attributes = (_of_attribute(mtriple, mcpu, attribute) for attribute in attributes)
            of_features = (_of_feature(mtriple, mcpu, attributes, feature) for feature in features)
            problem = next(filter(None, (*of_attributes, *of_features)), "")
    return problem or next(filter(None, (_of_option(mtriple, mcpu, option) for option in options)), "")


def _of_triple(mtriple: str, mcpu: str) -> str:
    """Of an unknown one nothing else may be asked: TVM would end the process."""
    if any(_ask("target.llvm_is_valid_cpu", cpu, mtriple) for cpu in (mcpu, "generic")):
        return ""
    known = [str(name) for name in _ask("target.llvm_get_targets")]
    family = architecture_of(mtriple)
    return f"llvm.mtriple = {mtriple!r}: LLVM knows no processors of {family}; {_near(family, known)}"


def _of_cpu(mtriple: str, mcpu: str) -> str:
    family = architecture_of(mtriple)
    if not _ask("target.llvm_is_valid_cpu", mcpu, mtriple):
        return f"llvm.mcpu = {mcpu!r}: LLVM {_version()} knows no such {family} CPU; {_near(mcpu, _cpus(mtriple))}"
    if family == "x86_64" and _64_BIT not in _llvm_features(mtriple, mcpu):
        return f"llvm.mcpu = {mcpu!r}: has no 64-bit mode, which llvm.mtriple = {mtriple!r} asks for"
    return ""


def _of_attribute(mtriple: str, mcpu: str, attribute: str) -> str:
    """LLVM leaves out what it does not know, and takes the first letter of a name without a sign for one."""
    for part in attribute.split(","):
        sign, name = part[:1], part[1:]
        if sign not in ("+", "-") or not name:
            return f"llvm.mattr: {part!r}: expected a feature with + or - before it, e.g. '+{part or 'fma'}'"
        if name not in _llvm_features(mtriple, mcpu, (f"+{name}",)):
            known = {feature for cpu in _cpus(mtriple) for feature in _llvm_features(mtriple, cpu)}
            family = architecture_of(mtriple)
            return f"llvm.mattr: {part!r}: LLVM {_version()} knows no such {family} feature; {_near(name, known)}"
    return ""


def _of_feature(mtriple: str, mcpu: str, mattr: tuple[str, ...], feature: str) -> str:
    """Kernels would be written for it, and compiled without."""
    names = [llvm for llvm, linux in features_of(architecture_of(mtriple)).items() if linux == feature]
    if not names or names[0] in _llvm_features(mtriple, mcpu, mattr):
        return ""
    taken = [attribute for attribute in mattr if attribute == f"-{names[0]}"]
    why = f"llvm.mattr = {taken} takes it away" if taken else f"llvm.mcpu = {mcpu!r} has none of it"
    return f"features: {feature}: {why}; leave it out, or let LLVM use it: llvm.mattr = ['+{names[0]}']"


def _of_option(mtriple: str, mcpu: str, option: str) -> str:
    """LLVM has no list of its options: what it prints of one tells."""
    with captured_standard_error() as said:
        _llvm_features(mtriple, mcpu, cl_opt=[option])
    return f"llvm.cl-opt: {option!r}: LLVM {_version()} knows no such option" if said.lines else ""


def _near(found: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known ones; all of them where there are few, or none is
    near."""
    names = sorted(known)
    near = get_close_matches(found, names, n=_NEAREST, cutoff=0.5)
    if near and len(names) > _FEW:
        others = ", ".join(near[:-1])
        return f"did you mean {f'{others} or ' if others else ''}{near[-1]}? ({len(names)} known)"
    return f"known: {', '.join(names)}"


def _cpus(mtriple: str) -> list[str]:
    return [str(name) for name in _ask("target.llvm_get_cpu_archlist", _target(mtriple, "generic"))]


def _llvm_features(mtriple: str, mcpu: str, mattr: Sequence[str] = (), cl_opt: Sequence[str] = ()) -> set[str]:
    """What the CPU has with these features added and taken away."""
    target = _target(mtriple, mcpu, {"mattr": mattr, "cl-opt": cl_opt})
    return {str(name) for name in _ask("target.llvm_get_cpu_features", target)}


def _target(mtriple: str, mcpu: str, lists: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Any:
    import tvm

    stated = {key: list(values) for key, values in lists.items() if values}
    return tvm.target.Target({"kind": "llvm", "mtriple": mtriple, "mcpu": mcpu, **stated})


def _version() -> int:
    return int(_ask("target.llvm_version_major"))


def _ask(question: str, *arguments: Any) -> Any:
    import tvm

    return tvm.get_global_func(question)(*arguments)
