"""`effgen search baseline`: its table, its folder, its page, and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from baseline_searches import free_latencies, full_report, member, request_in, tried
from commands import one_line
from pages import EVIL, Reader, strings
from searches import kill_one_of_two_around_a_baseline, output_of
from searches import start as started

from effgen.cli import search
from effgen.errors import BuildError
from effgen.method.studies.front import BaselineReport
from effgen.method.studies.workers import Settled
from effgen.network import NetworkRequest, build_network
from effgen.network.spec import StageSpec
from effgen.report.front_folder import write_front
from effgen.report.search import (
    json_from_search,
    line_from_confirmation,
    line_from_trial,
    notes_from_search,
    stage_text,
    table_from_search,
)

pytest.importorskip("plotly")
pytest.importorskip("jinja2")


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command for a small search that needs no compiler."""
    monkeypatch.chdir(tmp_path)
    free_latencies(monkeypatch.setattr)
    request = request_in(tmp_path)
    return [
        "search", "baseline", "--spec", request.spec, "--trainer", str(request.judge.trainer), "--trials", "6",
        "--population", "4", "--confirm-seeds", "2", "--storage", request.storage,
    ]  # fmt: skip


def test_command_writes_networks_that_compile_takes(run: Any, words: list[str], tmp_path: Path) -> None:
    code, out, err = run(*words, "-o", "front", "--json", "report.json")
    assert code == 0, err
    assert "6 of 6  trial" in err and "trial 0 seed 2: " in err and "next: effgen compile --spec front/" in err
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["candidates"]) == 6 and report["kind"] == "baseline search"
    files = sorted(path.name for path in (tmp_path / "front").iterdir())
    names = sorted(each["candidate"]["spec"]["name"] for each in report["front"])
    assert files == sorted([*(f"{name}.toml" for name in names), "report.html", "search.json"])
    for each in report["front"]:
        found = each["candidate"]
        network = build_network(NetworkRequest(f"front/{found['spec']['name']}.toml"))
        assert (network.graph.macs, network.graph.parameter_count) == (found["macs"], found["parameters"])
        assert each["latency_ms"] == pytest.approx(found["macs"] * 1.1e-6)
        assert len(each["accuracies"]) == 2 and found["spec"]["name"] in out
    # As the search was asked for: the JSON in the folder is the same report.
    assert json.loads((tmp_path / "front" / "search.json").read_text())["candidates"] == report["candidates"]


