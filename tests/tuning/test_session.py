"""`tune_network` from kernels to a report: networks really compiled with old and new records, times given."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest

from effgen.driver import CompileRequest, compile_bundle
from effgen.errors import BundleError
from effgen.judge.duel import Duel, kernels_of_bundle
from effgen.kernels.workload import Workload
from effgen.machines.host import OtherWork
from effgen.measure.carried.timing import Timing
from effgen.measure.protocol import Outcome
from effgen.network import NetworkRequest
from effgen.network.file_network import OnnxRequest
from effgen.records.database import RecordFile
from effgen.runtime import read_manifest
from effgen.runtime.manifest import MODEL, Manifest
from effgen.tuning import arena, session
from effgen.tuning.report import TuneReport
from effgen.tuning.request import TuneRequest
from effgen.tuning.tuner import Limits

Request = NetworkRequest | OnnxRequest


class FakeMeasurer:
    """What is timed alone takes 1 ms, and whatever is timed in turn with another half as long as that."""

    def connect(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def measure(
        self,
        workload: Workload,
        decisions: Mapping[str, int],
        incumbent: Mapping[str, int] | None = None,
        incumbent_s: float = 0.0,
        thorough: bool = False,
    ) -> Outcome:
        assert not thorough, "the network has the last word"
        ratio = 1.0 if incumbent is None else 0.5
        return Outcome("ok", timing=Timing(1e-3 * ratio, 1e-3, ratio, 1.0, 10))


def ratio_of(ratio: float, other_cpus: float = 0.0) -> Duel:
    return Duel(((1e-3,) * 8,) * 5, ((1e-3 * ratio,) * 8,) * 5, other_cpus)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(session, "measurers", lambda *words: [FakeMeasurer()])
    monkeypatch.setattr(session, "watch_other_work", lambda: nullcontext(OtherWork(5.0)))
    monkeypatch.setattr(arena, "duel_of_kernels", lambda old, new, threads: kernels_between(old, 0.8))
    monkeypatch.setattr(arena, "duel_of_bundles", lambda old, new, threads: ratio_of(0.9))
    return tmp_path / "records.jsonl"


@pytest.fixture
def ready(tiny_spec: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> NetworkRequest:
    """The tiny network, which is not compiled again: what is in its bundle plays no part."""

    def copied(request: CompileRequest, network: object) -> None:
        shutil.copytree(tiny_bundle, request.output, dirs_exist_ok=request.force)

    monkeypatch.setattr(arena, "compile_bundle", copied)
    return NetworkRequest(spec=str(tiny_spec))


def kernels_between(bundle: Path, ratio: float) -> dict[str, Duel]:
    return {name: ratio_of(ratio) for name in kernels_of_bundle(bundle)}


def tune(network: Request, path: Path, trials: int = 30) -> TuneReport:
    request = TuneRequest(network, limits=Limits(trials=trials), threads=1, database=path)
    return session.tune_network(request)


def compiled(network: Request, path: Path, folder: Path) -> Manifest:
    return compile_bundle(CompileRequest(network, folder / "bundle", threads=1, database=path, force=True))


def sources_of(manifest: Manifest) -> dict[str, str]:
    return {kernel["name"]: kernel["source"] for kernel in manifest.kernels}


def test_network_is_compiled_with_what_won(
    tiny_spec: Path, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = NetworkRequest(spec=str(tiny_spec))
    before = sources_of(compiled(network, path, tmp_path))
    raced: list[dict[str, str]] = []

    def duel(old: Path, new: Path, threads: int) -> Duel:
        raced.extend(sources_of(read_manifest(bundle)) for bundle in (old, new))
        return ratio_of(0.9)

    monkeypatch.setattr(arena, "duel_of_bundles", duel)
    report = tune(network, path)
    assert report.said == "better" and report.judged == "network" and report.replaced > 0 and report.disturbed
    assert report.network is not None and report.speedup == pytest.approx(1 / 0.9)
    assert raced[0] == before and list(raced[1].values()).count("record:database") >= report.replaced
    assert sources_of(compiled(network, path, tmp_path)) == raced[1]


def test_next_run_has_to_beat_what_was_chosen(
    ready: NetworkRequest, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tune(ready, path).said == "better"
    chosen = [record for record in RecordFile(path).load().records if record.chosen]
    monkeypatch.setattr(arena, "duel_of_kernels", lambda old, new, threads: kernels_between(old, 1.1))
    again = tune(ready, path)
    assert again.said == "equal" and again.replaced == 0 and again.speedup == 1.0
    today = {kernel.name: kernel.decisions for kernel in again.kernels}
    assert chosen and all(today[record.kernel] == record.decisions for record in chosen)


def interrupt(*words: object) -> Duel:
    raise KeyboardInterrupt


def fail(*words: object, **named: object) -> Duel:
    raise BundleError("bundle: its process ended: signal SIGKILL")


@pytest.mark.parametrize(
    ("duel", "said", "end"),
    [
        (interrupt, "interrupted", "interrupted"),
        (fail, "failed", "trials"),
    ],
    ids=["interrupted", "failed"],
)
def test_network_stays_as_it_was(
    duel: Callable[..., Duel], said: str, end: str, ready: NetworkRequest, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its candidates are known, the next run compares them at once."""
    monkeypatch.setattr(arena, "duel_of_bundles", duel)
    report = tune(ready, path)
    assert (report.said, report.end, report.replaced) == (said, end, 0) and report.waiting > 0
    assert report.before_s == report.after_s and report.speedup == 1.0
    assert not any(record.chosen for record in RecordFile(path).load().records)
    monkeypatch.setattr(arena, "duel_of_bundles", lambda *words: ratio_of(0.9))
    again = tune(ready, path, trials=1)
    assert again.said == "better" and again.replaced >= report.waiting


