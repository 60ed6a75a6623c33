"""The sets of weights in a file, whatever a training script put around them, and which of them is meant.

A set is a dictionary of tensors in which, behind a prefix that all its names share, one of the known schemes is found.
Its label says where it lies: `state_dict_ema`, `state_dict.teacher`; empty for a file that holds nothing else.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from effgen.errors import WeightsError, candidates
from effgen.network.checkpoint_names import Scheme, known_stems, prefixes_of, schemes_of
from effgen.network.pickles import StandIn
from effgen.network.stored_tensor import StoredTensor

#: How deep dictionaries may lie in each other, and how many are looked into: a pickle can refer to one many times.
_DEEPEST, _MOST_VISITED = 6, 20_000

#: What is counted and kept in a state dict that is no weight: by batch norms, averaged models, thop's profile.
_BOOKKEEPING = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")

#: What DistributedDataParallel and torch.compile put before every name; labels leave it out.
_WRAPPERS = ("module", "_orig_mod")

#: Words of labels. Averaged weights are what training scripts judge and publish (timm's loader takes them too); a
#: teacher, or what is kept beside an averaged model, is not what was trained.
_AVERAGED = {"ema", "averaged", "average", "avg", "swa", "shadow"}
_ASIDE = {"teacher", "current", "momentum", "target", "previous", "old", "last", "init", "initial"}

#: Where weights usually lie, the likelier place first.
_USUAL = (
    "",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
)

#: How many sets may lie beside each other in one dictionary, each behind a prefix of its own.
_MOST_SETS = 32

#: How many names a message lists.
_LISTED = 3


@dataclass(frozen=True)
class WeightSet:
    """Tensors by the names of `scheme`. `left_out` are the names beside them that belong to something else; `label` is
    what `--weights-key` calls the set."""

    label: str
    scheme: Scheme
    tensors: Mapping[str, StoredTensor]
    left_out: tuple[str, ...]
    steps: int | None
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightsChoice:
    """Which of a file's sets of weights (`--weights-key`; None: the one that is meant), and how its names are changed
    before anybody reads them: pairs of a regular expression and what takes its place (`--rename OLD=NEW`)."""

    key: str | None = None
    renames: tuple[tuple[str, str], ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest says of it; what is as meant is left out."""
        key = {} if self.key is None else {"weights_key": self.key}
        return key | ({"renames": [list(pair) for pair in self.renames]} if self.renames else {})

    def renamed(self, name: str) -> str:
        """The name behind all renames; empty: the tensor is left out."""
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name