def test_the_same_command_again_replaces_its_folder_and_no_other(run: Any, words: list[str], tmp_path: Path) -> None:
    assert run(*words, "-o", "front", "-q")[0] == 0
    (tmp_path / "front" / "report.html").write_text("old")
    assert run(*words, "-o", "front", "-q")[0] == 0
    assert (tmp_path / "front" / "report.html").read_text() != "old"
    other = [*words, "--study", "other"]
    assert "front: exists already" in one_line(run(*other, "-o", "front", "-q"))
    assert run(*other, "-o", "front", "--force", "-q")[0] == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "is not the front of a search" in one_line(run(*words, "-o", "mine", "--force", "-q"))
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_json_alone(run: Any, words: list[str]) -> None:
    code, out, _ = run(*words, "--json", "-")
    assert code == 0 and json.loads(out)["start"]["candidate"]["trial"] == 0


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--latency-target", "fast"], "--latency-target fast: expected a time above 0 with its unit"),
        (["--trials", "0"], "--trials 0: expected from 1"),
        (["--data", "here"], "and not both"),
        (["--recipe", "r.toml"], "--recipe r.toml: belongs to --data"),
        (["--target", "nowhere"], "--target nowhere: expected a name"),
        (["--json", "no/where.json"], "no is no directory"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes_are_one_line_before_any_work(
    run: Any, words: list[str], tmp_path: Path, more: list[str], says: str
) -> None:
    assert says in one_line(run(*words, *more, "-q"))
    assert not (tmp_path / "trials.log").exists()


def test_other_settings_under_the_same_name(run: Any, words: list[str]) -> None:
    assert run(*words, "-q")[0] == 0
    line = one_line(run(*words, "--sampler", "evolution", "-q"))
    assert "sampler is 'tpe' there and 'evolution' here" in line


def test_a_folder_that_cannot_be_written_stops_it_before_the_first_trial(
    run: Any, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert "file/front" in one_line(run(*words, "-o", "file/front", "-q"))
    assert "COMPLETE" not in (tmp_path / "trials.log").read_text()


def test_guide_gives_options_that_exist() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "search-baseline.md").read_text()
    lines = re.findall(r"^effgen search baseline ((?:.*\\\n)*.*)", guide, re.MULTILINE)
    baseline = typer.main.get_command(search.app).commands["baseline"]  # type: ignore[attr-defined]
    assert lines
    for line in lines:
        context = baseline.make_context("baseline", shlex.split(line.replace("\\\n", " ")))
        assert context.params["trials"] == 30 and Path(context.params["spec"]).name == "digits_mobile.toml"


@pytest.mark.parametrize(
    "hanging",
    [
        pytest.param({"HANG": "3"}, id="searching"),
        pytest.param({"HANG_SEED": "1"}, id="confirming", marks=pytest.mark.slow),
    ],
)
def test_a_worker_killed_in_a_trial_loses_nothing(hanging: dict[str, str], tmp_path: Path) -> None:
    kill_one_of_two_around_a_baseline(f"sqlite:///{tmp_path}/trials.db", tmp_path, **hanging)


@pytest.mark.slow
def test_workers_with_latencies_of_this_machine(tmp_path: Path) -> None:
    """Calibrated, kernels measured, trials shared by two processes, the front compiled and timed."""
    request = request_in(tmp_path)
    words = ["--spec", request.spec, "--trainer", str(request.judge.trainer), "--trials", "4", "--workers", "2"]
    where = ["--storage", f"sqlite:///{tmp_path}/trials.db", "-o", str(tmp_path / "front"), "--json", "-"]
    report = json.loads(output_of(started(["search", "baseline", *words, "--confirm-seeds", "1", *where])))
    assert len(report["candidates"]) == 4 and {each["state"] for each in report["candidates"]} == {"done"}
    assert all(each["measured_share"] > 0.9 for each in report["candidates"])
    assert report["start"]["timing"]["median_ms"] > 0 and len(report["start"]["accuracies"]) == 1
    assert (tmp_path / "front" / "report.html").is_file()


# What is said.


def text_of(report: BaselineReport) -> str:
    from rich.console import Console

    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(table_from_search(report))
    return console.export_text()


def test_table_begins_with_the_start_and_names_who_dominates() -> None:
    lines = [line.strip() for line in text_of(full_report()).splitlines() if "tiny" in line]
    assert "networks around tiny on CPU" in lines[0]
    assert lines[1].startswith("tiny (start)") and "dominates" not in lines[1]
    assert lines[2].startswith("tiny_t1") and lines[2].endswith("0.60x  dominates")
    assert lines[3].startswith("tiny_t2") and lines[3].endswith("1.50x  slower, more accurate")
    assert "+2.75%" in lines[2] and "0.39%" in lines[2]  # 93.25 over 90.5; 5000 pictures are told apart no better


def test_notes_say_what_the_numbers_are() -> None:
    notes = "\n".join(notes_from_search(full_report()))
    assert "1 network dominates tiny by the means, 1 of them beyond luck" in notes
    assert "5 trials (3 done, 1 pruned, 1 failed); 1 drawn again, left out" in notes
    assert "mean of 4 trainings with seeds that the search did not use, judged by the same pictures" in notes
    assert "Welch's t-test of 5,000 pictures" in notes
    report = full_report()
    start = replace(report.start, confirmed=None, timing=None)
    bare = replace(report, start=start, front=(start,), confirm_seeds=0)
    notes = "\n".join(notes_from_search(bare))
    assert "so flattered; see --confirm-seeds" in notes and "latency: predicted" in notes
    assert "no network of the front dominates tiny" in notes


def test_a_member_whose_training_failed_is_said() -> None:
    report = full_report()
    lost = replace(report.members[0], error="diverged in epoch 1")
    notes = "\n".join(notes_from_search(replace(report, members=(lost, *report.members[1:]))))
    assert "tiny_t1: left out: diverged in epoch 1" in notes


def test_a_start_that_was_not_confirmed_is_compared_with_nothing(tmp_path: Path) -> None:
    report = full_report()
    report = replace(report, start=replace(report.start, confirmed=None, error="out of memory"))
    notes = "\n".join(notes_from_search(report))
    assert "tiny: a confirming training failed, no accuracy is compared with it: out of memory" in notes
    assert "no network of the front dominates tiny" in notes and "so flattered" not in notes
    lines = [line.strip() for line in text_of(report).splitlines() if "tiny" in line]
    assert "%" not in lines[1] and "93.25%" in lines[2] and lines[2].endswith("faster, accuracy not told apart")
    write_front(report, tmp_path / "front", force=False)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "search.json").write_text("[" * 100_000)  # of something else
    with pytest.raises(BuildError):
        write_front(report, tmp_path / "deep", force=False)
    partly = replace(full_report(), start=replace(full_report().start, error="out of memory"))
    assert "tiny: a confirming training failed, 4 are left: out of memory" in "\n".join(notes_from_search(partly))


def test_dominance_by_the_means_alone_says_what_is_told_apart() -> None:
    report = full_report()
    luck = member(report.members[0].candidate, 0.90, 0.93, 0.905, 0.91)
    report = replace(report, members=(luck, *report.members[1:]), front=(luck, *report.front[1:]))
    [line] = [line.strip() for line in text_of(report).splitlines() if line.strip().startswith("tiny_t1")]
    assert line.endswith("dominates by the means: faster, accuracy not told apart")
    assert "1 network dominates tiny by the means, 0 of them beyond luck" in "\n".join(notes_from_search(report))


