"""`--workers N`: further processes of this machine that work on the same search, as long as this one does."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

from effgen.cli.signals import received_signals, status_for
from effgen.errors import EffgenError
from effgen.files.terminal import error_line
from effgen.measure.carried.process import die_with


@contextmanager
def more_workers(count: int, work: Callable[[Any], None], request: Any) -> Iterator[None]:
    """`count` processes that each call `work(request)`; both are pickled by name.

    When the block ends well they are waited for; when it does not, by Ctrl-C say, they are told to stop, give their
    trials back, and are waited for too. They end with this process, however that ends. One that fails says so in a
    line: its trial is done by another worker.
    """
    context = multiprocessing.get_context("spawn")  # a fork would share threads' locks and connections
    task = pickle.dumps((work, request))  # read when the process is tied to this one: that imports for seconds
    arguments = (os.getpid(), task)
    processes: list[BaseProcess] = [context.Process(target=_work, args=arguments) for _ in range(count)]
    try:
        with _interrupts_later():
            for process in processes:
                process.start()
        yield
    except BaseException:
        for process in _started(processes):
            process.terminate()
        raise
    finally:
        for process in _started(processes):
            process.join()


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Ctrl-C waits: processes started inside are told of it when they are ready to give their trials back."""
    resource_tracker.ensure_running()  # which ends by letting Ctrl-C through
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _started(processes: Sequence[BaseProcess]) -> list[BaseProcess]:
    return [process for process in processes if process.pid is not None]


def _work(parent: int, task: bytes) -> None:
    die_with(parent)
    logging.basicConfig(format="%(message)s", level=logging.ERROR)
    with received_signals() as received:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            work, request = pickle.loads(task)
            work(request)
        except BaseException as error:
            if received:
                raise SystemExit(status_for(received[0])) from None
            if isinstance(error, EffgenError):
                print(error_line("error of a worker", error), file=sys.stderr)
                raise SystemExit(error.exit_code) from None
            raise
