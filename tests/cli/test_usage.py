"""The command line itself: help, usage errors, and nothing heavy imported for nothing."""

import subprocess
import sys
from typing import Any

import pytest

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
    "quantize",
    "compile",
    "verify",
    "eval",
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
        (["eval", "/absent", "--data", "/absent"], {"torch", "onnx", "PIL"}),
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
