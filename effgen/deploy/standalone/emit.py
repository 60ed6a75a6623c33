"""What `--emit` takes, and what a model is called in C."""

from __future__ import annotations

from collections.abc import Iterable

from effgen.deploy.standalone.c_name import LONGEST, c_name_from_text
from effgen.errors import BuildError, candidates
from effgen.machines.target_file import TargetFile

BUNDLE, STANDALONE, EXECUTABLE = "bundle", "standalone", "executable"

#: What `effgen compile --emit` writes: the bundle always; the C library; the program, with the library.
EMITS = (BUNDLE, STANDALONE, EXECUTABLE)


def emits_from_texts(texts: Iterable[str]) -> tuple[str, ...]:
    """`--emit a,b --emit c` as names, in the order of EMITS, BUNDLE among them.

    Raises BuildError for a name that is none.
    """
    wanted = {name.strip() for text in texts for name in text.split(",") if name.strip()}
    for name in sorted(wanted - set(EMITS)):
        raise BuildError(f"--emit {name}: {candidates(name, EMITS)}")
    if EXECUTABLE in wanted:
        wanted.add(STANDALONE)
    return tuple(name for name in EMITS if name == BUNDLE or name in wanted)


def check_emit(emit: Iterable[str], target: str, stated: TargetFile) -> None:
    """Raise BuildError where what was asked for cannot be had of the target called so."""
    wanted = [name for name in emit if name != BUNDLE]
    if wanted and not stated.processor.links_into_c:
        raise BuildError(
            f"--emit {wanted[-1]}: --target {target} compiles for a GPU, which a C library alone cannot run; "
            "expected a CPU target"
        )


def check_name(name: str | None, emit: Iterable[str]) -> None:
    """Raise BuildError where the library cannot be called so, or none was asked for."""
    if name is None:
        return
    if STANDALONE not in emit:
        raise BuildError(f"--name {name}: is what a C library is called; expected --emit {STANDALONE} beside it")
    if c_name_from_text(name) != name:
        raise BuildError(
            f"--name {name!r}: expected a C name that is no keyword: lower-case letters, digits, single underscores, "
            f"at least one of the last two, {LONGEST} characters at most, e.g. {c_name_from_text(name)}"
        )
