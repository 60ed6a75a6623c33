"""The examples do what they say: each is run as its reader would run it."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import seal
from pictures import encoded, pixels, write_picture
from PIL import Image

import effgen

EXAMPLES = Path(__file__).parents[2] / "examples"

#: More than anything here takes on a busy machine; a test that waits so long has failed.
PATIENCE_S = 600


def script(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLES / "classify.py", *words]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=PATIENCE_S)


def test_script(tiny_bundle: Path, tmp_path: Path) -> None:
    images = [write_picture(tmp_path / f"{seed}.png", seed) for seed in range(2)]
    done = script(tiny_bundle, *images)
    assert (done.returncode, done.stderr) == (0, "")
    model = effgen.load(tiny_bundle)
    expected = [f"{model.manifest.name}, {model.threads} threads"]
    for image in images:
        expected += [str(image), *(f"{p.probability:8.2%}  {p.label}" for p in model.classify(image))]
    assert done.stdout.splitlines() == expected


def test_script_without_arguments_or_a_picture(tiny_bundle: Path, tmp_path: Path) -> None:
    assert "python examples/classify.py BUNDLE IMAGE..." in script().stderr
    done = script(tiny_bundle, tmp_path / "none.png")
    assert (done.returncode, done.stderr) == (
        1,
        f"error: {tmp_path}/none.png: cannot be read: No such file or directory\n",
    )


@pytest.fixture(scope="module")
def service(tiny_bundle: Path) -> Iterator[int]:
    """The port of a service of the tiny network."""
    with serving(tiny_bundle) as port:
        yield port


@contextmanager
def serving(bundle: Path, *options: str) -> Iterator[int]:
    """The service's port; afterwards it must end well."""
    pytest.importorskip("starlette", reason="serves")
    command = [sys.executable, str(EXAMPLES / "service" / "service.py"), str(bundle), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    said: list[str] = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                yield int(found[1])
                break
        process.send_signal(signal.SIGTERM)
        said.append(process.communicate(timeout=PATIENCE_S)[1])
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in "".join(said), "".join(said)
    assert "Finished server process" in said[-1], "".join(said)


def ask(port: int, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """Status and JSON of a GET, or of a POST where there is a body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def expected(bundle: Path, picture: Any, top: int = 5) -> list[dict[str, Any]]:
    found = effgen.load(bundle).classify(picture, top)
    return [{"index": p.index, "label": p.label, "probability": p.probability} for p in found]


def test_health(service: int) -> None:
    status, facts = ask(service, "/health")
    assert status == 200
    network = {"model": "tiny phi=0", "classes": 10, "image": [3, 32, 32], "batch": 1, "output": "logits"}
    assert facts == {"status": "ok", **network}


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_classify(service: int, tiny_bundle: Path, format: str) -> None:
    picture = encoded(pixels(), format)
    assert ask(service, "/classify", picture) == (200, {"predictions": expected(tiny_bundle, picture)})
    assert ask(service, "/classify?top=2", picture) == (200, {"predictions": expected(tiny_bundle, picture, 2)})


@pytest.mark.parametrize(
    ("body", "query", "message"),
    [
        (b"", "", "image: empty"),
        (b"hello", "", "image: not a picture"),
        (encoded(pixels())[:500], "", "image: damaged"),
        (encoded(pixels()), "?top=0", "top: expected a whole number from 1 to 10"),
        (encoded(pixels()), "?top=²", "top: expected"),
        (encoded(pixels()), "?top=11", "top: expected"),
    ],
)
def test_bad_requests(service: int, body: bytes, query: str, message: str) -> None:
    status, answer = ask(service, "/classify" + query.replace("²", "%C2%B2"), body)
    assert status == 400 and answer.keys() == {"error"}
    assert answer["error"].startswith(message) and "\n" not in answer["error"]


def test_forms_other_methods_and_other_paths(service: int) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert ask(service, "/classify", b"--x--", **form) == (
        400,
        {"error": "a form: expected the picture's bytes as the body"},
    )
    assert ask(service, "/classify") == (405, {"error": "Method Not Allowed"})
    assert ask(service, "/other") == (404, {"error": "Not Found"})


def test_too_many_pixels_in_few_bytes(service: int) -> None:
    bomb = encoded(Image.new("1", (12_000, 6_000)), "PNG")
    assert len(bomb) < 100_000
    assert ask(service, "/classify", bomb) == (400, {"error": "image: too many pixels; make it smaller first"})


def test_too_large_as_announced(service: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service, timeout=PATIENCE_S)
    connection.putrequest("POST", "/classify")
    connection.putheader("Content-Length", str(2**40))
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())) == (413, {"error": "expected at most 16777216 bytes"})
    connection.close()


def test_too_large_without_saying(service: int) -> None:
    chunks = [bytes(2**20)] * 16 + [b"x"]
    connection = http.client.HTTPConnection("127.0.0.1", service, timeout=PATIENCE_S)
    connection.request("POST", "/classify", iter(chunks), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().status == 413
    connection.close()
    assert ask(service, "/health")[0] == 200


def test_client_that_goes_away(service: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service, timeout=PATIENCE_S)
    connection.putrequest("POST", "/classify")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"half")
    connection.close()
    assert ask(service, "/health")[0] == 200


def test_many_at_once(service: int, tiny_bundle: Path) -> None:
    pictures = [encoded(pixels(seed=seed)) for seed in range(6)] + [b"no picture"]
    right = [(200, {"predictions": expected(tiny_bundle, picture, 10)}) for picture in pictures[:-1]]
    right.append((400, ask(service, "/classify", pictures[-1])[1]))
    order = np.random.default_rng(0).integers(0, 7, 120)
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda index: ask(service, "/classify?top=10", pictures[index]), order))
    assert all(answer == right[index] for answer, index in zip(answers, order, strict=True))


def slow_clients(port: int, count: int) -> list[http.client.HTTPConnection]:
    """So many that have sent a request's head, and do not send the picture."""
    clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S) for _ in range(count)]
    for client in clients:
        client.putrequest("POST", "/classify")
        client.putheader("Content-Length", "1000")
        client.endheaders(b"half")
    return clients


