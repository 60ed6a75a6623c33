"""`kill -9` at random moments: `python benchmarks/kills.py` (`make kill`).

Each command works in a folder of its own and is killed so many times, at moments drawn from how long it takes; whatever
it has started must be gone 5 s later, no file under a final name may be half one, and in the end the command is let
finish: then nothing may be left of the killed ones, and no record or trial lost or doubled. Prints what was counted and
exits with status 3 where a count is not 0.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from networks import TINY
from postgres_server import postgres_server, programs
from searches import FINE

from effgen.errors import EffgenError
from effgen.files.temporary import SUFFIX
from effgen.method.studies.storage import load_study
from effgen.network.spec import load_spec
from effgen.records.database import RecordFile

#: Seconds after which what a killed command has started must be gone.
_ORPHANS_S = 5.0

#: The variable that marks all processes of a campaign.
_MARK = "EFFGEN_KILLS"

_TRAINER = """
import time

def accuracy(spec, seed):
    time.sleep(0.05)
    return 0.5 + 0.01 * sum(stage.repeats for stage in spec.stages) + 0.001 * (seed % 3)
"""

_COUNTS = ("half files", "lost", "doubled", "orphans", "leftovers", "failures")


@dataclass
class Campaign:
    """One command, killed again and again in `folder`.

    `words` are the command's for the run of a number; `is_whole` says whether what stands at its final names is whole;
    `kept` lists what must never be lost or stand there twice; `at_most_s` bounds how late it is killed.
    """

    name: str
    folder: Path
    words: Callable[[int], list[str]]
    is_whole: Callable[[], bool] = lambda: True
    kept: Callable[[], list[str]] = list
    at_most_s: float = 600.0
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def run(self, kills: int, rng: random.Random) -> Counter[str]:
        """Kill it so many times, then let it finish."""
        counts: Counter[str] = Counter(kills=kills)
        whole_s, before = self._finish(0, counts, first=True), self.kept()
        for number in range(1, kills + 1):
            process = self._start(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, min(1.1 * whole_s, self.at_most_s)))
            counts["killed at work"] += process.poll() is None
            process.kill()
            process.wait()
            counts["orphans"] += self._orphans()
            counts["half files"] += not self.is_whole()
            before = self._compare(before, counts)
        self._finish(kills + 1, counts)
        counts["half files"] += not self.is_whole()
        self._compare(before, counts)
        counts["leftovers"] += len(list(self._leftovers()))
        return counts

    def _compare(self, before: list[str], counts: Counter[str]) -> list[str]:
        now = self.kept()
        counts["lost"] += len(set(before) - set(now))
        counts["doubled"] += len(now) - len(set(now)) - (len(before) - len(set(before)))
        return now

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        (self.folder / "tmp").mkdir(exist_ok=True)
        environment: Mapping[str, str] = {
            **os.environ,
            _MARK: self.mark,
            "TMPDIR": str(self.folder / "tmp"),
            "XDG_DATA_HOME": str(self.folder / "data"),
        }
        command = [sys.executable, "-c", "from effgen.cli import main; main()", *self.words(number)]
        log = (self.folder / "log").open("wb")
        return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def _finish(self, number: int, counts: Counter[str], first: bool = False) -> float:
        """Seconds of an undisturbed run; the first may be stopped where it takes very long."""
        began, process = time.monotonic(), self._start(number)
        try:
            process.wait(self.at_most_s if first else None)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
        else:
            if process.returncode != 0:
                counts["failures"] += 1
                print(f"{self.name}: {(self.folder / 'log').read_text()[-500:]}", file=sys.stderr)
        return time.monotonic() - began

    def _orphans(self) -> int:
        end = time.monotonic() + _ORPHANS_S
        while (alive := sum(1 for _ in self._alive())) and time.monotonic() < end:
            time.sleep(0.1)
        for number in self._alive():
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        return alive

    def _alive(self) -> Iterator[int]:
        """Processes that this campaign started, by the mark in their environment."""
        wanted = f"{_MARK}={self.mark}".encode()
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdecimal() and wanted in (entry / "environ").read_bytes():
                    yield int(entry.name)

    def _leftovers(self) -> Iterator[Path]:
        yield from self.folder.rglob(f"*{SUFFIX}")
        for path in (self.folder / "tmp").iterdir():
            yield from path.iterdir() if path.name == f"effgen-{os.geteuid()}" else [path]


def bundle_is_whole(folder: Path) -> bool:
    """Whether there is no bundle, or one whose files are those of its manifest."""
    if not folder.exists():
        return True
    try:
        files = json.loads((folder / "manifest.json").read_text())["files"]
        return all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha for name, sha in files.items())
    except (OSError, ValueError, KeyError):
        return False


def archive_is_whole(path: Path) -> bool:
    """Whether there is no archive, or one with the files of its SHA256SUMS."""
    if not path.exists():
        return True
    try:
        with tarfile.open(path) as archive:
            files = {name.name.partition("/")[2]: archive.extractfile(name) for name in archive if name.isfile()}
            sums = files["SHA256SUMS"].read().decode().splitlines()
            return all(
                hashlib.sha256(files[name].read()).hexdigest() == sha
                for sha, name in (line.split("  ") for line in sums)
            )
    except (OSError, tarfile.TarError, KeyError, EOFError, ValueError):
        return False


def spec_is_whole(path: Path) -> bool:
    """Whether there is no spec, or one that can be read."""
    try:
        return not path.exists() or bool(load_spec(str(path)))
    except EffgenError:
        return False


def page_is_whole(path: Path) -> bool:
    """Whether there is no page, or one to its end."""
    return not path.exists() or path.read_text(encoding="utf-8").rstrip().endswith("</html>")


def records_of(path: Path) -> list[str]:
    """Candidates in a database: of those that led later looks are recorded too, which is no doubling."""
    found, leading = list[str](), set[str]()
    for record in RecordFile(path).load().records:
        key = f"{record.kernel} {sorted(record.decisions.items())}"
        if key not in leading:
            found.append(key)
        if record.leads:
            leading.add(key)
    return found


def trials_of(storage: str, study: str) -> list[str]:
    """The trainings that are done."""
    with suppress(EffgenError), closing(load_study(storage, study)) as shared:
        return [str(trial.user_attrs["item"]) for trial in shared.trials if trial.state.name == "COMPLETE"]
    return []


def campaigns(top: Path, stack: ExitStack, wanted: Callable[[str], bool]) -> Iterator[Campaign]:
    """The commands, each with what it works on."""

    def folder(name: str) -> Path:
        made = top / name
        made.mkdir()
        (made / "tiny.toml").write_text(TINY)
        (made / "fine.toml").write_text(FINE)
        (made / "trainer.py").write_text(_TRAINER)
        return made

    compile_words = ["compile", "--spec", "tiny.toml", "-o", "b", "--force", "--threads", "1", "--quiet"]
    if wanted("compile"):
        here = folder("compile")
        bundle = here / "b"
        yield Campaign("compile", here, lambda number: compile_words, lambda: bundle_is_whole(bundle))
    if wanted("tune"):
        here = folder("tune")
        records = here / "r.jsonl"
        tune = ["tune", "--spec", "tiny.toml", "--threads", "1", "--db", "r.jsonl", "--quiet", "--trials", "20"]
        yield Campaign("tune", here, lambda number: tune, kept=lambda: records_of(records), at_most_s=30)
    if wanted("fit"):
        here = folder("fit")
        spec = here / "f.toml"
        fit = ["fit", "--spec", "tiny.toml", "--max-latency", "1ms", "--threads", "1", "-o", "f.toml", "--force"]
        yield Campaign("fit", here, lambda number: [*fit, "--quiet"], lambda: spec_is_whole(spec), at_most_s=60)
    if wanted("search on sqlite"):
        yield search("search on sqlite", folder("sqlite"), f"sqlite:///{top}/trials.db")
    if wanted("search on postgresql") and programs() is not None:
        yield search("search on postgresql", folder("postgresql"), stack.enter_context(postgres_server()).url())
    if wanted("pack"):
        here = folder("pack")
        run(compile_words, here)
        archive = here / "b.tar.gz"
        pack = ["pack", "b", "-o", "b.tar.gz", "--force", "--quiet"]
        yield Campaign("pack", here, lambda number: pack, lambda: archive_is_whole(archive))
    if wanted("compare"):
        here = folder("compare")
        run(compile_words, here)
        for name in ("one", "two"):
            run(["bench", "b", "--min-time", "0.1", "--json", f"{name}.json", "--quiet"], here)
        page = here / "page.html"
        compare = ["compare", "one.json", "two.json", "-o", "page.html"]
        yield Campaign("compare", here, lambda number: compare, lambda: page_is_whole(page))


def search(name: str, folder: Path, storage: str) -> Campaign:
    """Two workers: of a study that grows with each run, so that there is always something left to do."""
    words = ["search", "scaling", "--spec", "fine.toml", "--trainer", "trainer.py:accuracy", "--step", "0.2"]
    words += ["--seeds", "4", "--confirm-seeds", "1", "--no-latency", "--workers", "2", "--heartbeat", "0.5"]
    words += ["--retries", "100", "--quiet", "--storage", storage, "--study"]
    # Each study is killed in three runs, then done by the next ones.
    return Campaign(
        name,
        folder,
        lambda number: [*words, f"s{number // 4}"],
        kept=lambda: [f"{study} {item}" for study in range(50) for item in trials_of(storage, f"s{study}")],
    )


def run(words: list[str], folder: Path) -> None:
    """A command that prepares something."""
    subprocess.run([sys.executable, "-c", "from effgen.cli import main; main()", *words], cwd=folder, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="of each command")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of names")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", flush=True)
    bad, only = 0, tuple(options.only)
    with tempfile.TemporaryDirectory(prefix="kills-") as top, ExitStack() as stack:
        for campaign in campaigns(Path(top), stack, lambda name: not only or name.startswith(only)):
            counts = campaign.run(options.kills, random.Random(f"{seed} {campaign.name}"))
            found = ", ".join(f"{counts[name]} {name}" for name in _COUNTS)
            print(f"{campaign.name}: {counts['kills']} kills, {counts['killed at work']} at work: {found}", flush=True)
            bad += sum(counts[name] for name in _COUNTS)
    raise SystemExit(3 if bad else 0)


if __name__ == "__main__":
    main()