def test_json_has_no_infinity_and_every_field() -> None:
    text = json.dumps(json_from_search(full_report()), allow_nan=False)
    found = json.loads(text)
    assert found["front"][0]["beside"]["dominates"] and found["front"][0]["timing"]["median_ms"] == pytest.approx(0.54)
    assert [each["state"] for each in found["candidates"]] == ["done", "done", "done", "pruned", "failed"]


def test_stage_in_short() -> None:
    stage = StageSpec(block="mbconv", kernel=5, stride=2, channels=24, repeats=2, expand_ratio=6.0, skip=False)
    assert stage_text(stage) == "2 mbconv k5 s2 e6 c24 no skip"


def test_progress_lines() -> None:
    def settled(state: str, value: float | None, **found: Any) -> Settled:
        trial = SimpleNamespace(number=3, state=SimpleNamespace(name=state), value=value, user_attrs=found)
        return Settled(trial, 4, 30)  # type: ignore[arg-type]

    line = line_from_trial(settled("COMPLETE", 0.951, accuracy=0.96, latency_s=5e-4))
    assert line == "4 of 30  trial 3: 96.00%, 0.500 ms, reward 0.9510"
    line = line_from_trial(settled("PRUNED", 0.2, accuracy=0.2, latency_s=5e-4, epochs=2))
    assert line == "4 of 30  trial 3: 20.00%, 0.500 ms, pruned after epoch 2"
    assert line_from_trial(settled("FAIL", None, error="diverged")) == "4 of 30  trial 3: failed: diverged"
    assert line_from_confirmation(settled("COMPLETE", 0.5, item="trial 3 seed 1")) == "4 of 30  trial 3 seed 1: 50.00%"
    assert "failed: no" in line_from_confirmation(settled("FAIL", None, item="trial 3 seed 1", error="no"))


# The page.


def test_page_escapes_what_users_write(tmp_path: Path) -> None:
    write_front(full_report(EVIL), tmp_path / "front", force=False)
    text = (tmp_path / "front" / "report.html").read_text()
    reader = Reader(text)
    assert EVIL in "".join(reader.words) and EVIL not in text
    assert not {"img", "iframe", "object", "embed", "base"} & {tag for tag, _ in reader.elements}
    data = json.loads(next(script for script in reader.scripts if script.startswith("{")))
    assert [view["label"] for view in data["front"]] == ["confirmed", "all trials"]
    assert not [name for name in strings(data) if "<img" in name or "<script" in name]


def test_page_shows_every_trial_and_the_front(tmp_path: Path) -> None:
    write_front(full_report(), tmp_path / "front", force=False)
    reader = Reader((tmp_path / "front" / "report.html").read_text())
    words = " ".join("".join(reader.words).split())
    assert "1 network dominates tiny" in words and "+2.75%" in words and "diverged" in words
    data = json.loads(next(script for script in reader.scripts if script.startswith("{")))
    confirmed, every = (view["figure"]["data"] for view in data["front"])
    assert [trace["name"] for trace in every] == ["front", "trained to the end", "pruned", "start"]
    assert every[0]["x"] == pytest.approx([0.6, 1.5]) and every[1]["y"] == pytest.approx([92.0, 95.0])
    assert every[2]["x"] == pytest.approx([0.7]) and every[3]["y"] == pytest.approx([90.0])
    assert confirmed[1]["error_y"]["array"] == pytest.approx([0.208, 0.408], abs=1e-3)
    rows = (1 + 3) + (1 + 3 * 3) + (1 + 5)  # headings; the start and the front, their stages, all trials
    assert len([tag for tag, _ in reader.elements if tag == "tr"]) == rows


def test_page_without_confirmation(tmp_path: Path) -> None:
    report = full_report()
    bare = [replace(each, confirmed=None, timing=None) for each in (report.start, *report.members)]
    report = replace(report, start=bare[0], members=tuple(bare[1:]), front=tuple(bare[1:]), confirm_seeds=0)
    write_front(report, tmp_path / "front", force=False)
    reader = Reader((tmp_path / "front" / "report.html").read_text())
    data = json.loads(next(script for script in reader.scripts if script.startswith("{")))
    assert [view["label"] for view in data["front"]] == ["all trials"]


def test_a_start_that_nobody_beats(tmp_path: Path) -> None:
    start = member(tried(0, 0.9, 1.0, name="tiny"), 0.9, 0.91)
    report = replace(full_report(), candidates=(start.candidate,), start=start, members=(start,), front=(start,))
    write_front(report, tmp_path / "front", force=False)
    assert (tmp_path / "front" / "tiny.toml").is_file()
    assert "no network of the front dominates tiny" in "\n".join(notes_from_search(report))
