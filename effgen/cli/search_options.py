"""The options that all searches share: what a network learns from, where trials are kept, who works on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from effgen.cli.console import Output
    from effgen.method.studies.judge import JudgeRequest
    from effgen.method.studies.workers import Policy

_LEARNING = "What is learned"

Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Pictures to learn from, one folder a class; or train/ and val/.", rich_help_panel=_LEARNING
    ),
]
RecipeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="How networks are trained (.toml); default: for small data sets.",
        rich_help_panel=_LEARNING,
    ),
]
Trainer = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION",
        help="A program of your own instead: (scaled spec, seed) -> accuracy, 0 to 1. Also FILE.py:FUNCTION.",
        rich_help_panel=_LEARNING,
    ),
]

Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Threads of a timed call, and of each training, of which workers share the CPUs; default: the CPUs that "
        "this process may use, of trainings physical cores, divided by --workers.",
    ),
]

_WORKERS = "Where trials are kept, and by whom they are done"

Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="EFFGEN_STORAGE",
        help="sqlite:///FILE, postgresql://USER@HOST/DATABASE, mysql://..., journal:///FILE or grpc://HOST:PORT: one "
        "search for all machines that give the same. Default: a file in the folder of --work.",
        rich_help_panel=_WORKERS,
    ),
]
Study = Annotated[
    str | None, typer.Option(metavar="NAME", help="The search's name in the storage.", rich_help_panel=_WORKERS)
]
WorkOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="This machine's unfinished trainings; default: searches/STUDY.", rich_help_panel=_WORKERS
    ),
]
Workers = Annotated[int, typer.Option(min=1, max=256, help="Trials at once on this machine.", rich_help_panel=_WORKERS)]
Heartbeat = Annotated[
    float,
    typer.Option(
        min=0.1,
        max=3600,
        metavar="SECONDS",
        help="How often a worker shows that it is alive; after four times as long its trial is given up.",
        rich_help_panel=_WORKERS,
    ),
]
Retries = Annotated[
    int,
    typer.Option(
        min=0,
        max=100,
        help="How often a training is done again whose worker was lost; another network takes a sampled one's place.",
        rich_help_panel=_WORKERS,
    ),
]

RetryFailed = Annotated[
    bool,
    typer.Option(
        "--retry-failed", help="Try again what failed so far, once the cause is mended.", rich_help_panel=_WORKERS
    ),
]


@dataclass(frozen=True)
class LearningOptions:
    """What networks learn, and how."""

    data: Data = None
    recipe: RecipeOption = None
    trainer: Trainer = None

    def judge(self, workers: int, threads: int | None) -> JudgeRequest:
        """As one request; the workers share this machine's processors, `threads` is what `--threads` says."""
        check_installed()
        from effgen.method.training.threads import training_threads, wait_asleep

        wait_asleep()
        from effgen.method.studies.judge import JudgeRequest

        return JudgeRequest(self.data, self.recipe, self.trainer, training_threads(threads, workers))


@dataclass(frozen=True)
class WorkerOptions:
    """Where trials are kept, and by whom they are done."""

    storage: Storage = None
    study: Study = None
    work: WorkOption = None
    workers: Workers = 1
    heartbeat: Heartbeat = 15.0
    retries: Retries = 2
    retry_failed: RetryFailed = False

    @property
    def policy(self) -> Policy:
        """How they watch each other."""
        from effgen.method.studies.workers import Policy

        return Policy(self.heartbeat, self.retries)

    def kept_where(self, study: str) -> tuple[str, Path]:
        """The storage's URL and the folder of this machine. Raises StudyError where no URL can name a file in it."""
        from effgen.method.studies.storage import url_of_file

        folder = Path("searches") / study if self.work is None else self.work
        return self.storage or url_of_file(folder / "trials.db"), folder


def say_retried(console: Output, count: int) -> None:
    """What `--retry-failed` will do."""
    if count:
        console.info(f"{count} trial{'s' if count > 1 else ''} that failed will be tried again")


def check_installed() -> None:
    """Raise StudyError where what `effgen[search]` and `effgen[torch]` install is missing."""
    from importlib.util import find_spec

    from effgen.errors import StudyError

    for package, extra in (("optuna", "search"), ("sqlalchemy", "search"), ("torch", "torch")):
        if find_spec(package) is None:
            raise StudyError(f"{package} is not installed: pip install 'effgen[{extra}]'")
