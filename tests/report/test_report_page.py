"""The HTML report without a browser: that it stands alone, escapes everything, and says what is missing."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import one_line
from pages import EVIL, Reader, full_comparison, strings
from reports import FACTS, bench_report, facts, layers_report, written

from effgen.report.html import document
from effgen.report.html.figures import charts_from_comparison
from effgen.report.html.page import page_from_comparison
from effgen.results.comparison import compare_files

pytest.importorskip("plotly")
pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_from_comparison(full_comparison(tmp_path_factory.mktemp("page")), gate=5.0)


@pytest.fixture(scope="module")
def reader(text: str) -> Reader:
    return Reader(text)


def test_nothing_is_fetched(reader: Reader) -> None:
    for tag, attributes in reader.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert not {"img", "iframe", "object", "embed", "base"} & {tag for tag, _ in reader.elements}
    style = (Path(document.__file__).parent / "page.css").read_text()
    assert "url(" not in style and "@import" not in style


def test_policy_allows_the_pages_own_scripts_only(reader: Reader) -> None:
    (policy,) = (a["content"] for tag, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and "default-src 'none'" in policy
    kinds = [attributes.get("type") for tag, attributes in reader.elements if tag == "script"]
    running = [script for script, kind in zip(reader.scripts, kinds, strict=True) if kind is None]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in running]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes and len(hashes) == 2
    assert "unsafe-eval" not in policy and "script-src 'unsafe-inline'" not in policy


def test_names_are_text(text: str, reader: Reader) -> None:
    assert EVIL in "".join(reader.words)  # as a reader sees it
    assert EVIL not in text
    assert not [attributes for _, attributes in reader.elements if any(name.startswith("on") for name in attributes)]
    data = json.loads(next(script for script in reader.scripts if script.startswith("{")))
    assert data.keys() == {"phi", "machines", "front", "stacks", "roofline"}
    drawn = [figure["figure"] for views in data.values() for figure in views]
    assert drawn and not [name for name in strings(drawn) if "<img" in name or "<script" in name]


def test_page_says_what_it_shows(reader: Reader) -> None:
    words = " ".join("".join(reader.words).split())
    assert "1 of 10 files disturbed" in words
    assert "1 of 1 cases slower by more than 5%, the gate" in words
    assert "Not measured again: 1" in words
    assert "ResNet-152 / EfficientNet-B1" in words and "5.29x" in words  # 90 / 17 ms
    assert "not measured" in words  # GPipe
    assert "Testing CPU 9000 (virtual), 2 of 2 CPUs" in words and "c++ 12.2.0" in words and "0123456789ab" in words


def test_columns_that_say_nothing_give_way(tmp_path: Path) -> None:
    report = bench_report(onnxruntime=6.5)
    old = replace(report, results=tuple(replace(each, p10_ms=None, p90_ms=None) for each in report.results))
    words = "".join(Reader(page_from_comparison(compare_files([written(old, tmp_path / "t.json")]))).words)
    assert "All rows: Testing CPU 9000, 2 CPUs, threads: 2, batch 1, float32." in words
    assert "median ms" in words and "p90 ms" not in words and "hardware" not in words


def test_sections_without_results_say_what_to_run(tmp_path: Path) -> None:
    kernels = page_from_comparison(compare_files([written(layers_report(), tmp_path / "k.json")]))
    words = " ".join("".join(Reader(kernels).words).split())
    assert "No latencies: run effgen bench BUNDLE --peers" in words
    assert "No model of a scaled family was measured" in words
    times = page_from_comparison(compare_files([written(bench_report(), tmp_path / "t.json")]))
    words = " ".join("".join(Reader(times).words).split())
    assert words.count("run effgen bench BUNDLE --layers") == 2
    assert "All rows are of one machine" in words
    assert "Beside the baseline" not in words


def test_rows_measured_like_the_paper_say_so(tmp_path: Path) -> None:
    resnet = replace(FACTS, name="resnet152", family=None, phi=None, law=None, parameters=60_192_808)
    files = []
    for threads in (1, 2):
        for model, ms in ((facts(1), 17.0), (resnet, 90.0)):
            report = bench_report(model, threads=threads, effgen=ms)
            report = replace(report, results=tuple(replace(each, mean_ms=ms) for each in report.results))
            files.append(written(report, tmp_path / f"{len(files)}.json"))
    page = page_from_comparison(compare_files(files))
    assert "1 thread, batch 1, float32, target cpu; means; like the paper" in page
    assert "2 threads, batch 1, float32, target cpu; means<" in page


def test_charts_show_what_was_measured(tmp_path: Path) -> None:
    comparison = full_comparison(tmp_path)
    charts = charts_from_comparison(comparison)
    assert {name: len(views) for name, views in charts.items()} == {
        "phi": 3, "machines": 1, "front": 3, "stacks": 1, "roofline": 2,
    }  # fmt: skip
    setting = "Testing CPU 9000, 2 CPUs, 2 threads"
    by_phi, by_work = (next(v for v in charts[name] if v.label == setting).figure["data"] for name in ("phi", "front"))
    (ours,) = (trace for trace in by_phi if trace["name"] == "efficientnet: effgen")
    assert (ours["x"], ours["y"]) == ([0.0, 1.0], [5.0, 9.0])
    assert by_work[0]["name"] == "front" and by_work[0]["x"] == [5.0, 6.25, 9.0]
    shares = [sum(trace["x"][bar] for trace in charts["stacks"][0].figure["data"]) for bar in range(2)]
    assert shares == pytest.approx([1.0, 1.0])
    names = [trace["name"] for trace in charts["roofline"][0].figure["data"]]
    assert names == ["L2: 100 GB/s at 1 MiB", "network: 50 GB/s at 24 MiB", "peak: 200 GFLOP/s", "pointwise 50%",
                     "depthwise 30%"]  # fmt: skip


def test_packages_that_are_missing(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document.importlib.util, "find_spec", lambda name: None)
    path = written(bench_report(), tmp_path / "t.json")
    line = one_line(run("compare", path, "-o", tmp_path / "r.html"))
    assert line == "-o/--output: jinja2, plotly: not installed: pip install 'effgen[report]'"
    assert not (tmp_path / "r.html").exists()


def test_command_writes_the_page(run: Any, tmp_path: Path) -> None:
    path = written(bench_report(onnxruntime=6.5), tmp_path / "t.json")
    code, _, err = run("compare", path, "-o", tmp_path / "r.html", "-q")
    assert (code, err) == (0, "")
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert 4_000_000 < (tmp_path / "r.html").stat().st_size < 6_000_000


def test_big_figures_leave_disturbed_runs_out(tmp_path: Path) -> None:
    quiet, busy = bench_report(onnxruntime=6.0), bench_report(onnxruntime=60.0, other_cpus=1.5)
    both = [written(quiet, tmp_path / "quiet.json"), written(busy, tmp_path / "busy.json")]
    text = page_from_comparison(compare_files(both), gate=5.0)
    assert "1.20x" in text and "12.00x?" in text and "fastest peer over effgen, one run: " in text
    alone = page_from_comparison(compare_files(both[1:]), gate=5.0)
    assert 'class="headlines"' not in alone
