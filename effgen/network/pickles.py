"""A pickle of tensors, read so that nothing in it can run.

A pickle is a program: it names functions and classes and calls them. Here the only ones that it gets are those of
`_GIVEN`, which make tensors of the file's own bytes. Every other class (`argparse.Namespace`, a module, one of
configurations) becomes a `StandIn` that keeps what it was given and does nothing; a file that names a function of the
system is refused whatever else it holds.
"""

from __future__ import annotations

import io
import pickle
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from effgen.errors import WeightsError
from effgen.network.stored_tensor import NotTorchError, Storage, StoredTensor

#: The names of PyTorch's dtypes and, with "Storage" behind them, of its storages.
_TORCH_DTYPES: Mapping[str, str] = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "complex64": "C64",
    "complex128": "C128",
}
_STORAGES: Mapping[str, str] = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128",
    "UntypedStorage": "U8",
}

#: Modules whose functions a checkpoint has no business to name.
_REFUSED = re.compile(
    r"(os|posix|nt|subprocess|sys|shutil|importlib|runpy|pty|socket|webbrowser|ctypes|code|commands|platform)(\.|$)"
)
_REFUSED_FUNCTIONS = re.compile(
    r"(builtins|__builtin__)\.(eval|exec|compile|open|__import__|getattr|setattr|delattr|input|vars)$|io\.open$"
)

#: A file's layout of a tensor has at most so many axes.
_MAX_AXES = 16

#: What a pickle may ask of its reader: instructions (a state dict of a thousand tensors has 50,000), names of classes,
#: and seconds.
_MOST_INSTRUCTIONS, _MOST_CLASSES, _MOST_SECONDS = 2**23, 1000, 20.0

#: Whole numbers below it have places of their own in a dictionary; larger ones may be made to share one.
_SMALL = 2**60


class UnsafeFileError(WeightsError):
    """The file names something that runs programs; the text is its name."""


class StandIn:
    """An object of a class that is not loaded: what the file gave it, as data.

    `path` is the class's name, `fields` its attributes or entries by name.
    """

    path = ""
    fields: dict[Any, Any]

    def __new__(cls, *args: Any, **keywords: Any) -> StandIn:
        """Pickles make objects without calling `__init__`, or with it."""
        made = object.__new__(cls)
        made.fields = {}
        return made

    def __init__(self, *args: Any, **keywords: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        self.fields[key] = value

    def __call__(self, *args: Any, **keywords: Any) -> StandIn:
        return StandIn()

    def append(self, item: Any) -> None:
        """As a list or a set would; of no use to anybody here."""

    extend = add = append


@dataclass(frozen=True)
class _Maker:
    """A function that the file may call."""

    make: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.make(*args)


@dataclass(frozen=True)
class Named:
    """A dtype or a kind of storage that the file names."""

    dtype: str


class Instructions(io.BytesIO):
    """A pickle's bytes; it is read an instruction at a time, and no further than _MOST_INSTRUCTIONS or _MOST_SECONDS.

    What one instruction can take is bounded by the file's size, as it makes nothing but what `_GIVEN` makes.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        super().__init__(data)
        self._left = _MOST_INSTRUCTIONS
        self._deadline = time.monotonic() + _MOST_SECONDS

    def read(self, size: int | None = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise NotTorchError(f"more than {_MOST_INSTRUCTIONS:,} instructions in its pickle")
        if self._left % 64 == 0 and time.monotonic() > self._deadline:
            raise NotTorchError(f"its pickle takes more than {_MOST_SECONDS:g} s to read")
        return super().read(size)


def _put(made: Any, key: Any, value: Any) -> None:
    """An entry, unless its key is of a kind that no state dict has: the work of finding a place for some is endless."""
    if isinstance(key, str | bytes | None) or (isinstance(key, int) and abs(key) < _SMALL):
        made[key] = value


def _put_all(items: Sequence[Any], made: Callable[[], Any]) -> None:
    target = made()
    for key, value in zip(items[::2], items[1::2], strict=True):
        _put(target, key, value)


def _dictionary(pairs: Any = ()) -> dict[Any, Any]:
    """Of pairs, as Python 2 wrote ordered ones."""
    made: dict[Any, Any] = {}
    for key, value in pairs.items() if isinstance(pairs, dict) else pairs:
        _put(made, key, value)
    return made


def _list(items: Any = ()) -> list[Any]:
    return list(items)


def _no_set(items: Any = ()) -> StandIn:
    return StandIn()


# Python's own: the one in C sets aside what a file says it will need, before it is there.
class Unpickler(pickle._Unpickler):
    """Calls nothing but `_GIVEN`; `storage` finds a tensor's elements by what a persistent id says."""

    def __init__(self, file: Instructions, storage: Callable[..., Storage]) -> None:
        super().__init__(file, encoding="latin1")  # what Python 2 wrote
        self._storage = storage
        self._classes: dict[str, type] = {}

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def load_build(self) -> None:
        """Attributes of an object: stand-ins keep them, everything else here has none that a file may set."""
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, StandIn):
            for part in state if isinstance(state, tuple) else (state,):
                made.fields |= part if isinstance(part, dict) else {}

    def load_setitem(self) -> None:
        """An entry of a dictionary, or of a stand-in."""
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], key, value)

    def load_setitems(self) -> None:
        """Many of them."""
        _put_all(self.pop_mark(), lambda: self.stack[-1])

    def load_dict(self) -> None:
        """A dictionary of them."""
        made: dict[Any, Any] = {}
        _put_all(self.pop_mark(), lambda: made)
        self.stack.append(made)

    def load_set(self) -> None:
        """A set is of no use here, and may take long to make."""
        self.stack.append(StandIn())

    def load_frozenset(self) -> None:
        """The same, of what lies above the mark."""
        self.pop_mark()
        self.load_set()

    def load_frame(self) -> None:
        """Its length says nothing that is needed: instructions are read one by one."""
        self.read(8)

    def load_bytearray(self) -> None:
        """As much as there is, not as much as the file says."""
        self.stack.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.EMPTY_SET[0]] = load_set
    dispatch[pickle.FROZENSET[0]] = load_frozenset
    dispatch[pickle.FRAME[0]] = load_frame
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray

    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}"
        if path in _GIVEN:
            return _GIVEN[path]
        if _REFUSED.match(module) or _REFUSED_FUNCTIONS.match(path):
            raise UnsafeFileError(ascii(path)[1:-1])
        if len(self._classes) >= _MOST_CLASSES:
            raise NotTorchError(f"it names more than {_MOST_CLASSES:,} classes")
        return self._classes.setdefault(path, type("StandIn", (StandIn,), {"path": ascii(path)[1:-1]}))

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module":  # a class with its source, of the old layout
            return pid[1]
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise NotTorchError("a storage of an unknown kind")
        if isinstance(pid[1], type) and issubclass(pid[1], StandIn):  # of quantised tensors, which are stand-ins too
            return StandIn()
        if not isinstance(pid[1], Named):
            raise NotTorchError("a storage of an unknown kind")
        return self._storage(*pid[1:])


