"""The command line: parse, call one function, print. What a command does is in the module that it calls.

Nothing heavy is imported before a command runs: `effgen --help` answers at once.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from effgen.cli import (
    bench,
    calibrate,
    compare,
    compile,
    device,
    dimensions,
    doctor,
    eval,
    export,
    fit,
    inspect,
    pack,
    quantize,
    run,
    search,
    targets,
    train,
    tune,
    verify,
)
from effgen.cli.signals import received_signals, status_for, word_for
from effgen.errors import EffgenError
from effgen.files.exhausted import exhaustion
from effgen.files.standard_output import checked_standard_output
from effgen.files.terminal import error_line

app = typer.Typer(
    name="effgen",
    help="Scaled ConvNets compiled to fast, verified native libraries: spec + phi -> ONNX -> TVM -> bundle.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(inspect.inspect)
app.command()(dimensions.dimensions)
app.command()(fit.fit)
app.command()(export.export)
app.command()(quantize.quantize)
app.command()(train.train)
app.command()(tune.tune)
app.command()(calibrate.calibrate)
app.command("compile")(compile.compile_)
app.command()(verify.verify)
app.command("eval")(eval.eval_)
app.command()(run.run)
app.command()(bench.bench)
app.command(cls=compare.SeveralBaselines)(compare.compare)
app.command()(pack.pack)
app.command()(pack.unpack)
app.command()(targets.targets)
app.command()(doctor.doctor)
app.add_typer(device.app, name="device")
app.add_typer(search.app, name="search")


def _print_version(asked: bool) -> None:
    if asked:
        from effgen.version import __version__

        typer.echo(f"effgen {__version__}")
        raise typer.Exit


@app.callback()
def _effgen(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: a user's error, or what the machine has run out of, is one line and exit status 1 (3 for a miss),
    Ctrl-C one line and 130."""
    with received_signals() as received:
        try:
            with checked_standard_output():
                app(prog_name="effgen")
        except BaseException as error:
            if received:
                _fail(word_for(received[0]), status_for(received[0]))
            if isinstance(error, EffgenError):
                _fail(error_line("error", error), error.exit_code)
            if missing := exhaustion(error):
                _fail(error_line("error", EffgenError(missing)), EffgenError.exit_code)
            raise


def _fail(line: str, status: int) -> NoReturn:
    with suppress(OSError):  # a full disk there as well: the status says it
        print(line, file=sys.stderr, flush=True)
    raise SystemExit(status) from None
