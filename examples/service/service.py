"""A web service that says what is in a picture.

    pip install 'effgen[service]'
    python examples/service/service.py build/b0 --port 8000
    curl --data-binary @cat.jpg 'http://127.0.0.1:8000/classify?top=3'

POST /classify: the body is a picture's bytes; GET /health. Answers and errors are JSON. As many pictures at once as the
bundle has threads; the models that look at them share one copy of the weights.
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

import effgen
from effgen.errors import EffgenError, ImageError
from effgen.runtime import LoadedModel

MOST_BYTES = 16 * 2**20
#: Pillow refuses pictures of twice as many: a few kilobytes can be gigabytes of pixels.
MOST_PIXELS = 32_000_000
#: Pictures that may be on their way at the same time; more are answered with 503.
MOST_REQUESTS = 64
#: Connections, the idle ones too, from which on uvicorn answers 503 by itself, in plain text.
MOST_CONNECTIONS = 8 * MOST_REQUESTS

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


def make_app(model: LoadedModel) -> Starlette:
    """The service for a loaded model."""
    classifier = Classifier(model)
    batch, channels, height, width = model.manifest.input["shape"]
    classes = model.classes
    room = asyncio.Semaphore(MOST_REQUESTS)

    async def health(request: Request) -> Response:
        facts = {"model": model.manifest.name, "classes": classes, "image": [channels, height, width], "batch": batch}
        facts["output"] = model.manifest.output_kind
        return JSONResponse({"status": "ok", **facts})

    async def classify(request: Request) -> Response:
        if room.locked():
            headers = {"connection": "close", "retry-after": "1"}  # closed: the picture is not read
            raise HTTPException(503, f"busy with {MOST_REQUESTS} pictures; ask again later", headers)
        async with room:
            top = _top(request.query_params.get("top", "5"), classes)
            return JSONResponse({"predictions": await classifier(await _body(request), top)})

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
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: one that is free")
    parser.add_argument("--threads", type=int, help="pictures at once; default: the bundle's threads")
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
    uvicorn.run(make_app(model), host=options.host, port=options.port, limit_concurrency=MOST_CONNECTIONS)


if __name__ == "__main__":
    main()
