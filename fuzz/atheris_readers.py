"""One reader, fed by atheris for a while: `python fuzz/atheris_readers.py KIND CORPUS [options of libFuzzer]`.

The corpus begins as inputs of `readers.py`; coverage of effgen's own code leads from there.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["effgen"]):
    from readers import KINDS, folder_of, input_of

from effgen.errors import EffgenError

#: How many inputs a corpus that is empty begins with.
_SEEDS = 64


def main() -> None:
    kind, corpus = sys.argv[1], Path(sys.argv[2])
    warnings.simplefilter("ignore")
    with contextlib.ExitStack() as stack:
        # Readers import what they need when they are called: all that they do here is instrumented.
        with atheris.instrument_imports(include=["effgen"]):
            folder = stack.enter_context(folder_of(kind))
            _fill(corpus, kind)
            for seed in sorted(corpus.iterdir())[:_SEEDS]:
                _read(kind, folder, seed.read_bytes())
        atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: _read(kind, folder, data))
        with contextlib.suppress(SystemExit):
            atheris.Fuzz()
    os._exit(0)


def _fill(corpus: Path, kind: str) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        for number in range(_SEEDS):
            (corpus / f"seed{number:03d}").write_bytes(input_of(kind, 0, number))


def _read(kind: str, folder: Path, data: bytes) -> None:
    path = folder / f"input{KINDS[kind].suffix}"
    path.write_bytes(data)
    with contextlib.suppress(EffgenError):
        KINDS[kind].read(path)


if __name__ == "__main__":
    main()
