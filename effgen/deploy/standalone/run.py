"""Running a standalone C library: in this process, or by its program where another machine's."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from effgen.deploy.executors import Images, emulator_of
from effgen.deploy.standalone.build import build_program
from effgen.errors import BundleError
from effgen.files.temporary import temporary_folder
from effgen.machines.programs import complaint, run_program
from effgen.runtime.answers import Answer, AnswerLayout, answer_of
from effgen.runtime.manifest import Manifest
from effgen.runtime.standalone import StandaloneModel


def standalone_answer(bundle: Path, manifest: Manifest, image: Images, threads: int | None = None) -> Answer:
    """What the library makes of one batch `(batch, channels, height, width)`: logits `(batch, classes)`, say.

    It is the shared one; for another architecture the static one, in the bundle's program or in one made for this.

    Raises BundleError where it cannot be run, BuildError where a tool that another architecture's needs is missing.
    """
    if manifest.is_foreign:
        return answer_of_program(bundle, manifest, image, threads)
    with StandaloneModel(bundle, manifest, threads) as model:
        answer: Answer = model(image)
    return answer


def answer_of_program(bundle: Path, manifest: Manifest, image: Images, threads: int | None) -> Answer:
    """By the bundle's program, or one made of its static library, under an emulator where it needs one."""
    assert manifest.standalone is not None
    emulator = emulator_of(manifest)
    with temporary_folder("standalone") as work:
        program = work / "program"
        if manifest.standalone["executable"]:
            program = bundle / manifest.standalone["executable"]
        else:
            build_program(bundle, manifest, program)
        np.ascontiguousarray(image, "<f4").tofile(work / "image.f32")
        options = [] if threads is None else ["--threads", str(threads)]
        command: list[str | Path] = [*emulator, program.absolute(), *options, work / "image.f32", work / "answer.f32"]
        done = run_program(command)
        if done.returncode != 0:
            how = f" under {Path(emulator[0]).name}" if emulator else ""
            raise BundleError(
                f"{bundle}: the standalone program{how} ended with status {done.returncode}: {complaint(done.stderr)}"
            )
        values = np.fromfile(work / "answer.f32", "<f4")
    shapes = AnswerLayout.of(manifest).shapes
    if len(values) != sum(map(prod, shapes)):
        raise BundleError(
            f"{bundle}: the standalone program answers {len(values)} numbers, the manifest says otherwise"
        )
    ends = np.cumsum([prod(shape) for shape in shapes])
    return answer_of([part.reshape(shape) for part, shape in zip(np.split(values, ends[:-1]), shapes, strict=True)])