def test_slow_clients_keep_nobody_out(service: int, tiny_bundle: Path) -> None:
    """Twice as many as there is room for: others are served while they are there, and the first of them have gone."""
    picture = encoded(pixels())
    slow = slow_clients(service, 128)
    for _ in range(3):
        assert ask(service, "/classify", picture) == (200, {"predictions": expected(tiny_bundle, picture)})
    assert ask(service, "/health")[0] == 200
    response = slow[0].getresponse()
    assert (response.status, json.loads(response.read())) == (408, {"error": "the picture took too long to arrive"})
    for client in slow:
        client.close()


def test_slow_clients_are_dropped(tiny_bundle: Path) -> None:
    """Those whose picture does not come are told, those whose head does not are cut off, before and after a request."""
    with serving(tiny_bundle, "--patience", "0.5") as port:
        (without_picture,) = slow_clients(port, 1)
        silent, in_the_head = (socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) for _ in range(2))
        in_the_head.sendall(b"GET /health HTTP/1.1\r\nHost:")
        assert without_picture.getresponse().status == 408
        assert silent.recv(1) == in_the_head.recv(1) == b""
        second = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        second.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /he")
        received = b"".join(iter(lambda: second.recv(4096), b""))
        assert received.startswith(b"HTTP/1.1 200") and received.count(b"HTTP/1.1") == 1
        for client in (without_picture, silent, in_the_head, second):
            client.close()


def test_idle_connections_are_no_pictures(service: int) -> None:
    idle = [socket.create_connection(("127.0.0.1", service), timeout=PATIENCE_S) for _ in range(100)]
    assert ask(service, "/classify", encoded(pixels()))[0] == 200
    for connection in idle:
        connection.close()


def test_bundle_that_fails(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    size = (bundle / "weights.bin").stat().st_size
    (bundle / "weights.bin").write_bytes(np.full(size // 4, np.nan, np.float32).tobytes())
    seal(bundle)
    with serving(bundle) as port:
        status, answer = ask(port, "/classify", encoded(pixels()))
        assert ask(port, "/health")[0] == 200
    assert status == 500 and answer.keys() == {"error"}
    assert answer["error"].startswith("tiny phi=0: the output is not finite") and "\n" not in answer["error"]


def test_service_without_a_bundle(tmp_path: Path) -> None:
    pytest.importorskip("starlette", reason="serves")
    command = [sys.executable, str(EXAMPLES / "service" / "service.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {tmp_path}: no bundle here")
