"""SHA-256 of native/, by the processor's instructions and without them, beside Python's."""

import hashlib
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"

#: Reads standard input in pieces of a given size; prints both hashes.
PROGRAM = """
#include <cstdio>
#include <cstdlib>
#include <string>

#include "sha256.h"

int main(int, char** words) {
  std::string data(std::strtoul(words[1], nullptr, 10), '\\0');
  effgen::Sha256 portable(effgen::Sha256::portable), fastest;
  while (std::size_t count = std::fread(data.data(), 1, data.size(), stdin)) {
    portable.update(std::string_view(data).substr(0, count));
    fastest.update(std::string_view(data).substr(0, count));
  }
  std::printf("%s %s %d\\n", portable.digest().c_str(), fastest.digest().c_str(),
              effgen::Sha256::fastest() != effgen::Sha256::portable);
}
"""

# FIPS 180-4's own examples (NIST's "Examples with Intermediate Values"), and the empty message.
VECTORS = [
    (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    ),
    (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
]


def build(folder: Path, compiler: str, *options: str) -> Path:
    (folder / "main.cc").write_text(PROGRAM)
    sources = [folder / "main.cc", NATIVE / "sha256.cc"]
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", f"-I{NATIVE}", *options]
    subprocess.run([compiler, *flags, *sources, "-o", folder / "hash"], check=True)
    return folder / "hash"


@pytest.fixture(scope="module")
def hashes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., set[str]]:
    """Both hashes of some data that comes in pieces."""
    program = build(tmp_path_factory.mktemp("sha256"), "c++", "-fsanitize=address,undefined")

    def call(data: bytes, piece: int = 4096) -> set[str]:
        done = subprocess.run([program, str(piece)], input=data, capture_output=True, check=True)
        portable, fastest, _ = done.stdout.decode().split()
        return {portable, fastest}

    return call


@pytest.mark.parametrize(("message", "expected"), VECTORS, ids=["abc", "two blocks", "empty", "million"])
def test_published_vectors(hashes: Callable[..., set[str]], message: bytes, expected: str) -> None:
    assert hashes(message) == {expected}


@pytest.mark.parametrize("size", [1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000, 65_537])
def test_sizes_around_the_padding(hashes: Callable[..., set[str]], size: int) -> None:
    data = bytes(index * 7 % 251 for index in range(size))
    assert hashes(data) == {hashlib.sha256(data).hexdigest()}


@pytest.mark.parametrize("piece", [1, 3, 55, 63, 64, 65, 127, 1000])
def test_pieces_of_any_size(hashes: Callable[..., set[str]], piece: int) -> None:
    data = bytes(index * 7 % 251 for index in range(3_333))
    assert hashes(data, piece) == {hashlib.sha256(data).hexdigest()}


@pytest.mark.arm
@pytest.mark.parametrize("cpu", ["max", "cortex-a53"])
def test_on_arm(tmp_path: Path, cpu: str) -> None:
    program = build(tmp_path, "aarch64-linux-gnu-g++", "-static")
    emulated = program if platform.machine() == "aarch64" else ["qemu-aarch64-static", "-cpu", cpu, program]
    for message, expected in VECTORS:
        done = subprocess.run([*emulated, "1000"], input=message, capture_output=True, check=True)
        portable, fastest, instructions = done.stdout.decode().split()
        assert (portable, fastest, instructions) == (expected, expected, "1")
