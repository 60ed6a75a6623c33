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
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        for number in range(_SEEDS):
            (corpus / f"seed{number:03d}").write_bytes(input_of(kind, 0, number))
    warnings.simplefilter("ignore")
    # libFuzzer ends the process without a word to Python: the folder of the run before goes first.
    with folder_of(kind) as folder:
        path = folder / f"input{KINDS[kind].suffix}"

        def read(data: bytes) -> None:
            path.write_bytes(data)
            with contextlib.suppress(EffgenError):
                KINDS[kind].read(path)

        with atheris.instrument_imports(include=["effgen"]):  # readers import what they need when they are called
            for seed in sorted(corpus.iterdir())[:_SEEDS]:
                read(seed.read_bytes())
        atheris.Setup([sys.argv[0], *sys.argv[2:]], read)
        with contextlib.suppress(SystemExit):
            atheris.Fuzz()
    os._exit(0)


if __name__ == "__main__":
    main()
