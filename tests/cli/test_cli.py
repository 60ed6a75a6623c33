"""The command line: streams, exit statuses, one line an error, nothing half-written."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import one_line

from effgen.cli import main
from effgen.judge.case import golden_pair
from effgen.runtime import read_manifest
from effgen.runtime.manifest import GOLDEN, sha256_of

MAIN = "from effgen.cli import main; main()"


def test_help_and_version(run: Any) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(name in out for name in ("inspect", "export", "compile", "verify", "bench", "compare", "doctor"))
    code, out, err = run("--version")
    assert (code, err) == (0, "") and out.startswith("effgen ")


COMMANDS = [
    "inspect",
    "dimensions",
    "export",
    "compile",
    "verify",
    "run",
    "bench",
    "compare",
    "pack",
    "unpack",
    "doctor",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, run: Any) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0 and f"effgen {command}" in out
    assert "--quiet" in out and "--verbose" in out


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["inspect", "--nonsense"], ["inspect", "--law", "x"], ["inspect", "--batch", "x"], ["compile"]],
)
def test_usage_errors(words: list[str], run: Any) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "") and "Usage:" in err


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (["--help"], {"numpy", "pydantic", "tvm", "tvm_ffi", "torch", "onnx"}),
        (["inspect", "-q"], {"tvm", "tvm_ffi", "torch", "onnx", "onnxruntime", "openvino"}),
        (["dimensions", "--no-latency", "-q"], {"tvm", "tvm_ffi", "torch", "onnx", "optuna", "matplotlib"}),
        (["verify", "/absent"], {"torch", "onnx"}),
        (["run", "/absent", "-q", "/absent.png"], {"tvm", "tvm_ffi", "torch", "onnx", "PIL"}),
        (["compile", "--phi", "-1", "-o", "/absent/x"], {"tvm", "torch"}),
    ],
)
def test_nothing_heavy_is_imported_for_nothing(words: list[str], unwanted: set[str]) -> None:
    code = f"""if True:
        import sys
        sys.argv = ["effgen", *{words!r}]
        from effgen.cli import main
        try:
            main()
        except SystemExit:
            print("LOADED", *sys.modules, file=sys.stderr)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split("LOADED")[1].split())
    assert not loaded & unwanted


def test_inspect_prints_a_table_and_the_resolved_network(run: Any) -> None:
    code, out, err = run("inspect", "--phi", "3", "--classes", "10")
    assert code == 0 and "stages.6" in out and "total" in out
    assert "width 1.2, depth 1.4, resolution 300 (published row b3)" in err
    assert "10 classes" in err


def test_quiet_leaves_the_result(run: Any) -> None:
    code, out, err = run("inspect", "-q")
    assert code == 0 and "total" in out and err == ""


def test_json_on_standard_output_is_alone_there(run: Any) -> None:
    code, out, err = run("inspect", "--phi", "0", "--json", "-")
    data = json.loads(out)
    assert code == 0 and "published row b0" in err
    assert {"parameters", "macs", "resolution", "stages", "coefficients", "law", "source", "batch"} <= data.keys()
    assert (data["parameters"], data["macs"], data["resolution"]) == (5_288_548, 385_814_752, 224)
    assert len(data["stages"]) == 10


def test_json_file_comes_beside_the_table(run: Any, tmp_path: Path) -> None:
    code, out, _ = run("inspect", "--json", tmp_path / "report.json")
    assert code == 0 and "total" in out
    assert json.loads((tmp_path / "report.json").read_text())["batch"] == 1


def test_phi_without_a_row_says_so(run: Any) -> None:
    _, out, err = run("inspect", "--phi", "2.5", "--json", "-")
    assert "warning: phi 2.5 has no published row: scaled by the formula" in err
    data = json.loads(out)
    assert data["law"] == "formula" and "no published row" in data["source"]
    _, _, err = run("inspect", "--phi", "2.5", "--law", "formula")
    assert "warning" not in err


