"""Who made a pack: SHA256SUMS, which lists every other file with its hash, signed by Ed25519 (RFC 8032).

Keys are PEM files as OpenSSL writes them:

    openssl genpkey -algorithm ed25519 -out key.pem         # keep it to yourself: who has it signs as you
    openssl pkey -in key.pem -pubout -out key.pub.pem       # give it to who unpacks

The signature is 64 bytes beside SHA256SUMS, as `openssl pkeyutl -verify -rawin` takes it. The arithmetic is that of the
package cryptography, OpenSSL's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from effgen.errors import BuildError, BundleError
from effgen.files.bounded import UnreadableError, read_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: The file beside SHA256SUMS.
SIGNATURE = "SHA256SUMS.sig"

#: Bytes of a PEM file: of Ed25519 it has about a hundred.
_MOST_KEY_BYTES = 64 << 10

_MAKE = "openssl genpkey -algorithm ed25519 -out key.pem"
_MAKE_PUBLIC = "openssl pkey -in key.pem -pubout -out key.pub.pem"


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The key that `effgen pack --sign` is given. Raises BuildError: no such key, one with a password, or the package
    that signs is not installed."""
    _check_installed("--sign", path)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _content("--sign", path)
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        raise BuildError(f"--sign {path}: is protected by a password: expected one without; {_MAKE}") from None
    except (ValueError, UnsupportedAlgorithm):
        found = "a public key" if b"PUBLIC KEY" in data else "no private key in PEM"
        raise BuildError(f"--sign {path}: is {found}: expected a private one of Ed25519; {_MAKE}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BuildError(f"--sign {path}: is a key of another algorithm: expected Ed25519; {_MAKE}")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The key that `effgen unpack --key` is given. Raises BuildError as `read_private_key` does."""
    _check_installed("--key", path)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _content("--key", path)
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        found = "a private key" if b"PRIVATE KEY" in data else "no public key in PEM"
        raise BuildError(f"--key {path}: is {found}: expected a public one of Ed25519; {_MAKE_PUBLIC}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise BuildError(f"--key {path}: is a key of another algorithm: expected Ed25519; {_MAKE_PUBLIC}")
    return key


def check_signature(key: Ed25519PublicKey, signed: Path, signature: Path, named: Path) -> None:
    """Raise BundleError where `signature` is not that of the file `signed` by the owner of `key`, which was read from
    `named`."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature.read_bytes(), signed.read_bytes())
    except FileNotFoundError:
        raise BundleError(
            f"{signed.parent}: is not signed; leave --key out if you trust where it comes from, or have it packed with "
            "--sign"
        ) from None
    except InvalidSignature:
        raise BundleError(
            f"{signature}: was not made by the key whose public half is {named}, or the archive was changed since; "
            "nothing was unpacked"
        ) from None


def _content(option: str, path: Path) -> bytes:
    try:
        return read_bytes(path, _MOST_KEY_BYTES)
    except UnreadableError as error:
        raise BuildError(f"{option} {path}: cannot be read: {error}") from None


def _check_installed(option: str, path: Path) -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise BuildError(f"{option} {path}: needs the package cryptography: pip install 'effgen[sign]'") from None
