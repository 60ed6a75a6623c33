"""A web service that says what is in a picture.

    pip install '.[service]'
    python examples/service/service.py build/b0 --port 8000
    curl --data-binary @cat.jpg 'http://127.0.0.1:8000/classify?top=3'

POST /classify: the body is a picture's bytes; GET /health. Answers and errors are JSON. As many pictures at once as the
bundle has threads; the models that look at them share one copy of the weights.

Slow clients keep nobody out: a request must be there within `--patience` seconds, its head and then its body, else the
client is dropped; and where too many pictures are on their way, the one that has taken longest is.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

import effgen
from effgen.errors import EffgenError, ImageError
from effgen.runtime import LoadedModel

MOST_BYTES = 16 * 2**20
#: Pillow refuses pictures of twice as many: a few kilobytes can be gigabytes of pixels.
MOST_PIXELS = 32_000_000
#: Pictures that may be on their way at the same time: beyond it the slowest is dropped. As many may wait for a thread:
#: more are answered with 503.
MOST_REQUESTS = 64
#: Connections, the idle ones too, from which on uvicorn answers 503 by itself, in plain text.
MOST_CONNECTIONS = 8 * MOST_REQUESTS
#: Seconds for a request's head, and then for its body.
PATIENCE_S = 10.0

LOG = logging.getLogger("uvicorn.error")


class Classifier:
    """A thread for each of the model's threads, each with a twin of the model."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self._mine = threading.local()
        self._pool = ThreadPoolExecutor(model.threads, initializer=self._begin)

    def _begin(self) -> None:
        self._mine.model = self.model.twin(threads=1)

    def _classify(self, picture: bytes, top: int) -> list[dict[str, Any]]:
        return [asdict(found) for found in self._mine.model.classify(picture, top)]

    async def __call__(self, picture: bytes, top: int) -> list[dict[str, Any]]:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._classify, picture, top)

    def close(self) -> None:
        """Let the running ones end."""
        self._pool.shutdown(cancel_futures=True)


class Arrivals:
    """Bodies of requests on their way, the one that has taken longest first."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._limits: dict[asyncio.Timeout, None] = {}

    async def body(self, request: Request) -> bytes:
        """The request's, in time; 408 where it takes too long, or too many others want to come in."""
        try:
            async with asyncio.timeout(self._patience_s) as limit:
                if len(self._limits) >= MOST_REQUESTS:
                    self._drop(next(iter(self._limits)))
                self._limits[limit] = None
                try:
                    return await _body(request)
                finally:
                    self._limits.pop(limit, None)
        except TimeoutError:
            raise HTTPException(408, "the picture took too long to arrive", {"connection": "close"}) from None

    def _drop(self, limit: asyncio.Timeout) -> None:
        del self._limits[limit]
        limit.reschedule(asyncio.get_running_loop().time())


class ImpatientProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, but for clients whose request's head does not come within `patience_s`."""

    patience_s = PATIENCE_S
    _head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:  # a head has come
            self._stop_waiting()

    def on_response_complete(self) -> None:
        self._await_head()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._stop_waiting()
        self._head_due = self.loop.call_later(self.patience_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
        self._head_due = None


def make_app(model: LoadedModel, patience_s: float = PATIENCE_S) -> Starlette:
    """The service for a loaded model."""
    classifier = Classifier(model)
    arrivals = Arrivals(patience_s)
    batch, channels, height, width = model.manifest.input["shape"]
    classes = model.classes
    room = asyncio.Semaphore(MOST_REQUESTS)

    async def health(request: Request) -> Response:
        facts = {"model": model.manifest.name, "classes": classes, "image": [channels, height, width], "batch": batch}
        facts["output"] = model.manifest.output_kind
        return JSONResponse({"status": "ok", **facts})

    async def classify(request: Request) -> Response:
        top = _top(request.query_params.get("top", "5"), classes)
        picture = await arrivals.body(request)
        if room.locked():
            raise HTTPException(503, f"busy with {MOST_REQUESTS} pictures; ask again later", {"retry-after": "1"})
        async with room:
            return JSONResponse({"predictions": await classifier(picture, top)})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        classifier.close()

    routes = [Route("/health", health), Route("/classify", classify, methods=["POST"])]
    handlers: dict[Any, Any] = {
        HTTPException: _refused,
        ImageError: _no_picture,
        EffgenError: _failed,
        ClientDisconnect: _gone,
    }
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


def _top(text: str, classes: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= classes):
        raise HTTPException(400, f"top: expected a whole number from 1 to {classes}")
    return int(text)


async def _body(request: Request) -> bytes:
    """The request's body, read no further than it may be long."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise HTTPException(400, "a form: expected the picture's bytes as the body")
    too_large = HTTPException(413, f"expected at most {MOST_BYTES} bytes", {"connection": "close"})
    if int(request.headers.get("content-length", 0)) > MOST_BYTES:  # the server has checked that it is a number
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise too_large
    return bytes(body)


async def _refused(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _no_picture(request: Request, error: ImageError) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _failed(request: Request, error: EffgenError) -> Response:
    LOG.error("%s", error)
    return JSONResponse({"error": str(error)}, 500)


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody reads it


def main() -> None:
    """Serve the bundle until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="a directory that effgen compile wrote")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; default: this machine alone")
    parser.add_argument(
        "--port", type=int, choices=range(2**16), metavar="PORT", default=8000, help="0: one that is free"
    )
    parser.add_argument("--threads", type=int, help="pictures at once; default: the bundle's threads")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="seconds for a request to arrive")
    options = parser.parse_args()
    try:
        model = effgen.load(options.bundle, options.threads)
        model.preparation  # noqa: B018  # says now, not to the first client, where pictures cannot be prepared
        model.refuse_others()  # and where it is no classifier
    except EffgenError as error:
        sys.exit(f"error: {error}")
    if not isinstance(model, LoadedModel):
        sys.exit(f"error: {options.bundle}: this example serves bundles for CPUs")
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    ImpatientProtocol.patience_s = options.patience
    uvicorn.run(
        make_app(model, options.patience),
        host=options.host,
        port=options.port,
        limit_concurrency=MOST_CONNECTIONS,
        http=ImpatientProtocol,
    )


if __name__ == "__main__":
    main()