def test_overrides(run: Any) -> None:
    words = ("--width", "0.5", "--depth", "0.5", "--resolution", "96", "--norm-eps", "tensorflow", "--padding", "same")
    data = json.loads(run("inspect", *words, "--batch", "2", "--json", "-")[1])
    assert (data["coefficients"]["width"], data["resolution"], data["batch"]) == (0.5, 96, 2)
    assert (data["norm_eps"], data["padding"]) == (1e-3, "same")
    assert "by hand width=0.5, depth=0.5, resolution=96" in data["source"]


def test_one_dimension_beside_the_baseline(run: Any) -> None:
    code, out, _ = run("inspect", "--resolution", "2x", "-q")
    assert code == 0 and "448x448" in out
    assert "3.99x the MACs and 1.00x the parameters of the baseline (efficientnet phi=0)" in out
    data = json.loads(run("inspect", "--depth", "4", "--batch", "2", "--classes", "10", "--json", "-")[1])
    base = json.loads(run("inspect", "--classes", "10", "--json", "-")[1])
    assert {key: data["baseline"][key] for key in ("model", "parameters", "macs")} == {
        "model": "efficientnet phi=0", "parameters": base["parameters"], "macs": base["macs"],
    }  # fmt: skip
    assert data["baseline"]["macs_ratio"] == data["macs"] / base["macs"]
    assert data["baseline"]["parameters_ratio"] == data["parameters"] / base["parameters"]
    assert "of the baseline" not in run("inspect", "-q")[1]


