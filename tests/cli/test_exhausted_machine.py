"""On a machine that has run out of something every command says so in one line, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from effgen.cli import app

#: What needs more than names to get as far as printing; the others are asked for their help.
RESULTS = [("targets",), ("inspect", "--phi", "0", "--json", "-"), ("--version",)]


def effgen(*words: str | Path, limits: dict[int, int] | None = None, **options: object) -> tuple[int, str]:
    """Exit status and standard error of a process of its own, under these limits."""

    def limit() -> None:
        for which, value in (limits or {}).items():
            resource.setrlimit(which, (value, value))

    done = subprocess.run(
        [sys.executable, "-m", "effgen", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    return done.returncode, done.stderr


def assert_one_error(found: tuple[int, str], words: str) -> None:
    """The last line is the error, and no traceback stands before it."""
    status, said = found
    assert status == 1 and "Traceback" not in said, said
    assert re.match(rf"error: .*{words}", said.splitlines()[-1]), said
    assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1


def commands() -> Iterator[tuple[str, ...]]:
    """Every command that the parser knows, by its words."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        children = getattr(command, "commands", {})
        for name, child in children.items():
            yield from below(child, (*words, name))
        if not children:
            yield words

    yield from below(typer.main.get_command(app), ())


def test_help_of_every_command_on_a_full_disk(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this process: thirty starts of Python would take half a minute."""
    from effgen.cli import main

    every = list(commands())
    assert {("compile",), ("pack",), ("device", "serve"), ("search", "status")} <= set(every)
    for words in every:
        with full_standard_output():
            monkeypatch.setattr(sys, "argv", ["effgen", *words, "--help"])
            with pytest.raises(SystemExit) as stop:
                main()
        assert stop.value.code == 1, words
        assert capfd.readouterr().err.startswith("error: standard output: No space left on device"), words


class full_standard_output:  # noqa: N801  # a context
    """Descriptor 1 and `sys.stdout` lead to /dev/full."""

    def __enter__(self) -> None:
        self.kept, self.stream = os.dup(1), sys.stdout
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, 1)
        os.close(full)
        sys.stdout = os.fdopen(1, "w", closefd=False)

    def __exit__(self, *error: object) -> None:
        sys.stdout = self.stream
        os.dup2(self.kept, 1)
        os.close(self.kept)


@pytest.mark.parametrize("words", RESULTS, ids=lambda words: words[0])
def test_results_on_a_full_disk(words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        assert_one_error(effgen(*words, stdout=full), "standard output: No space left on device")


def test_results_to_a_reader_that_has_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert effgen("targets", stdout=writer) == (1, "")  # who reads no further knows
    finally:
        os.close(writer)


def test_closed_streams(tmp_path: Path) -> None:
    """What is opened first must not become standard output."""
    for closed in (">&-", "<&- >&- 2>&-"):
        command = f"{sys.executable} -m effgen inspect --phi 0 --json {tmp_path}/network.json {closed}"
        assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
        assert (tmp_path / "network.json").read_text().startswith("{")


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """The words before a command that runs where `folder` holds no more than some kilobytes; skips where users may
    not mount in a namespace of their own."""
    folder = tmp_path_factory.mktemp("small")
    unshare = shutil.which("unshare")

    def words(kilobytes: int, options: str = "rw") -> list[str]:
        mount = f'mount -t tmpfs -o size={kilobytes}k,{options} tmpfs {folder} && exec "$@"'
        return [str(unshare), "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]

    tried = unshare and subprocess.run([*words(64), "true"], capture_output=True, check=False).returncode == 0
    if not tried:
        pytest.skip("no file system of one's own here")
    words.folder = folder  # type: ignore[attr-defined]
    return words


@pytest.mark.parametrize("kilobytes", [36, pytest.param(100, marks=pytest.mark.slow)])
def test_a_full_temporary_folder(
    tiny_spec: Path, tmp_path: Path, small_disk: Callable[..., list[str]], kilobytes: int
) -> None:
    """LLVM would end the process; at the other size it is the linker's turn, or our own."""
    folder = small_disk.folder  # type: ignore[attr-defined]
    command = [sys.executable, "-m", "effgen", "compile", "--spec", tiny_spec, "-o", tmp_path / "b", "-q"]
    listing = f'"$@"; status=$?; find {folder} -mindepth 2 >&2; exit $status'
    done = subprocess.run(
        [*small_disk(kilobytes), "sh", "-c", listing, "sh", *map(str, command)],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    # What is left in the temporary folder is listed behind the error: nothing.
    assert_one_error((done.returncode, done.stderr), f"temporary folder {folder}: No space left on device")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kilobytes", "options", "why"), [(40, "rw", "No space left"), (64, "ro", "Read-only")])
def test_a_full_or_read_only_output(
    tiny_spec: Path, small_disk: Callable[..., list[str]], kilobytes: int, options: str, why: str
) -> None:
    folder = small_disk.folder  # type: ignore[attr-defined]
    command = [sys.executable, "-m", "effgen", "compile", "--spec", str(tiny_spec), "-o", f"{folder}/b", "-q"]
    done = subprocess.run([*small_disk(kilobytes, options), *command], capture_output=True, text=True, check=False)
    assert_one_error((done.returncode, done.stderr), f"{folder}/b: cannot be written: (no permission|{why})")


def test_files_that_may_not_grow(tiny_spec: Path, tmp_path: Path) -> None:
    found = effgen("compile", "--spec", tiny_spec, "-o", tmp_path / "b", limits={resource.RLIMIT_FSIZE: 200_000})
    assert_one_error(found, "machine code cannot be written: File too large; raise the limit")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("descriptors", [11, pytest.param(6, marks=pytest.mark.slow)])
def test_few_descriptors(tiny_spec: Path, tmp_path: Path, descriptors: int) -> None:
    limits = {resource.RLIMIT_NOFILE: descriptors}
    assert_one_error(effgen("compile", "--spec", tiny_spec, "-o", tmp_path / "b", limits=limits), "")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("mebibytes", [250, *(pytest.param(size, marks=pytest.mark.slow) for size in (40, 500))])
def test_little_memory(tiny_spec: Path, tmp_path: Path, mebibytes: int) -> None:
    """Packages that cannot be loaded, and C++ that ends the process."""
    limits = {resource.RLIMIT_AS: mebibytes << 20}
    found = effgen("compile", "--spec", tiny_spec, "-o", tmp_path / "b", limits=limits)
    assert_one_error(found, r"(memory|ulimit -v)")
    assert not (tmp_path / "b").exists()


def test_limited_memory_that_is_enough() -> None:
    """The copy's own exit status and words."""
    limits = {resource.RLIMIT_AS: 8 << 30}
    assert effgen("targets", limits=limits, stdout=subprocess.DEVNULL) == (0, "")
    status, said = effgen("inspect", "--spec", "nonesuch", limits=limits)
    assert (status, said.count("\n")) == (1, 1) and said.startswith("error: ")


def test_an_interrupt_at_any_time() -> None:
    """From the first moment of the package on: while the command line is loaded, and while the command is."""
    code = (
        "import os, signal, sys, effgen.__main__ as entry\n"
        "moment = sys.argv.pop(1)\n"
        "sys.meta_path.insert(0, type('At', (), {'find_spec': staticmethod(lambda name, *rest: "
        "os.kill(os.getpid(), signal.SIGINT) if name == moment else None)}))\n"
        "entry.main()"
    )
    for module in ("effgen.cli", "typer", "rich.table", "effgen.machines.target"):
        done = subprocess.run(
            [sys.executable, "-c", code, module, "targets"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (130, "interrupted\n"), module


def test_little_is_loaded_before_an_interrupt_is_taken() -> None:
    """What comes before the entry's own first line is Python's start, and this."""
    code = "import sys; before = set(sys.modules); import effgen; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"importlib.metadata", "difflib", "typer", "numpy", "effgen.version"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_the_copy_ends_with_the_process_that_watches_it(number: signal.Signals, tmp_path: Path) -> None:
    """Where memory is limited it is a copy that works."""
    os.mkfifo(tmp_path / "fifo.toml")  # for which it waits, as nobody writes
    command = [sys.executable, "-m", "effgen", "inspect", "--spec", str(tmp_path / "fifo.toml")]
    limit = (resource.RLIMIT_AS, (8 << 30, 8 << 30))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=lambda: resource.setrlimit(*limit)) as watcher:
        children = Path(f"/proc/{watcher.pid}/task/{watcher.pid}/children")
        while not (copy := children.read_text().strip()):
            time.sleep(0.01)
        watcher.send_signal(number)
    state = Path(f"/proc/{copy}/stat")
    start = time.monotonic()
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] not in "ZX":
        assert time.monotonic() - start < 15  # what it waits for takes 20
        time.sleep(0.01)
