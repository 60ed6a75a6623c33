"""One dimension against all: the paper's rows, what they cost here, and the command that prints them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import one_line
from reports import bench_report

from effgen.errors import TargetError
from effgen.method.budget.dimensions import (
    DimensionRow,
    DimensionsReport,
    TablePlan,
    TimingOptions,
    compare_dimensions,
    equal_macs_comparison,
    paper_comparisons,
)
from effgen.method.budget.paper_tables import PAPER_TABLES
from effgen.method.latency import interleaved
from effgen.network import Network, NetworkRequest, build_network
from effgen.network.inspection import inspect_network
from effgen.network.scaling import Overrides
from effgen.report.dimensions import notes_from_dimensions, tables_from_dimensions, warning_from_dimensions
from effgen.report.plots import plot_dimensions
from effgen.results.reports import BenchReport, Plan

#: Rows of the paper that the printed coefficients do not come to within 5% (docs/scaling.md says what is known).
ELSEWHERE = {
    ("mobilenet_v2", "compound"),
    ("resnet50", "depth"),
    ("resnet50", "width"),
    ("efficientnet", "depth"),
    ("efficientnet", "width"),
    ("efficientnet", "resolution"),
}


@pytest.fixture(scope="module")
def paper() -> tuple[TablePlan, ...]:
    return paper_comparisons(("3", "7"))


@pytest.fixture(scope="module")
def counted(paper: tuple[TablePlan, ...]) -> DimensionsReport:
    return compare_dimensions(paper)


def rows_of(report: DimensionsReport) -> list[DimensionRow]:
    return [row for table in report.tables for row in table.rows]


def test_multiply_adds_are_the_published_ones(counted: DimensionsReport) -> None:
    rows = rows_of(counted)
    assert len(rows) == 19
    off = set()
    for row in rows:
        assert row.published is not None and row.published_ratio == row.macs / row.published.macs
        printed = abs(row.macs - row.published.macs) <= 0.05e9  # to a tenth of a billion
        if not printed and abs(row.published_ratio - 1) > 0.05:
            off.add((row.family, row.dimension))
    assert off == ELSEWHERE


@pytest.mark.parametrize(
    ("family", "dimension", "macs", "parameters"),
    [
        ("mobilenet_v1", "baseline", 568_740_352, 4_231_976),
        ("mobilenet_v2", "baseline", 300_774_272, 3_504_872),
        ("resnet50", "resolution", 16_350_593_024, 25_557_032),
        ("efficientnet", "baseline", 385_814_752, 5_288_548),
        ("efficientnet", "compound", 1_800_091_280, 12_233_232),
    ],
)
def test_counts_are_those_of_the_networks(
    family: str, dimension: str, macs: int, parameters: int, counted: DimensionsReport
) -> None:
    rows = rows_of(counted)
    (row,) = (row for row in rows if (row.family, row.dimension) == (family, dimension))
    assert (row.macs, row.parameters) == (macs, parameters)


@pytest.mark.parametrize("table", PAPER_TABLES, ids=lambda table: table.number)
def test_rows_are_what_inspect_shows_for_the_paper_s_coefficients(table: Any, counted: DimensionsReport) -> None:
    (found,) = (each for each in counted.tables if each.title == table.title)
    base = 1
    for row, paper in zip(found.rows, table.rows, strict=True):
        overrides = Overrides(paper.width, paper.depth, resolution_factor=paper.resolution)
        expected = inspect_network(build_network(NetworkRequest(paper.spec, overrides=overrides)))
        base = row.macs if row.dimension == "baseline" else base
        assert (row.family, row.dimension, row.published) == (paper.spec, paper.dimension, paper.published)
        assert (row.macs, row.parameters, row.resolution) == (expected.macs, expected.parameters, expected.resolution)
        assert row.macs_ratio == row.macs / base and row.latency is None and row.phi is None


def made_up(milliseconds: dict[str, float], asked: list[Any]) -> Any:
    """In place of `measure_networks`: medians by the last word of a network's name."""

    def measure_networks(networks: dict[str, Network], *rest: Any) -> dict[str, BenchReport]:
        asked.append((list(networks), *rest[:-1]))
        medians = {name: milliseconds[name.split()[-1]] for name in networks}
        return {name: bench_report(effgen=median, other_cpus=median / 100) for name, median in medians.items()}

    return measure_networks


TIMES = {"baseline": 2.0, "depth": 8.0, "width": 6.0, "resolution": 10.0, "compound": 9.0}


@pytest.fixture
def measured(paper: tuple[TablePlan, ...], monkeypatch: pytest.MonkeyPatch) -> DimensionsReport:
    monkeypatch.setattr(interleaved, "measure_networks", made_up(TIMES, []))
    return compare_dimensions(paper, TimingOptions(plan=Plan(3, 0.5)))


def test_latency_is_beside_the_baseline_s_of_the_same_run(measured: DimensionsReport) -> None:
    for row in rows_of(measured):
        assert row.latency is not None
        assert (row.latency.median_ms, row.latency.ratio) == (TIMES[row.dimension], TIMES[row.dimension] / 2)
    assert measured.measured is not None
    assert (measured.measured.plan, measured.measured.other_cpus) == (Plan(3, 0.5), 0.1)


def test_a_family_is_timed_in_one_run_as_asked(paper: tuple[TablePlan, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(interleaved, "measure_networks", made_up(TIMES, asked))
    timing = TimingOptions("cpu", 1, Plan(3, 0.5), Path("records.jsonl"))
    compare_dimensions(paper[:1], timing)
    assert [len(names) for names, *_ in asked] == [4, 5, 5]
    assert asked[0][0] == [f"mobilenet_v1 {way}" for way in ("baseline", "width", "resolution", "compound")]
    assert all(rest == ["cpu", 1, Plan(3, 0.5), Path("records.jsonl")] for _, *rest in asked)


def test_what_cannot_be_timed_is_refused_before_any_work(
    paper: tuple[TablePlan, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interleaved, "measure_networks", made_up(TIMES, asked := []))
    with pytest.raises(TargetError, match=r"^--target rpi4: cannot be timed here: "):
        compare_dimensions(paper, TimingOptions(target="rpi4"))
    with pytest.raises(TargetError, match=r"^--threads 4096: expected from 1 to "):
        compare_dimensions(paper, TimingOptions(threads=4096))
    assert asked == []


def test_notes_say_what_is_not_as_printed(measured: DimensionsReport) -> None:
    notes = "\n".join(notes_from_dimensions(measured))
    assert "efficientnet width: 1.45B MACs, the paper prints 1.8B (-19%)" in notes
    assert "mobilenet_v2 compound: the paper prints no coefficients here" in notes
    assert "mobilenet_v1 baseline: " not in notes  # 0.57 is printed as 0.6
    assert "3 rounds in turns of a family's networks, 0.5 s of timed calls each" in notes
    assert warning_from_dimensions(measured) == ""
    busy = replace(measured, measured=replace(measured.measured, other_cpus=1.5))
    assert "other processes kept 1.5 CPUs busy" in warning_from_dimensions(busy)


def test_notes_say_where_a_step_is_far_from_what_was_asked_for(tiny_spec: Path) -> None:
    report = compare_dimensions([equal_macs_comparison(str(tiny_spec), 2.0)])
    assert "tiny width: 2.34 times the MACs is its step nearest to 2" in notes_from_dimensions(report)
    assert warning_from_dimensions(report) == ""


def test_columns_are_those_that_have_something_to_say(measured: DimensionsReport, tiny_spec: Path) -> None:
    def columns(report: DimensionsReport) -> list[Any]:
        return [column.header for column in tables_from_dimensions(report)[0].columns]

    assert {"x paper", "top-1", "median ms", "x latency"} <= set(columns(measured))
    counts = columns(compare_dimensions([equal_macs_comparison(str(tiny_spec), 2.0)]))
    assert {"x MACs", "parameters"} <= set(counts) and not {"x paper", "median ms"} & set(counts)


def test_plot(measured: DimensionsReport, counted: DimensionsReport, tmp_path: Path) -> None:
    """An .svg holds its words as comments."""
    pytest.importorskip("matplotlib")
    one_family = replace(measured, tables=measured.tables[1:])
    for report, panels in ((measured, 2), (counted, 1), (one_family, 2)):
        plot_dimensions(report, tmp_path / "x.svg")
        drawn = (tmp_path / "x.svg").read_text()
        assert drawn.count("<!-- multiply-adds of an image, millions -->") == panels
        assert drawn.count("<!-- latency, ms -->") == panels - 1
        assert "<!-- efficientnet -->" in drawn and "<!-- compound -->" in drawn


def test_the_command_counts(run: Any) -> None:
    code, out, err = run("dimensions", "--no-latency")
    assert (code, err) == (0, "")
    assert "Table 3: MobileNets and ResNet scaled up" in out and "Table 7: EfficientNet-B0 scaled up" in out
    assert "2,317,954,056" in out and "75.6%" in out
    data = json.loads(run("dimensions", "--table", "7", "--no-latency", "--json", "-")[1])
    assert (data["kind"], data["measured"], len(data["tables"])) == ("dimensions", None, 1)
    row = data["tables"][0]["rows"][-1]
    assert (row["macs"], row["published"]) == (1_800_091_280, {"macs": 1.8e9, "top1": 81.1})


def test_the_command_compares_a_spec_at_equal_multiply_adds(run: Any, tiny_spec: Path) -> None:
    words = ("dimensions", "--spec", tiny_spec, "--no-latency", "--json", "-")
    (table,) = json.loads(run(*words, "--factor", "4")[1])["tables"]
    assert (table["factor"], [row["dimension"] for row in table["rows"]]) == (4.0, ["baseline", *list(TIMES)[1:]])
    compound = table["rows"][-1]
    again = json.loads(run("inspect", "--spec", tiny_spec, "--phi", repr(compound["phi"]), "--json", "-")[1])
    assert again["macs"] == compound["macs"]
    assert json.loads(run(*words)[1])["tables"][0]["factor"] == 2.0


@pytest.mark.parametrize("words", [(), ("--spec", "efficientnet", "--factor", "4")], ids=["paper", "spec"])
def test_the_docs_show_what_the_command_prints(words: tuple[str, ...], run: Any) -> None:
    docs = (Path(__file__).parents[3] / "docs" / "scaling.md").read_text()
    printed = run("dimensions", *words, "--no-latency")[1]
    assert " ".join(f"$ effgen dimensions {' '.join((*words, '--no-latency'))}".split()) in docs
    assert all(line.rstrip() in docs for line in printed.splitlines())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--spec", "efficientnet", "--table", "3"], "leave one of them out"),
        (["--factor", "2"], "--factor is of --spec"),
        (["--spec", "efficientnet", "--no-latency", "--plot", "x.png"], "--plot: of a --spec only latency"),
        (["--table", "4"], "--table"),
        (["--no-latency", "--target", "cpu"], "--target: nothing is measured; leave out --no-latency"),
        (["--no-latency", "--threads", "1", "--db", "x"], "--threads, --db: nothing is measured"),
        (["--no-latency", "--rounds", "10", "--min-time", "1"], "--rounds, --min-time: nothing is measured"),
    ],
    ids=["spec and table", "factor alone", "nothing to draw", "no such table", "target", "threads", "rounds"],
)
def test_usage_errors(words: list[str], text: str, run: Any) -> None:
    code, out, err = run("dimensions", *words)
    assert (code, out) == (2, "") and text in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--spec", "efficentnet"], "did you mean efficientnet?"),
        (["--spec", "efficientnet", "--factor", "1"], "--factor 1: expected a number above 1, up to 64"),
        (["--plot", "x.txt"], "--plot x.txt: expected a file that ends in .png"),
        (["--target", "rpi4"], "--target rpi4: cannot be timed here"),
        (["--target", "nowhere"], "nowhere"),
        (["--threads", "4096"], "--threads 4096: expected from 1 to"),
    ],
    ids=["spec", "factor", "plot", "target", "unknown target", "threads"],
)
def test_what_makes_no_sense_is_one_line(words: list[str], text: str, run: Any) -> None:
    assert text in one_line(run("dimensions", *words))
