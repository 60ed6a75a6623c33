"""`effgen device`: what runs on the machines that are measured through TVM's RPC."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from effgen.files.terminal import terminal_text

app = typer.Typer(help="Serve this machine for effgen tune --measure rpc.", no_args_is_help=True)

HostOption = Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is every one.")]


@app.command()
def serve(
    key: Annotated[str, typer.Option(help="The kind of device: what effgen tune --rpc-key asks for.")],
    tracker: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The tracker that hands this device out.")
    ] = None,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 9090,
) -> None:
    """Offer this machine to effgen tune, until Ctrl-C."""
    from effgen.measure.routes import tracker_from_text
    from effgen.measure.serve import serve_device

    address = None if tracker is None else tracker_from_text("--tracker", tracker)
    _warn(host)
    serve_device(key, address, host, port, lambda where: _say(f"serving {key} on {where}"), _say)
    _ended()


@app.command()
def tracker(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 9190,
) -> None:
    """Know the devices and hand out the free ones, until Ctrl-C."""
    from effgen.measure.serve import serve_tracker

    _warn(host)
    serve_tracker(host, port, lambda where: _say(f"tracker on {where}"))
    _ended()


def _warn(host: str) -> None:
    from effgen.measure.serve import is_loopback

    line = "TVM's RPC has no authentication: whoever reaches the port runs code here as this user"
    if not is_loopback(host):
        line = f"ANYONE who reaches {host} can run any code here as this user: {line}; only in a network you trust"
    _say(f"warning: {line}")


def _say(line: str) -> None:
    print(terminal_text(line), file=sys.stderr, flush=True)


def _ended() -> NoReturn:
    raise AssertionError("a server ends by a signal only")
