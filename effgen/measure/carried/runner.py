"""Measure a folder's candidates on this machine: `python3 run.py`, with nothing but Python 3.8 and TVM's runtime.

Each outcome is a line of `results.jsonl`, on the disk before the next candidate begins: stopped or killed, the next
run goes on there. A copy of this file goes with every folder.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import IO, Any

from effgen.errors import EffgenError
from effgen.machines.cuda_driver import cuda_driver
from effgen.machines.identity import identity, unfit_for
from effgen.measure.carried import child
from effgen.measure.carried.candidate import ATTEMPTS, CALLS, PREPARE_LIMIT_S, Outcome, late
from effgen.measure.carried.lines import PLAN, RESULTS, is_sealed, sealed, value_from_line
from effgen.measure.carried.native import LIBRARIES, found_library
from effgen.measure.carried.process import how_it_ended, last_words

#: The environment's way to say `--runtime`.
RUNTIME_VARIABLE = "EFFGEN_TVM_RUNTIME"


class RunnerError(Exception):
    """The folder cannot be measured here; the text is one line."""


def main() -> None:
    """Entry point of `run.py`; of its children too."""
    folder = Path(sys.argv[0]).resolve().parent
    words = sys.argv[1:]
    if words[:1] == ["--child"]:
        parent, runtime, number, incumbent, *wanted = words[1:]
        child.main(int(parent), folder, Path(runtime), int(number), int(incumbent), list(map(int, wanted)))
        return
    parser = argparse.ArgumentParser(description="Measure this folder's kernels; the results go to results.jsonl.")
    parser.add_argument(
        "--runtime",
        metavar="DIR",
        default=os.environ.get(RUNTIME_VARIABLE),
        help="a folder with another TVM 0.27 runtime, or site-packages where one is installed; also $"
        + RUNTIME_VARIABLE,
    )
    parser.add_argument("--results", metavar="FILE", default=folder / RESULTS, type=Path, help="where to write")
    options = parser.parse_args(words)
    try:
        FolderRunner(folder, Path(options.runtime or folder / "runtime"), options.results).run()
    except RunnerError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"stopped: {options.results} keeps what was measured; run again to go on")


class FolderRunner:
    """One run over what is left of a folder's plan."""

    def __init__(self, folder: Path, runtime: Path, results: Path) -> None:
        self._folder, self._runtime, self._results = folder, runtime, results
        self._plan = self._checked_plan()
        self._device = self._checked_machine()
        self._done = self._known()
        self._total = sum(len(wanted_of(kernel)) for kernel in self._plan["kernels"])
        self._counts: Counter[str] = Counter()

    def run(self) -> None:
        """Measure every candidate that has no result yet."""
        print(f"{self._device}: {self._total} candidates, {len(self._done)} known from before", flush=True)
        started = time.monotonic()
        for number, kernel in enumerate(self._plan["kernels"]):
            self._run_kernel(number, kernel)
        counts = ", ".join(f"{count} {status}" for status, count in sorted(self._counts.items())) or "nothing new"
        print(f"done in {time.monotonic() - started:.0f} s: {counts}")
        print(f"send back {self._results} and read it with: effgen tune ... --offline-in {self._results.name}")

    def _run_kernel(self, number: int, kernel: dict[str, Any]) -> None:
        deaths: Counter[int] = Counter()
        while True:
            wanted = [index for index in wanted_of(kernel) if index not in self._done]
            if not wanted:
                return
            incumbent, incumbent_s = self._incumbent(kernel)
            limit_s = self._plan["limit_s"] + CALLS * incumbent_s
            words = [os.getpid(), self._runtime, number, incumbent, *wanted]
            with Child([sys.executable, sys.argv[0], "--child", *map(str, words)], self._plan["cores"]) as process:
                begun, fate = self._listen(kernel, process, limit_s)
            if fate is None:
                continue
            deaths[begun] += 1
            if fate.status == "timeout" or deaths[begun] >= ATTEMPTS:
                ended = {"status": fate.status, "error": fate.error, "timing": None}
                self._take(kernel, {**ended, "candidate": begun, "incumbent": None})

    def _listen(self, kernel: dict[str, Any], process: Child, limit_s: float) -> tuple[int, Outcome | None]:
        """Take a child's results in; the candidate that it ended with, and how, None where it ended well."""
        begun = -1
        while True:
            try:
                message = process.message(PREPARE_LIMIT_S if begun < 0 else limit_s)
            except TimeoutError:
                if begun < 0:
                    raise RunnerError(
                        f"{kernel['name']}: its inputs were not ready in {PREPARE_LIMIT_S:.0f} s"
                    ) from None
                return begun, late(limit_s)
            if message is None:
                status, stderr = process.end()
                if status == 0:
                    return begun, None
                if begun < 0:
                    raise RunnerError(f"{kernel['name']}: nothing could be run: {last_words(stderr)}")
                return begun, Outcome("crashed", how_it_ended(status, stderr))
            if "begun" in message:
                begun = message["begun"]
            else:
                self._take(kernel, message)

    def _take(self, kernel: dict[str, Any], result: dict[str, Any]) -> None:
        """Write a result down."""
        line = sealed({"plan": self._plan["id"], "device": self._device, **result})
        self._append(json.dumps(line, sort_keys=True))
        self._done[line["candidate"]] = line
        self._counts[line["status"]] += 1
        timing = line["timing"]
        outcome = f"{timing['seconds'] * 1e6:.1f} us" if timing else f"{line['status']}: {line['error']}"
        print(f"{len(self._done)}/{self._total} {kernel['name']}: {outcome}", flush=True)

    def _append(self, line: str) -> None:
        """One line, on the disk when this returns; a line torn by a killed run is ended first."""
        try:
            with self._results.open("a+b") as file:
                size = file.seek(0, os.SEEK_END)
                if size:
                    file.seek(size - 1)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunnerError(f"{self._results}: cannot be written: {error.strerror}; give --results FILE") from None

    def _incumbent(self, kernel: dict[str, Any]) -> tuple[int, float]:
        """The candidate that the others are timed with, and its seconds; -1 and 0 where none has worked yet."""
        if kernel["incumbent"] is not None:
            return kernel["incumbent"], kernel["incumbent_s"]
        for index in wanted_of(kernel):
            result = self._done.get(index)
            if result is not None and result["status"] == "ok" and result["incumbent"] is None:
                return index, result["timing"]["seconds"]
        return -1, 0.0

    def _checked_plan(self) -> dict[str, Any]:
        try:
            plan: dict[str, Any] = value_from_line((self._folder / PLAN).read_bytes())
        except (OSError, ValueError) as error:
            raise RunnerError(f"{self._folder / PLAN}: cannot be read: {error}; copy the folder again") from None
        if not is_sealed({**{key: plan[key] for key in plan if key != "id"}, "digest": plan.get("id")}):
            raise RunnerError(f"{self._folder / PLAN}: was changed; copy the folder again")
        return plan

    def _checked_machine(self) -> str:
        """This machine's name; raises RunnerError where it cannot run the plan's kernels."""
        plan = self._plan
        return self._checked_gpu(plan["device"]["arch"]) if plan["device"]["kind"] == "cuda" else self._checked_cpu()

    def _checked_cpu(self) -> str:
        """What this machine calls itself; raises RunnerError where TVM's runtime is missing, too."""
        for name in LIBRARIES:
            try:
                found_library(self._runtime, name)
            except OSError as error:
                raise RunnerError(str(error)) from None
        machine, plan = identity(), self._plan
        unfit = unfit_for(plan["architecture"], plan["features"], machine)
        cpus = len(os.sched_getaffinity(0))
        if not unfit and cpus < plan["cores"]:
            unfit = f"offers {cpus} CPUs; the kernels are built for {plan['cores']} threads"
        if unfit:
            raise RunnerError(
                f"this machine ({machine['device']}) {unfit}; the folder is for --target {plan['target']}"
            )
        return str(machine["device"])

    def _checked_gpu(self, arch: str) -> str:
        """The GPU's name; raises RunnerError where there is none, or it is older than the plan's."""
        try:
            driver = cuda_driver()
            device, _ = driver.use_first_device()
            found, name = driver.device_arch(device), driver.device_name(device)
        except EffgenError as error:
            raise RunnerError(f"no GPU can be used: {error}") from None
        if int(found[3:]) < int(arch[3:]):
            raise RunnerError(f"this GPU ({name}) is {found}; the kernels are built for {arch}")
        return name

    def _known(self) -> dict[int, dict[str, Any]]:
        """Results of earlier runs, by candidate; lines that are none of this plan's do not count."""
        done = {}
        for text in self._results.read_bytes().split(b"\n") if self._results.is_file() else []:
            try:
                line = value_from_line(text)
            except ValueError:
                continue
            if isinstance(line, dict) and line.get("plan") == self._plan["id"] and is_sealed(line):
                done[line["candidate"]] = line
        return done


class Child:
    """A child process that sends messages; a context manager: it ends with the block."""

    def __init__(self, command: list[str], threads: int) -> None:
        counts = {"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "0"}
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the child
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._stderr, env={**os.environ, **counts}
        )
        self._left = b""

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()
        self._stderr.close()

    def message(self, limit_s: float) -> dict[str, Any] | None:
        """The next message, None where the child has ended; raises TimeoutError after `limit_s` seconds."""
        assert self._process.stdout
        pipe, deadline = self._process.stdout.fileno(), time.monotonic() + limit_s
        while b"\n" not in self._left:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise TimeoutError
            data = os.read(pipe, 1 << 16)
            if not data:
                return None
            self._left += data
        line, _, self._left = self._left.partition(b"\n")
        return json.loads(line)  # type: ignore[no-any-return]

    def end(self) -> tuple[int, IO[bytes]]:
        """The exit status of a child that has closed its pipe, and what it wrote to standard error."""
        return self._process.wait(), self._stderr


def wanted_of(kernel: dict[str, Any]) -> list[int]:
    """The candidates of a kernel that are to be measured: all but an incumbent that is known."""
    return [candidate["index"] for candidate in kernel["candidates"] if candidate["index"] != kernel["incumbent"]]