def test_what_gives_wrong_results_today_is_replaced_whatever_the_network_takes(
    ready: NetworkRequest, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own comparison is none, and it plays no part in that of the others."""
    broken: list[str] = []

    class Wrong(FakeMeasurer):
        def measure(self, workload: Workload, *words: object, **named: object) -> Outcome:
            if not broken:
                broken.append(workload.name)
                return Outcome("wrong", "relative L2 error 1")
            return super().measure(workload, *words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "measurers", lambda *words: [Wrong()])
    monkeypatch.setattr(arena, "duel_of_bundles", lambda *words: ratio_of(1.0))
    report = tune(ready, path)
    assert report.said == "equal" and report.replaced == 1
    (kernel,) = (kernel for kernel in report.kernels if kernel.broken)
    assert kernel.name == broken[0] and kernel.replaced and kernel.before_s is None and kernel.after_s is not None
    assert {record.kernel for record in RecordFile(path).load().records if record.chosen} == {kernel.name}
    assert not any(kernel.broken for kernel in tune(ready, path, trials=1).kernels)


def test_onnx_file(tiny_bundle: Path, path: Path) -> None:
    report = tune(OnnxRequest(tiny_bundle / MODEL), path)
    assert report.said == "better" and report.judged == "network" and report.replaced > 0


def test_network_that_does_not_compile_is_judged_by_loops(
    tiny_spec: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside other work here, so that nothing is chosen."""

    class Patient(FakeMeasurer):
        def measure(self, *words: object, **named: object) -> Outcome:
            return super().measure(*words, **{**named, "thorough": False})  # type: ignore[arg-type]

    monkeypatch.setattr(session, "measurers", lambda *words: [Patient()])
    monkeypatch.setattr(arena, "compile_bundle", fail)
    report = tune(NetworkRequest(spec=str(tiny_spec)), path)
    assert report.judged == "loop" and "SIGKILL" in report.problem
    assert report.said == "disturbed" and report.disturbed_by == 5.0 and report.replaced == 0
    monkeypatch.setattr(session, "watch_other_work", lambda: nullcontext(OtherWork(0.0)))
    assert tune(NetworkRequest(spec=str(tiny_spec)), path, trials=1).said == "better"
