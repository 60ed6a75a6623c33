"""Programs around the standalone library: the examples, two models in one, and the executable."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from standalone_bundles import (
    EMIT,
    PROGRAMS,
    SYSTEM,
    Made,
    answer,
    made,
    output_of,
)

from effgen.judge.case import golden_pair
from effgen.network import NetworkRequest
from effgen.runtime.standalone import load_standalone

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_variants_in_one_program(tiny: Made, tiny_spec: Path, tmp_path: Path) -> None:
    """By the default names, and by ones given; each static library is the first on the command line once."""
    variants = [tiny]
    for number, (batch, name) in enumerate([(2, None), (1, "my_model")]):
        (tmp_path / str(number)).mkdir()
        request = NetworkRequest(spec=str(tiny_spec), batch=batch)
        variants.append(made(tmp_path / str(number), request, EMIT[:2], name=name))
    names = [made.name for made in variants]
    assert names == ["tiny_phi0", "tiny_phi0_batch2", "my_model"]
    calls = " || ".join(f"{name}_create(&{name}_handle, 1)" for name in names)
    lines = [f'#include "{name}.h"\nstatic {name} *{name}_handle;' for name in names]
    (tmp_path / "main.c").write_text("\n".join([*lines, f"int main(void) {{ return {calls}; }}\n"]))
    headers = [word for made in variants for word in ("-I", made.bundle)]
    libraries = [made.static for made in variants]
    output_of("cc", "-Wall", "-Werror", *headers, tmp_path / "main.c", "-o", tmp_path / "all", *libraries, *SYSTEM)
    output_of(tmp_path / "all")


@pytest.mark.parametrize("linked", ["static", "shared"])
@pytest.mark.parametrize(("source", "compiler"), [("c/main.c", "cc -std=c99"), ("cpp/main.cc", "c++ -std=c++17")])
def test_examples(source: str, compiler: str, linked: str, small_b0: Made, tmp_path: Path) -> None:
    program = tmp_path / "classify"
    library = [small_b0.static] if linked == "static" else ["-L", small_b0.bundle, "-lefficientnet_b0"]
    words = [*compiler.split(), "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", small_b0.bundle, EXAMPLES / source]
    output_of(*words, "-o", program, *library, *SYSTEM)
    lines = output_of(program, small_b0.image(tmp_path), env={"LD_LIBRARY_PATH": str(small_b0.bundle)}).splitlines()
    expected = golden_pair(small_b0.bundle)[1][0]
    found = [re.match(r"class +(\d+)  logit (\S+)$", line).groups() for line in lines]  # type: ignore[union-attr]
    assert [int(best) for best, _ in found] == np.argsort(-expected)[:5].tolist()
    np.testing.assert_allclose([float(logit) for _, logit in found], np.sort(expected)[::-1][:5], atol=2e-6)
    refused = subprocess.run(
        [program, tmp_path / "absent"], capture_output=True, env={"LD_LIBRARY_PATH": small_b0.bundle}
    )
    assert refused.returncode == 1 and refused.stderr.count(b"\n") == 1


@pytest.mark.parametrize("static", [True, False])
def test_two_models_in_one_program(tiny: Made, small_b0: Made, static: bool, tmp_path: Path) -> None:
    program = tmp_path / "both"
    headers = ["-I", tiny.bundle, "-I", small_b0.bundle]
    libraries = [made.static if static else made.shared for made in (tiny, small_b0)]
    output_of("c++", "-Wall", "-Werror", *headers, PROGRAMS / "two_models.cc", "-o", program, *libraries, *SYSTEM)
    files = [word for made in (tiny, small_b0) for word in (made.image(tmp_path), tmp_path / f"{made.name}.out")]
    output_of(program, *files, env={"LD_LIBRARY_PATH": f"{tiny.bundle}:{small_b0.bundle}"})
    for made_ in (tiny, small_b0):
        found = np.fromfile(tmp_path / f"{made_.name}.out", np.float32)[None]
        with load_standalone(made_.bundle, 2) as model:
            np.testing.assert_array_equal(found, model(golden_pair(made_.bundle)[0]))


def test_program(tiny: Made, tmp_path: Path) -> None:
    program, image, expected = tiny.bundle / tiny.name, tiny.image(tmp_path), golden_pair(tiny.bundle)[1]
    lines = output_of(program, "--threads", 1, "--runs", 5, image, tmp_path / "logits.f32", env={}).splitlines()
    logits = np.fromfile(tmp_path / "logits.f32", np.float32)[None]
    np.testing.assert_array_equal(logits, answer(tiny, golden_pair(tiny.bundle)[0], 1))
    assert re.fullmatch(r"min [\d.]+ ms, median [\d.]+ ms, p90 [\d.]+ ms \(5 runs\)", lines[0])
    found = [re.fullmatch(r"class +(\d+)  ([\d.]+)", line).groups() for line in lines[1:]]  # type: ignore[union-attr]
    shares = np.exp(expected[0].astype(np.float64)) / np.exp(expected[0].astype(np.float64)).sum()
    assert [int(best) for best, _ in found] == np.argsort(-expected[0])[:5].tolist()
    np.testing.assert_allclose([float(share) for _, share in found], np.sort(shares)[::-1][:5], atol=1e-6)
    piped = subprocess.run([program, "-"], input=image.read_bytes(), capture_output=True, check=True).stdout
    assert piped.decode().splitlines() == lines[1:]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "tiny_phi0: IMAGE: missing"),
        (["--threads"], 2, "tiny_phi0: --threads: expected a number after it"),
        (["--threads", "0", "x"], 2, "tiny_phi0: --threads: expected from 1 to 1024"),
        (["--runs", "many", "x"], 2, "tiny_phi0: --runs: expected from 0 to 1000000"),
        (["--fast", "x"], 2, "tiny_phi0: --fast: unknown option"),
        (["a", "b", "c"], 2, "tiny_phi0: c: expected an image and a file for its outputs, nothing more"),
        (["absent"], 1, "tiny_phi0: absent: No such file or directory"),
        (["/dev/null"], 1, "tiny_phi0: /dev/null: expected 12288 bytes: 1 x 3 x 32 x 32 float32"),
        (["/dev/zero"], 1, "tiny_phi0: /dev/zero: expected 12288 bytes: 1 x 3 x 32 x 32 float32"),
    ],
)
def test_program_refuses(words: list[str], status: int, message: str, tiny: Made) -> None:
    done = subprocess.run([tiny.bundle / tiny.name, *words], capture_output=True, text=True, cwd="/")
    assert done.returncode == status and done.stderr.splitlines()[0] == message
    assert ("usage:" in done.stderr) == (status == 2)


def test_program_whose_logits_cannot_be_written(tiny: Made, tmp_path: Path) -> None:
    for target in (tmp_path / "no" / "logits", Path("/dev/full")):
        command = [tiny.bundle / tiny.name, tiny.image(tmp_path), target]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and str(target) in done.stderr
