"""A PostgreSQL server of the tests' own, from Debian's package: on a free port, with a password, gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import free_port

USER, PASSWORD = "effgen", "pass/word"


@dataclass(frozen=True)
class PostgresServer:
    """Where it listens."""

    port: int

    def url(self, password: str = "pass%2Fword", database: str = "postgres") -> str:
        """A URL as users write it, the password percent-encoded."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`, which Debian keeps out of the PATH; None where the package is missing."""
    found = [Path(path).parent for path in (shutil.which("initdb"),) if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(found) if (folder / "initdb").is_file()), None)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start one; it ends with the block. The server refuses to run as root: then it runs as Debian's user of it."""
    folder = programs()
    assert folder is not None
    user = "postgres" if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="effgen-postgres-"))
    try:
        secret = home / "password"
        secret.write_text(PASSWORD)
        if user is not None:
            shutil.chown(home, user)
            shutil.chown(secret, user)
        server = PostgresServer(free_port())

        def call(*words: str | Path) -> None:
            subprocess.run(
                [folder / words[0], *words[1:]], user=user, cwd=home, check=True, capture_output=True, timeout=600
            )

        data = home / "data"
        access = ("-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}")
        call("initdb", "-D", data, "--no-sync", "-E", "UTF8", "--locale=C", *access)
        options = f"-p {server.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c fsync=off"
        call("pg_ctl", "-D", data, "-w", "-l", home / "log", "-o", options, "start")
        try:
            yield server
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)
