"""The fuzzing harnesses of what is C and C++ (fuzz/native) with their seeds and some changed copies of them, under the
address and undefined behaviour sanitizers. `make fuzz` lets libFuzzer look for more."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "fuzz" / "native"
_spec = importlib.util.spec_from_file_location("harnesses", FOLDER / "harnesses.py")
assert _spec is not None and _spec.loader is not None
harnesses = importlib.util.module_from_spec(_spec)
sys.modules["harnesses"] = harnesses
_spec.loader.exec_module(harnesses)


@pytest.mark.parametrize("name", list(harnesses.HARNESSES))
def test_seeds_and_changes(name: str, tmp_path: Path) -> None:
    program = harnesses.build(name, tmp_path)
    seeds = harnesses.write_seeds(name, tmp_path / "seeds")
    done = subprocess.run([program, "300", *seeds], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{300 + len(seeds)} inputs\n"


def test_the_harness_can_see_an_error(tmp_path: Path) -> None:
    """A reader that looks one byte behind its input is caught."""
    broken = tmp_path / "broken.cc"
    broken.write_text(
        "#include <cstddef>\n#include <cstdint>\n"
        'extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {\n'
        "  volatile std::uint8_t last = data[size];\n  return last * 0;\n}\n"
    )
    program, seed = tmp_path / "broken", tmp_path / "seed"
    seed.write_text("seed")
    flags = ["-std=c++17", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["c++", *flags, broken, FOLDER / "mutate.cc", "-o", program], check=True)
    done = subprocess.run([program, "1", seed], capture_output=True, text=True)
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr
