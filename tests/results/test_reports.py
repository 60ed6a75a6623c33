"""Files of measurements: written and read back, and everything that is none refused with one line."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from reports import bench_report, layers_report, written

from effgen.errors import ResultsError
from effgen.results import provenance
from effgen.results.provenance import facts_of, revision
from effgen.results.reports import Report, json_from_report, read_report
from effgen.runtime import read_manifest


@pytest.mark.parametrize("report", [bench_report(onnxruntime=6.5), layers_report()], ids=["bench", "layers"])
def test_file_and_back(report: Report, tmp_path: Path) -> None:
    path = written(report, tmp_path / "r.json")
    assert read_report(path) == report
    data = json.loads(path.read_text())
    assert data["format"] == 1 and data["kind"] in ("bench", "layers")
    assert {"origin", "model", "machine", "threads", "plan", "target"} <= data.keys()


def changed(where: str, value: Any) -> str:
    """A bench report as text with the value at a dotted path replaced, or put there."""
    data = json.loads(json.dumps(json_from_report(bench_report(onnxruntime=6.5))))
    *path, last = (int(part) if part.isdigit() else part for part in where.split("."))
    inner = data
    for part in path:
        inner = inner[part]
    inner[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON, or cut short"),
        (changed("threads", 2)[:-100], "no JSON, or cut short"),
        ("\xff\xfe".encode("latin-1").decode("latin-1"), "no JSON, or cut short"),
        ("[" * 100_000, "no JSON, or cut short"),
        ("[]", "no results of effgen bench"),
        ('{"format_version": 1, "networks": []}', "no results of effgen bench"),
        (changed("format", 2), "format = 2: written by a newer effgen, this one reads 1; update it"),
        (changed("format", "1"), "format = '1': expected 1"),
        (changed("format", True), "format = True: expected 1"),
        (changed("kind", "verify"), "kind = 'verify': expected bench, layers, streams"),
        (changed("kind", ["bench"]), r"kind = \['bench'\]: expected bench, layers, streams"),
        (changed("kind", "layers"), "latency_ms: missing|results: unknown key"),
        (changed("results.0.median_ms", 0), r"results\[0\].median_ms = 0.*: expected greater than"),
        (changed("results.0.median_ms", float("nan")), r"results\[0\].median_ms = nan: expected a finite number"),
        (changed("results.1.median_ms", None), r"results\[1\].median_ms = None: expected a valid number"),
        (changed("results.1.calls", "3"), r"results\[1\].calls = '3': expected a valid integer"),
        (changed("model.phy", 0), "model.phy: unknown key"),
        (changed("threads", 0), "threads = 0: expected greater than 0"),
        (changed("results.1.backend", "effgen"), "results: a backend is there twice"),
        (changed("results.0.backend", "other"), r"results\[0\] = \['other'\]: expected effgen"),
        (changed("results", []), r"results\[0\] = \[\]: expected effgen"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ResultsError, match=rf"^{path}: ({message})") as caught:
        read_report(path)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"absent.json: No such file or directory; expected what effgen bench"):
        read_report(tmp_path / "absent.json")
    with pytest.raises(ResultsError, match="Is a directory"):
        read_report(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ResultsError, match="no JSON"):
        read_report(tmp_path / "binary.json")


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_revision_of_a_checkout(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    assert revision(tmp_path) is None  # no commit yet
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "one")
    clean = revision(tmp_path)
    assert clean is not None and len(clean) == 12
    (tmp_path / "untracked").write_text("1")
    assert revision(tmp_path) == clean
    (tmp_path / "a").write_text("2")
    assert revision(tmp_path) == f"{clean}+dirty"


def test_installed_effgen_asks_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*words: object, **options: object) -> None:
        raise AssertionError("git was called")

    monkeypatch.setattr(provenance.subprocess, "run", refused)
    assert revision(tmp_path) is None


def test_broken_checkout_is_none(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere")
    assert revision(tmp_path) is None


def test_facts_of_what_has_no_family(tiny_bundle: Path) -> None:
    manifest = read_manifest(tiny_bundle)
    manifest.network.clear()
    manifest.network["onnx"] = {"file": "resnet50.onnx"}
    facts = facts_of(manifest, tiny_bundle)
    assert (facts.family, facts.phi, facts.law) == (None, None, None)
    assert facts.onnx_bytes == (tiny_bundle / "model.onnx").stat().st_size