def _tensor(
    storage: Storage, offset: int, shape: Sequence[int], strides: Sequence[int], grad: bool = False, hooks: Any = None,
    metadata: Any = None,
) -> StoredTensor:  # fmt: skip
    return _tensor_of(storage.dtype, storage, offset, shape, strides, metadata)


def _tensor_of_dtype(
    storage: Storage, offset: int, shape: Sequence[int], strides: Sequence[int], grad: bool, hooks: Any, dtype: Named,
    metadata: Any = None,
) -> StoredTensor:  # fmt: skip
    return _tensor_of(dtype.dtype, storage, offset, shape, strides, metadata)


def _tensor_of(dtype: str, storage: Storage, offset: int, shape: Any, strides: Any, metadata: Any) -> StoredTensor:
    if not isinstance(storage, Storage) or len(shape) != len(strides) or len(shape) > _MAX_AXES:
        raise NotTorchError("a tensor of an unknown layout")
    numbers = (offset, *shape, *strides)
    if not all(isinstance(number, int) and 0 <= number < 2**40 for number in numbers):
        raise NotTorchError("a tensor of an unknown layout")
    negated = isinstance(metadata, dict) and metadata.get("neg") is True
    return StoredTensor(dtype, tuple(shape), storage, offset, tuple(strides), negated)


def _parameter(tensor: Any, *rest: Any) -> Any:
    return tensor


def _of_subclass(function: Any, kind: Any, arguments: tuple[Any, ...], *state: Any) -> Any:
    return function(*arguments)


#: All that a file gets: what makes tensors, their dtypes and storages, and plain containers.
_GIVEN: Mapping[str, Any] = {
    "collections.OrderedDict": _Maker(_dictionary),
    "builtins.dict": _Maker(_dictionary),
    "builtins.list": _Maker(_list),
    "builtins.set": _Maker(_no_set),
    "__builtin__.set": _Maker(_no_set),
    "torch._utils._rebuild_tensor": _Maker(_tensor),
    "torch._utils._rebuild_tensor_v2": _Maker(_tensor),
    "torch._utils._rebuild_tensor_v3": _Maker(_tensor_of_dtype),
    "torch._utils._rebuild_parameter": _Maker(_parameter),
    "torch._utils._rebuild_parameter_with_state": _Maker(_parameter),
    "torch._tensor._rebuild_from_type_v2": _Maker(_of_subclass),
    **{f"torch.{name}": Named(dtype) for name, dtype in (*_STORAGES.items(), *_TORCH_DTYPES.items())},
    **{f"torch.storage.{name}": Named(dtype) for name, dtype in _STORAGES.items()},
}