def renames_from_texts(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`--rename OLD=NEW`, in turn. Raises WeightsError for a text without "=" or a pattern that is none."""
    pairs = []
    for text in texts:
        pattern, _, replacement = text.rpartition("=")
        if not pattern:
            raise WeightsError(f"--rename {text}: expected OLD=NEW, a regular expression and what takes its place")
        try:
            re.sub(f"(?:{pattern})|", replacement, "")  # the empty match reads the replacement's groups
        except (re.error, IndexError) as error:
            raise WeightsError(f"--rename {text}: not a regular expression and its replacement: {error}") from None
        pairs.append((pattern, replacement))
    return tuple(pairs)


def chosen_set(content: Any, choice: WeightsChoice) -> WeightSet:
    """The set that was asked for, or the one that is meant: averaged weights before others, usual places before odd
    ones.

    Raises WeightsError where there is none, where it cannot be told which, or where a rename changes nothing.
    """
    dictionaries = list(_dictionaries(content))
    _check_renames([name for _, raw in dictionaries for name in raw if isinstance(name, str)], choice)
    found = [made for label, raw in dictionaries for made in _sets(label, _renamed(raw, choice))]
    if not found:
        raise WeightsError(_nothing_found(content, dictionaries, choice))
    labels, key = [made.label for made in found], choice.key
    if key is not None:
        asked = [made for made in found if made.label == key or made.label.startswith(f"{key}.")]
        if len(asked) != 1:
            known = candidates(key, [label or "(the file itself)" for label in labels])
            raise WeightsError(f"--weights-key {key}: expected one of its sets of weights; {known}")
        chosen = asked[0]
    else:
        found.sort(key=lambda made: _rank(made.label))
        if len(found) > 1 and _rank(found[0].label) == _rank(found[1].label):
            listed = ", ".join(sorted(labels))
            raise WeightsError(f"holds several sets of weights ({listed}): say which by --weights-key NAME")
        chosen = found[0]
    others = tuple(sorted(label for label in labels if label != chosen.label))
    return WeightSet(chosen.label, chosen.scheme, chosen.tensors, chosen.left_out, chosen.steps, others)


def _check_renames(names: list[str], choice: WeightsChoice) -> None:
    for pattern, replacement in choice.renames:
        if not any(re.search(pattern, name) for name in names):
            listed = ", ".join(ascii(name)[1:-1] for name in sorted(names)[:_LISTED]) or "none"
            raise WeightsError(f"--rename {pattern}={replacement}: matches no name; the file's are {listed}, ...")
        names = [re.sub(pattern, replacement, name) for name in names]


def _rank(label: str) -> tuple[bool, bool, int]:
    words = set(re.split(r"[._]", label))
    place = _USUAL.index(label) if label in _USUAL else len(_USUAL)
    return bool(words & _ASIDE), not words & _AVERAGED, place


def _dictionaries(content: Any) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """All dictionaries that hold tensors, with where they lie; a module's parameters are one."""
    waiting: deque[tuple[tuple[str, ...], Any]] = deque([((), content)])
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_VISITED:
        path, value = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, StandIn) and "_modules" in value.fields:
            yield ".".join(path), dict(_parameters(value))
            continue
        entries = value.fields if isinstance(value, StandIn) else value
        if not isinstance(entries, dict):
            continue
        if any(isinstance(entry, StoredTensor) for entry in entries.values()):
            yield ".".join(path), entries
        if len(path) < _DEEPEST:
            inner = ((name, entry) for name, entry in entries.items() if isinstance(entry, dict | StandIn))
            waiting += [((*path, name), entry) for name, entry in inner if isinstance(name, str)]


def _parameters(module: StandIn) -> Iterator[tuple[str, StoredTensor]]:
    """Names and tensors of a module that was saved whole."""
    waiting: list[tuple[str, StandIn]] = [("", module)]
    visited = 0
    while waiting and visited < _MOST_VISITED:
        visited += 1
        prefix, found = waiting.pop()
        for kind in ("_parameters", "_buffers"):
            tensors = found.fields.get(kind)
            for name, tensor in tensors.items() if isinstance(tensors, dict) else ():
                if isinstance(tensor, StoredTensor):
                    yield f"{prefix}{name}", tensor
        children = found.fields.get("_modules")
        inner = children.items() if isinstance(children, dict) else ()
        waiting += [(f"{prefix}{name}.", child) for name, child in inner if isinstance(child, StandIn)]


def _renamed(entries: Mapping[Any, Any], choice: WeightsChoice) -> dict[Any, Any]:
    """The entries under their new names; one without a name is left out."""
    made: dict[Any, Any] = {}
    for old, entry in entries.items():
        name = choice.renamed(old) if isinstance(old, str) and isinstance(entry, StoredTensor) else old
        if name == "":
            continue
        if name in made:
            raise WeightsError(f"--rename: two entries become {name}: expected names that differ")
        made[name] = entry
    return made


def _sets(label: str, entries: Mapping[Any, Any]) -> Iterator[WeightSet]:
    """The sets that a dictionary holds: one, or one behind each of several prefixes."""
    names = [name for name, entry in entries.items() if isinstance(name, str)]
    prefixes = prefixes_of(names)
    if len(prefixes) > _MOST_SETS:
        raise WeightsError(f"holds {len(prefixes)} sets of weights beside each other: expected at most {_MOST_SETS}")
    for prefix in prefixes:
        inside = {name.removeprefix(prefix): entries[name] for name in names if name.startswith(prefix)}
        outside = [name for name in names if not any(name.startswith(other) for other in prefixes)]
        schemes = schemes_of(inside)
        if len(schemes) > 1:
            raise WeightsError(
                f"holds names of {' and '.join(scheme.naming for scheme in schemes)}: expected the names of one of "
                f"{known_stems()}"
            )
        left_out = tuple(name for name in outside if not _is_bookkeeping(name, entries[name]))
        words = [word for word in prefix.split(".") if word and word not in _WRAPPERS]
        tensors = dict(_tensors(inside))
        yield WeightSet(".".join([label, *words] if label else words), schemes[0], tensors, left_out, _steps(inside))


def _tensors(entries: Mapping[str, Any]) -> Iterator[tuple[str, StoredTensor]]:
    for name, entry in entries.items():
        if _is_bookkeeping(name, entry):
            continue
        if isinstance(entry, StoredTensor):
            yield name, entry
        elif "." in name and not name.endswith("._extra_state"):  # others are the script's own: `epoch`, `arch`
            raise WeightsError(f"{name!r} holds {_kind(entry)}: expected names with tensors, as in model.state_dict()")


def _is_bookkeeping(name: str, entry: Any) -> bool:
    return name.rpartition(".")[2] in _BOOKKEEPING and isinstance(entry, StoredTensor) and entry.size <= 1


def _steps(entries: Mapping[str, Any]) -> int | None:
    """How many training steps its batch norms counted; None where they did not say."""
    counted = [
        int(entry.elements().reshape(-1)[0])
        for name, entry in entries.items()
        if name.endswith("num_batches_tracked") and isinstance(entry, StoredTensor) and _is_count(entry)
    ]
    return max(counted, default=None)


def _is_count(tensor: StoredTensor) -> bool:
    return tensor.size == 1 and tensor.dtype in ("I64", "I32", "I16", "I8", "U8")


def _nothing_found(content: Any, dictionaries: list[tuple[str, Mapping[Any, Any]]], choice: WeightsChoice) -> str:
    """What is there instead of weights, and what to do."""
    if not dictionaries:
        return _no_tensors(content)
    _, largest = max(dictionaries, key=lambda found: len(found[1]))
    names = sorted(str(name) for name, entry in _renamed(largest, choice).items() if isinstance(entry, StoredTensor))
    more = ", ..." if len(names) > _LISTED else ""
    listed = ", ".join(ascii(name)[1:-1] for name in names[:_LISTED]) or "nothing"
    return (
        f"holds {listed}{more}: expected the names of one of {known_stems()}; --rename OLD=NEW makes others fit, and "
        "--onnx takes any network's ONNX export"
    )


def _no_tensors(content: Any) -> str:
    if isinstance(content, dict):
        objects = [(name, entry) for name, entry in content.items() if isinstance(entry, StandIn)]
        for name, entry in objects[:1]:
            return f"{name}: {_object(entry)}"
        if content:
            keys = ", ".join(ascii(key) for key in list(content)[:_LISTED])
            return f"holds no tensors (but {keys}): expected names with tensors, as in model.state_dict()"
        return f"holds nothing: expected the names of one of {known_stems()}"
    return _object(content) if isinstance(content, StandIn) else (
        f"holds {_kind(content)}: expected a dictionary of tensors"
    )  # fmt: skip


def _object(found: StandIn) -> str:
    return (
        f"holds a Python object ({found.path}), which is not loaded because that can run code: expected tensors; save "
        "model.state_dict() instead"
    )


def _kind(value: Any) -> str:
    return value.path if isinstance(value, StandIn) else type(value).__name__