def spec_file(folder: Path, text: str, old: str, new: str) -> Path:
    assert old in text
    path = folder / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_bad_specs(run: Any, tiny_spec: Path, tmp_path: Path) -> None:
    text = tiny_spec.read_text()
    path = spec_file(tmp_path, text, "kernel = 3", "kernel = 4")
    message = one_line(run("inspect", "--spec", path))
    assert f"{path}: stages[0].kernel = 4: expected an odd number" in message and "3 or 5" in message
    path = spec_file(tmp_path, text, "squeeze_excite", "squeeze_exite")
    message = one_line(run("compile", "--spec", path, "-o", tmp_path / "out"))
    assert "stages[0].squeeze_exite: unknown key; did you mean squeeze_excite?" in message
    assert "cannot read the spec" in one_line(run("inspect", "--spec", tmp_path / "absent.toml"))
    assert "did you mean efficientnet?" in one_line(run("inspect", "--spec", "efficentnet"))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--phi", "-1"], "--phi -1: expected 0 or more"),
        (["--phi", "b9"], "--phi b9: expected a number or the name of a published row"),
        (["--phi", "nan"], "--phi nan: expected a number"),
        (["--resolution", "31"], "--resolution 31: expected from 32"),
        (["--resolution", "0.1x"], "--resolution 0.1x (22 pixels): expected from 32 (the network's total stride) to"),
        (["--resolution", "2.5"], "--resolution 2.5: expected whole pixels, or a multiple"),
        (["--resolution", "infx"], "--resolution infx: expected a multiple above 0 of the baseline's 224 pixels"),
        (["--width", "0"], "--width 0: expected a multiplier above 0"),
        (["--batch", "0"], "--batch 0: expected from 1"),
        (["--norm-eps", "x"], "--norm-eps x: expected pytorch, tensorflow or a number"),
    ],
)
def test_networks_that_make_no_sense(words: list[str], text: str, run: Any, tmp_path: Path) -> None:
    assert text in one_line(run("inspect", *words))
    assert text in one_line(run("compile", *words, "-o", tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_text_in_brackets_is_printed_as_it_is(run: Any) -> None:
    assert "--phi [bold]x: expected" in one_line(run("inspect", "--phi", "[bold]x"))
    assert "[red]x" in one_line(run("inspect", "--spec", "./[red]x"))


@pytest.mark.parametrize("words", [["inspect"], ["doctor"], ["verify", "/absent"]])
def test_json_path_that_cannot_be_written_is_refused_before_the_work(
    words: list[str], run: Any, tmp_path: Path
) -> None:
    assert "is a directory" in one_line(run(*words, "--json", tmp_path))
    assert "is no directory" in one_line(run(*words, "--json", tmp_path / "absent" / "x.json"))


def test_unknown_target_lists_the_known_ones(run: Any, tiny_spec: Path, tmp_path: Path) -> None:
    message = one_line(run("compile", "--spec", tiny_spec, "--target", "x86-64-v5", "-o", tmp_path / "out"))
    assert "x86-64-v5" in message and "cpu, cuda, " in message
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_that_is_none(run: Any, tiny_spec: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 cut off")
    words = ("--spec", tiny_spec, "--weights", tmp_path / "broken.pth", "-o", tmp_path / "out")
    assert "broken.pth" in one_line(run("compile", *words))
    assert [path.name for path in tmp_path.iterdir()] == ["broken.pth"]


def test_output_that_exists_needs_force(run: Any, tiny_spec: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "out")
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    words = ("compile", "--spec", tiny_spec, "-o", tmp_path / "out")
    assert "--force" in one_line(run(*words))
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    code, out, err = run(*words, "--force", "-v")
    assert code == 0 and "compiled in" in out and "rule:pointwise, 1 in a run" in err


@pytest.mark.parametrize("words", [["compile"], ["export"]])
def test_path_that_cannot_be_written(words: list[str], run: Any, tiny_spec: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    one_line(run(*words, "--spec", tiny_spec, "-o", tmp_path / "file" / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "file").unlink()
    (tmp_path / "broken.pth").write_bytes(b"")
    one_line(run(*words, "--spec", tiny_spec, "-o", tmp_path / "new" / "out", "--weights", tmp_path / "broken.pth"))
    assert [path.name for path in tmp_path.iterdir()] == ["broken.pth"]


def test_quiet_and_verbose_exclude_each_other(run: Any) -> None:
    assert run("inspect", "-q", "-v")[0] == 2


def test_compile_reports(run: Any, tiny_spec: Path, tmp_path: Path) -> None:
    code, out, err = run("compile", "--spec", tiny_spec, "-o", tmp_path / "out", "--threads", "1", "--json", "-")
    data = json.loads(out)
    assert code == 0 and data["bundle"] == str(tmp_path / "out") and data["seconds"] > 0
    assert data["threads"] == 1 and data["kernels"] and data["target"]["name"] == "cpu"
    assert "target cpu, 1 thread\n" in err
    assert any(line.endswith(" s  export ONNX") for line in err.splitlines())
    assert "kernel " not in err


def test_export_writes_folded_and_unfolded(run: Any, tiny_spec: Path, tmp_path: Path) -> None:
    import onnx

    for name, option in (("folded.onnx", "--fold"), ("unfolded.onnx", "--no-fold")):
        code, out, _ = run("export", "--spec", tiny_spec, "-o", tmp_path / name, option)
        assert (code, out) == (0, f"{tmp_path / name}\n")
    operators = [{node.op_type for node in onnx.load(path).graph.node} for path in sorted(tmp_path.iterdir())]
    assert ["BatchNormalization" in each for each in operators] == [False, True]
    assert "--force" in one_line(run("export", "--spec", tiny_spec, "-o", tmp_path / "folded.onnx"))


def test_verify_passes(run: Any, tiny_bundle: Path) -> None:
    code, out, _ = run("verify", tiny_bundle)
    assert code == 0 and "passed: tolerance relative L2 <= 1e-05" in out
    code, out, _ = run("verify", tiny_bundle, "--json", "-", "--threads", "1")
    data = json.loads(out)
    assert code == 0 and data["passed"] is True and data["max_abs"] < 1e-3 and data["rel_l2"] < 1e-5


def test_verify_miss_is_status_three(run: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    """A golden pair of other weights: PyTorch's own answer is stable, and another one."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "b")
    manifest = read_manifest(bundle)
    image, output = golden_pair(bundle)
    np.savez(bundle / GOLDEN, input=image, output=output * np.float32(1.01))
    files = {**manifest.files, GOLDEN: sha256_of(bundle / GOLDEN)}
    (bundle / "manifest.json").write_text(replace(manifest, files=files).to_json())
    code, out, err = run("verify", bundle, "--json", "-", "-q")
    assert code == 3 and json.loads(out)["passed"] is False
    assert err.count("\n") == 1 and err.startswith(f"error: {bundle}: FAILED: ") and "needed" in err


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_flipped_byte_is_found(command: str, run: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "b")
    library = bytearray((bundle / "lib.so").read_bytes())
    library[len(library) // 2] ^= 1
    (bundle / "lib.so").write_bytes(library)
    assert "lib.so: SHA-256 is" in one_line(run(command, bundle))
    assert "no bundle here" in one_line(run(command, tmp_path / "absent"))


def test_bench_reports(run: Any, tiny_bundle: Path) -> None:
    words = ("--skip", "torch.compile,pytorch", "--rounds", "2", "--min-time", "0.02", "--threads", "1")
    code, out, _ = run("bench", tiny_bundle, *words)
    assert code == 0 and "median ms" in out and "pytorch-channels-last" in out and "2 interleaved rounds" in out
    code, out, _ = run("bench", tiny_bundle, *words, "--json", "-")
    data = json.loads(out)
    assert code == 0 and [row["backend"] for row in data["results"]] == ["effgen", "pytorch-channels-last"]
    assert "unknown peer" in one_line(run("bench", tiny_bundle, "--peers", "x"))


def test_bench_of_layers(run: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    words = ("--layers", "--rounds", "2", "--min-time", "0.02", "--threads", "1")
    code, out, _ = run("bench", tiny_bundle, *words)
    assert code == 0 and "of roofline" in out and "outside the kernels" in out and "2 interleaved rounds" in out
    assert ".txt: expected a file that ends in" in one_line(run("bench", tiny_bundle, *words, "--plot", "x.txt"))
    assert run("bench", tiny_bundle, "--plot", tmp_path / "x.png")[0] == 2
    assert run("bench", tiny_bundle, "--layers", "--peers", "onnxruntime")[0] == 2


def test_doctor(run: Any) -> None:
    code, out, _ = run("doctor", "--json", "-")
    data = json.loads(out)
    assert (code == 0) is data["healthy"]
    assert {"name", "status", "found", "fix"} == data["checks"][0].keys()


@pytest.mark.parametrize(
    ("number", "after", "status", "word"),
    [
        (signal.SIGINT, "initialise weights", 130, "interrupted"),
        (signal.SIGTERM, "import ONNX", 143, "terminated"),
    ],
)
def test_stopped_midway_leaves_nothing(
    number: signal.Signals, after: str, status: int, word: str, tiny_spec: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", MAIN, "compile", "--spec", str(tiny_spec), "-o", str(tmp_path / "out")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr and process.stdout
        for line in process.stderr:
            if after in line:  # that phase is over
                break
        assert list(tmp_path.iterdir()) != []
        process.send_signal(number)
        rest, out = process.stderr.read(), process.stdout.read()
    assert (process.returncode, out) == (status, ""), rest
    assert rest.splitlines()[-1] == word and "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_stop_that_compiled_code_hides_is_still_a_stop(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from effgen.network import inspection

    def hides(*arguments: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError from None

    monkeypatch.setattr(inspection, "inspect_network", hides)
    code, out, err = run("inspect", "-q")
    assert (code, out, err) == (130, "", "interrupted\n")


def test_reader_that_goes_away_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    words = [sys.executable, "-c", MAIN, "inspect", "-q"]
    done = subprocess.run(words, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert done.stderr == ""


def test_a_bug_keeps_its_traceback(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from effgen.network import inspection

    def bug(network: object, baseline: object) -> None:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr(inspection, "inspect_network", bug)
    monkeypatch.setattr(sys, "argv", ["effgen", "inspect"])
    with pytest.raises(ZeroDivisionError):
        main()
