"""What tests of pages share: a comparison whose names would do harm where they were not escaped, and a reader."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from reports import FACTS, HOST, bench_report, facts, layers_report, written

from effgen.results.comparison import Comparison, compare_files

#: What it would do: run, or ask a server.
EVIL = '</script><script>window.owned=1</script><img src="http://127.0.0.1:9/x" onerror="window.owned=2">'


def full_comparison(folder: Path) -> Comparison:
    """Something for every section: two settings, kernels of two models, the paper's pair, doubts and a regression."""
    evil = replace(FACTS, name=EVIL, family=EVIL, macs=500_000_000)
    resnet = replace(FACTS, name="resnet152", family=None, phi=None, law=None, parameters=60_192_808, code_bytes=None)
    resnet = replace(resnet, macs=11_500_000_000)
    board = replace(HOST, cpu=f"Board {EVIL}")
    reports = [
        bench_report(facts(0), effgen=5.0, onnxruntime=6.5, pytorch=100.0),
        bench_report(facts(1, macs=686_802_832), effgen=9.0, onnxruntime=12.0, pytorch=30.0),
        bench_report(facts(0), machine=board, other_cpus=0.9, effgen=50.0),
        bench_report(facts(1, macs=686_802_832), threads=1, effgen=17.0),
        bench_report(resnet, threads=1, effgen=90.0),
        bench_report(evil, effgen=6.25),
        layers_report(),
        layers_report(replace(evil, name=f"{EVIL} phi=1")),
    ]
    old = bench_report(facts(0), effgen=4.0, onnxruntime=6.5)
    gone = bench_report(facts(7), effgen=400.0)
    files = [written(report, folder / f"{number}.json") for number, report in enumerate(reports)]
    before = [written(report, folder / f"old-{number}.json") for number, report in enumerate((old, gone))]
    return compare_files(files, before)


class Reader(HTMLParser):
    """Elements with their attributes, and the text of scripts; the rest of the text by itself."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.words.append(data)


def strings(value: Any) -> list[str]:
    """Every text inside JSON values."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []
