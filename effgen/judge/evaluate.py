"""Is the bundle right about pictures? Its classes beside the folders' and beside PyTorch's, over a whole data set.

`verify` asks whether the code computes the network; this asks what the network is worth, and what rounding it to codes
cost. Nothing is timed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effgen.deploy.executors import Executor, Images, executor_of
from effgen.errors import BundleError
from effgen.judge.case import Judge, judge_of_graph, relative_l2
from effgen.judge.labelled import LabelledFolder, Matched, open_labelled
from effgen.quantization.images import evenly
from effgen.runtime.answers import outputs_of
from effgen.runtime.classify import classes_of, refuse_nonsense
from effgen.runtime.labels import read_labels
from effgen.runtime.manifest import LABELS, MODEL, Manifest, read_manifest
from effgen.runtime.picture import Preparation, preparation_of, printable
from effgen.words import OnPhase

#: Pictures in memory at once, at least: an emulator is a process for each call.
_AT_ONCE = 32

#: The best classes that top-5 looks at.
_TOP = 5


@dataclass(frozen=True)
class EvalRequest:
    """What `effgen eval` was asked for. `images` None: all of them; `against`: the bundle of the float32 network to
    agree with, None: the bundle's own; `threads` None: what the bundle was compiled for."""

    bundle: Path
    data: Path
    images: int | None = None
    against: Path | None = None
    threads: int | None = None


@dataclass(frozen=True)
class ClassCount:
    """A class's pictures, how many of them were taken for another, and for which most often (None: for none) and how
    often."""

    index: int
    name: str
    images: int
    errors: int
    taken_for: int | None
    taken_for_name: str | None
    times: int


@dataclass(frozen=True)
class Shares:
    """Of all pictures those whose class is the best, or among the five best; `top5` is None of fewer classes."""

    top1: float
    top5: float | None


@dataclass(frozen=True)
class EvalReport:
    """`found` and `expected` are the bundle's and the reference's shares, None of pictures without classes.

    `agreement` is the share of pictures whose best class is the reference's. `rel_l2` is norm(difference) /
    norm(reference) over all outputs together, `worst_rel_l2` that of the worst picture alone; infinite where an output
    is not finite. `codes`: whether the bundle's graph holds whole-number codes. `by_class` has the classes that
    pictures are of, by number.
    """

    bundle: str
    model: str
    run_by: str
    threads: int
    reference: str
    against: str | None
    codes: bool
    classes: int
    images: int
    matched: Matched | None
    found: Shares | None
    expected: Shares | None
    agreement: float
    rel_l2: float
    worst_rel_l2: float
    worst_image: str
    by_class: tuple[ClassCount, ...]

    def worst_classes(self, most: int) -> list[ClassCount]:
        """Those with most errors, at most so many, the first number first where they have as many."""
        wrong = [one for one in self.by_class if one.errors]
        return sorted(wrong, key=lambda one: -one.errors)[:most]


@dataclass(frozen=True)
class _Seen:
    """What is kept of pictures: the best classes `(pictures, at most 5)` of the bundle and the reference, the squared
    norms `(pictures,)` of difference and reference, and each picture's relative L2 `(pictures,)`, float64."""

    found: NDArray[np.int64]
    expected: NDArray[np.int64]
    differences: NDArray[np.float64]
    norms: NDArray[np.float64]
    rel_l2: NDArray[np.float64]


@dataclass(frozen=True)
class _Reference:
    """What the bundle is to agree with, and how reports call it; `codes` speaks of the bundle's own graph."""

    judge: Judge
    name: str
    codes: bool


def evaluate_bundle(
    request: EvalRequest,
    on_phase: OnPhase = lambda phase: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> EvalReport:
    """Run the bundle and PyTorch on the folder's pictures, prepared as the bundle says, and count.

    Raises BundleError where a bundle cannot be loaded, is no classifier of pictures or not of the same network,
    DataError where the folder does not fit its classes, ImageError for a picture that cannot be read, BuildError as
    `executor_of` does. To disagree is no error.
    """
    if find_spec("torch") is None:
        raise BundleError("effgen eval: needs PyTorch: pip install 'effgen[torch]'")
    on_phase("load the bundle")
    executor = executor_of(request.bundle, request.threads, on_phase)
    manifest = executor.manifest
    classes, preparation = _several_classes(manifest), preparation_of(manifest)
    labels = read_labels(request.bundle / LABELS, classes) if LABELS in manifest.files else None
    pictures = _at_most(open_labelled(request.data, classes, labels), request.images)
    on_phase("read the graph")
    reference = _reference(request, manifest, preparation)
    on_phase(f"{len(pictures.files)} pictures")
    parts = []
    for files in _groups(pictures.files, manifest.input["shape"][0]):
        parts.append(_look(executor, reference.judge, _batches(files, manifest, preparation), len(files)))
        on_note(f"{sum(len(part.found) for part in parts)} of {len(pictures.files)} pictures")
    return _report(request, executor, reference, pictures, _joined(parts))


def _several_classes(manifest: Manifest) -> int:
    """How many there are. Raises BundleError for yes-or-no networks, too: one number has no best class."""
    classes = classes_of(manifest)
    if classes < 2:
        raise BundleError(f"{manifest.name}: gives one number, of which none is the best; expected 2 classes or more")
    return classes


def _at_most(pictures: LabelledFolder, most: int | None) -> LabelledFolder:
    """So many of the pictures, spread evenly over their order, and so over the classes."""
    if most is None:
        return pictures
    truth = None if pictures.truth is None else tuple(evenly(pictures.truth, most))
    return replace(pictures, files=tuple(evenly(pictures.files, most)), truth=truth)


def _reference(request: EvalRequest, manifest: Manifest, preparation: Preparation) -> _Reference:
    from effgen.graph.onnx import graph_from_onnx

    graph, weights = graph_from_onnx(request.bundle / MODEL)
    codes, name = bool(graph.codes), f"pytorch {version('torch')}"
    if request.against is None:
        own = f"{name}, codes as in the bundle" if codes else f"{name}, float32"
        return _Reference(judge_of_graph(graph, weights), own, codes)
    other = read_manifest(request.against)
    _refuse_another(f"--against {request.against}", other, manifest, preparation)
    graph, weights = graph_from_onnx(request.against / MODEL)
    if graph.codes:
        raise BundleError(f"--against {request.against}: computes with codes, too; expected a float32 network's bundle")
    return _Reference(judge_of_graph(graph, weights), f"{name}, float32 of {other.name}", codes)


def _refuse_another(where: str, other: Manifest, manifest: Manifest, preparation: Preparation) -> None:
    """Raise BundleError where the two bundles cannot be of the same network: their answers would say nothing."""
    if classes_of(other) != manifest.classes:
        raise BundleError(f"{where}: has {other.classes} classes, {manifest.name} has {manifest.classes}")
    if other.output_kind != manifest.output_kind:
        kinds = f"gives {other.output_kind}, {manifest.name} {manifest.output_kind}"
        raise BundleError(f"{where}: {kinds}; expected the same network")
    if preparation_of(other) != preparation:
        raise BundleError(f"{where}: prepares pictures otherwise than {manifest.name}; expected the same network")


def _groups(files: Sequence[Path], batch: int) -> Iterator[Sequence[Path]]:
    size = -(-_AT_ONCE // batch) * batch
    for start in range(0, len(files), size):
        yield files[start : start + size]


def _batches(files: Sequence[Path], manifest: Manifest, preparation: Preparation) -> Images:
    """The prepared pictures `(n, channels, height, width)`, filled up with zeros to whole batches."""
    batch, *shape = manifest.input["shape"]
    images = np.zeros((-(-len(files) // batch) * batch, *shape), np.float32)
    for row, file in zip(images, files, strict=False):
        row[...] = preparation(file)
    return images


def _look(executor: Executor, judge: Judge, images: Images, count: int) -> _Seen:
    """What both say of the first `count` images."""
    (found,), (expected,) = (tuple(output[:count] for output in outputs_of(run(images))) for run in (executor, judge))
    refuse_nonsense(found, executor.manifest)
    with np.errstate(invalid="ignore"):  # a log-probability may be minus infinity
        differences = np.where(found == expected, 0.0, found.astype(np.float64) - expected)
    return _Seen(
        found=_best(found),
        expected=_best(expected),
        differences=np.square(differences).sum(axis=1),
        norms=np.square(expected.astype(np.float64)).sum(axis=1),
        rel_l2=np.array([relative_l2(*(each[row : row + 1] for each in (found, expected))) for row in range(count)]),
    )


def _best(outputs: NDArray[np.float32]) -> NDArray[np.int64]:
    """The best classes of each row, the best first; the first number first where they are equal."""
    return np.argsort(-outputs, axis=1, kind="stable")[:, :_TOP]


def _joined(parts: Sequence[_Seen]) -> _Seen:
    names = ("found", "expected", "differences", "norms", "rel_l2")
    return _Seen(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _report(
    request: EvalRequest, executor: Executor, reference: _Reference, pictures: LabelledFolder, seen: _Seen
) -> EvalReport:
    manifest, worst = executor.manifest, int(seen.rel_l2.argmax())
    classes = classes_of(manifest)
    truth = None if pictures.truth is None else np.array(pictures.truth)
    return EvalReport(
        bundle=str(request.bundle),
        model=manifest.name,
        run_by=executor.name,
        threads=executor.threads,
        reference=reference.name,
        against=None if request.against is None else str(request.against),
        codes=reference.codes,
        classes=classes,
        images=len(pictures.files),
        matched=pictures.matched,
        found=None if truth is None else shares_of(seen.found, truth, classes),
        expected=None if truth is None else shares_of(seen.expected, truth, classes),
        agreement=float((seen.found[:, 0] == seen.expected[:, 0]).mean()),
        rel_l2=_whole(seen),
        worst_rel_l2=float(seen.rel_l2[worst]),
        worst_image=printable(pictures.files[worst]),
        by_class=() if truth is None else tuple(counts_of(seen.found[:, 0], truth, pictures.names)),
    )


def _whole(seen: _Seen) -> float:
    """Relative L2 over all pictures; infinite where it is not a number, as that of one picture."""
    difference, norm = float(seen.differences.sum()), float(seen.norms.sum())
    if not difference:
        return 0.0
    ratio = (difference / norm) ** 0.5 if norm else np.inf
    return ratio if np.isfinite(ratio) else float("inf")


def shares_of(best: NDArray[np.int64], truth: NDArray[np.int64], classes: int) -> Shares:
    """`best` classes `(pictures, at most 5)` beside the right ones `(pictures,)` of so many."""
    hits = best == truth[:, None]
    return Shares(float(hits[:, 0].mean()), float(hits.any(axis=1).mean()) if classes >= _TOP else None)


def counts_of(best: NDArray[np.int64], truth: NDArray[np.int64], names: Sequence[str]) -> Iterator[ClassCount]:
    """Each class that pictures are of, by number; `best` and `truth` are `(pictures,)`, `names` those of all."""
    for index in map(int, np.unique(truth)):
        answers = Counter(best[truth == index].tolist())
        wrong = {answer: times for answer, times in answers.items() if answer != index}
        taken_for = min(wrong, key=lambda answer: (-wrong[answer], answer), default=None)
        yield ClassCount(
            index=index,
            name=names[index],
            images=answers.total(),
            errors=sum(wrong.values()),
            taken_for=taken_for,
            taken_for_name=None if taken_for is None else names[taken_for],
            times=0 if taken_for is None else wrong[taken_for],
        )
