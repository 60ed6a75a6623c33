"""Archives that are signed: by whom is checked before anything of them is looked at."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from packing import TOP, refused, verify
from sharing import made_once

from effgen.deploy.archive import write_archive
from effgen.deploy.pack import PackRequest, pack_bundle
from effgen.deploy.unpack import unpack_archive
from effgen.errors import BuildError, BundleError


def private_pem(key: Any, encryption: KeySerializationEncryption | None = None) -> bytes:
    found: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return found


def public_pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


def new_keys(folder: Path, key: Any = None) -> Path:
    """`key.pem` and `key.pub.pem` in the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    key = key or Ed25519PrivateKey.generate()
    (folder / "key.pem").write_bytes(private_pem(key))
    (folder / "key.pub.pem").write_bytes(public_pem(key))
    return folder


@pytest.fixture(scope="session")
def signed(tiny_bundle: Path, runner_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny bundle's archive, signed, and the keys."""

    def make(folder: Path) -> None:
        new_keys(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(runner_cache))
            request = PackRequest(tiny_bundle, output=folder / "tiny.tar.gz", sign=folder / "key.pem")
            assert pack_bundle(request).signed

    return made_once(tmp_path_factory, "signed", make)


@pytest.fixture
def board(signed: Path, tmp_path: Path) -> Path:
    """The archive unpacked by tar."""
    (tmp_path / "a board").mkdir()
    subprocess.run(["tar", "-xzf", signed / "tiny.tar.gz", "-C", tmp_path / "a board"], check=True)
    return tmp_path / "a board" / TOP


def test_unpacked_by_its_key(signed: Path, tmp_path: Path) -> None:
    key = signed / "key.pub.pem"
    unpacked = unpack_archive(signed / "tiny.tar.gz", tmp_path / "out", key=key)
    assert unpacked.signed and unpacked.checked_by == key
    without = unpack_archive(signed / "tiny.tar.gz", tmp_path / "other")
    assert without.signed and without.checked_by is None


def test_anothers_key(signed: Path, tmp_path: Path) -> None:
    other = new_keys(tmp_path / "other") / "key.pub.pem"
    with pytest.raises(BundleError, match=r"SHA256SUMS\.sig: was not made by the key whose public half is") as caught:
        unpack_archive(signed / "tiny.tar.gz", tmp_path / "out", key=other)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_archive_that_is_not_signed(packed: Path, signed: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not signed; leave --key out"):
        unpack_archive(packed, tmp_path / "out", key=signed / "key.pub.pem")
    assert not (tmp_path / "out").exists()


def test_archive_that_was_changed_with_its_sums(signed: Path, board: Path, tmp_path: Path) -> None:
    """Whoever changes a file can make SHA256SUMS agree, and has no key."""
    (board / "README.txt").write_text("changed")
    sums = board / "SHA256SUMS"
    names = [line.split("  ")[1] for line in sums.read_text().splitlines()]
    done = subprocess.run(["sha256sum", *names], cwd=board, capture_output=True, text=True, check=True)
    sums.write_text(done.stdout)
    files = {str(file.relative_to(board)): file for file in board.rglob("*") if file.is_file()}
    write_archive(tmp_path / "again.tar.gz", TOP, files, frozenset({"verify", "runtime/effgen-run"}))
    with pytest.raises(BundleError, match="was not made by the key"):
        unpack_archive(tmp_path / "again.tar.gz", tmp_path / "out", key=signed / "key.pub.pem")
    refused(board, "SHA256SUMS.sig: not made by the key of", env={"EFFGEN_KEY": str(signed / "key.pub.pem"), **PATH})


PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


def test_verify_by_openssl(signed: Path, board: Path, tmp_path: Path) -> None:
    done = verify(board, "--runs", 0, env={"EFFGEN_KEY": "key.pub.pem", **PATH}, cwd=signed)
    assert done.returncode == 0, done.stderr
    other = new_keys(tmp_path / "other") / "key.pub.pem"
    refused(board, f"not made by the key of {other} (EFFGEN_KEY)", env={"EFFGEN_KEY": str(other), **PATH})
    refused(board, "not made by the key of", env={"EFFGEN_KEY": str(tmp_path / "none"), **PATH})
    (board / "SHA256SUMS.sig").unlink()
    refused(board, "missing: the archive is not signed", env={"EFFGEN_KEY": str(other), **PATH})
    assert verify(board, "--runs", 0, env=PATH).returncode == 0  # nobody asked


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is no private key in PEM: expected a private one of Ed25519; openssl genpkey"),
        (b"\x00\xff" * 50_000, "cannot be read: larger than 64 KiB"),
        (public_pem(Ed25519PrivateKey.generate()), "is a public key: expected a private one"),
        (private_pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"x")), "is protected by a password"),
        (private_pem(generate_private_key(SECP256R1())), "is a key of another algorithm: expected Ed25519"),
    ],
)
def test_key_that_signs_nothing(tiny_bundle: Path, tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(BuildError, match=rf"^--sign \S+key\.pem: {message}") as caught:
        pack_bundle(PackRequest(tiny_bundle, output=tmp_path / "x.tar.gz", sign=tmp_path / "key.pem"))
    assert "\n" not in str(caught.value) and not (tmp_path / "x.tar.gz").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nothing", "is no public key in PEM: expected a public one of Ed25519; openssl pkey"),
        (private_pem(Ed25519PrivateKey.generate()), "is a private key: expected a public one"),
        (public_pem(generate_private_key(SECP256R1())), "is a key of another algorithm: expected Ed25519"),
    ],
)
def test_key_that_checks_nothing(packed: Path, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(BuildError, match=rf"^--key \S+key\.pem: {message}"):
        unpack_archive(packed, tmp_path / "out", key=tmp_path / "key.pem")


def test_package_that_is_missing(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(BuildError, match=r"needs the package cryptography: pip install 'effgen\[sign\]'"):
        pack_bundle(PackRequest(tiny_bundle, output=tmp_path / "x.tar.gz", sign=tmp_path / "key.pem"))
