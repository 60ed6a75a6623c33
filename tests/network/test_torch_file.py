"""What torch.save writes is read as PyTorch reads it, and nothing that a file says can run or reach beyond it."""

from __future__ import annotations

import io
import pickle
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict
from typing import Any

import numpy as np
import pytest
import torch

from effgen.network import pickles
from effgen.network.pickles import _GIVEN, StandIn, UnsafeFileError
from effgen.network.stored_tensor import NotTorchError, StoredTensor
from effgen.network.torch_file import content_of_torch_file


def saved(content: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


LAYOUTS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


@LAYOUTS
def test_tensors_of_every_layout(legacy: bool) -> None:
    whole = torch.arange(60.0).reshape(3, 4, 5)
    tensors = {
        "whole": whole,
        "view": whole[1:, ::2],
        "turned": whole.permute(2, 0, 1),
        "last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "expanded": torch.ones(1).expand(7, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3.5),
        "half": torch.randn(5).half(),
        "double": torch.randn(5).double(),
        "brain": torch.randn(3, 4).bfloat16().T,
    }
    content = content_of_torch_file(saved(tensors, legacy))
    assert list(content) == list(tensors)
    for name, tensor in tensors.items():
        found = content[name].float32()
        assert found.dtype == np.float32 and found.flags.c_contiguous and found.flags.writeable
        np.testing.assert_array_equal(found, tensor.detach().float().numpy(), err_msg=name)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.int64, "I64"), (torch.bool, "BOOL"), (torch.uint16, "U16"), (torch.float8_e4m3fn, "F8_E4M3")],
)
def test_other_types_are_named(dtype: torch.dtype, name: str) -> None:
    found = content_of_torch_file(saved({"a": torch.ones(3).to(dtype)}))["a"]
    assert (found.dtype, found.shape) == (name, (3,))


@LAYOUTS
def test_objects_become_what_they_were_given(legacy: bool) -> None:
    content = content_of_torch_file(
        saved({"args": Namespace(lr=0.1), "counts": defaultdict(list, {"a": [1]}), "dict": OrderedDict(b=2)}, legacy)
    )
    assert isinstance(content["args"], StandIn) and content["args"].path == "argparse.Namespace"
    assert content["args"].fields == {"lr": 0.1}
    assert content["counts"].fields == {"a": [1]}
    assert content["dict"] == {"b": 2}


class Calls:
    """A pickle that calls `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.arguments = (function, arguments)

    def __reduce__(self) -> Any:
        return self.arguments


@LAYOUTS
@pytest.mark.parametrize("function", [exec, eval, open, getattr, __import__], ids=lambda function: function.__name__)
def test_functions_of_the_system_are_refused(function: Any, legacy: bool) -> None:
    with pytest.raises(UnsafeFileError, match=rf"^(builtins|__builtin__|io)\.{function.__name__}$"):
        content_of_torch_file(saved({"a": Calls(function, "1")}, legacy))


def ran(text: str) -> None:
    raise AssertionError(f"code of the file ran: {text}")


def test_functions_of_other_modules_do_not_run() -> None:
    found = content_of_torch_file(saved({"a": Calls(ran, "a")}))["a"]
    assert isinstance(found, StandIn) and found.path.endswith(".ran")


def of_pickle(code: bytes) -> bytes:
    """A file of the zip layout whose pickle is `code`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", code)
    return buffer.getvalue()


def test_a_file_cannot_change_what_it_is_given() -> None:
    """BUILD sets attributes of whatever lies on the stack: a function, a class, a tensor."""
    before = dict(_GIVEN)
    for module, name in (path.rsplit(".", 1) for path in _GIVEN):
        code = b"\x80\x02c" + f"{module}\n{name}\n".encode() + pickle.dumps({"make": 1, "dtype": "I8"}, 2)[2:-1] + b"b."
        content_of_torch_file(of_pickle(code))
        assert all(getattr(_GIVEN[path], "__dict__", None) == getattr(given, "__dict__", None)
                   for path, given in before.items())  # fmt: skip
    assert _GIVEN["torch.FloatStorage"].dtype == "F32" and callable(_GIVEN["torch._utils._rebuild_tensor_v2"].make)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (4, 4), (4, 1)),
        (9, (2,), (1,)),
        (0, (2,), (2**39,)),
        (0, (-2,), (1,)),
        (0, (3,), (-1,)),
        (-1, (2,), (1,)),
        (0, ("a",), (1,)),
        (0, (2, 2), (1,)),
        (0, (1,) * 40, (1,) * 40),
    ],
)
def test_tensors_that_reach_beyond_their_storage(offset: Any, shape: Any, strides: Any) -> None:
    with pytest.raises(NotTorchError):
        tensor = _GIVEN["torch._utils._rebuild_tensor_v2"](storage_of_ten(), offset, shape, strides, False, {})
        tensor.elements()


def storage_of_ten() -> Any:
    return content_of_torch_file(saved({"a": torch.zeros(10)}))["a"]._storage


@LAYOUTS
def test_bits_that_changed(legacy: bool) -> None:
    """Any byte may be wrong: the file is refused, or its content is another; nothing else happens."""
    generator = np.random.default_rng(11)
    whole = saved({"state_dict": {f"a.{n}": torch.ones(n) for n in range(9)}, "args": Namespace(lr=0.1)}, legacy)
    refused = 0
    for place in generator.integers(0, len(whole), 400):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        try:
            content = content_of_torch_file(bytes(damaged))
            for entry in content.get("state_dict", {}).values() if isinstance(content, dict) else ():
                if isinstance(entry, StoredTensor):
                    entry.elements()
        except (NotTorchError, UnsafeFileError):
            refused += 1
    assert refused > 100


def test_a_memo_of_four_billion_entries_is_not_set_aside() -> None:
    """As C's unpickler would: LONG_BINPUT names an entry's number."""
    assert content_of_torch_file(of_pickle(b"\x80\x02Nr\xff\xff\xff\xff.")) is None


def test_a_length_beyond_the_file() -> None:
    with pytest.raises(NotTorchError):
        content_of_torch_file(of_pickle(b"\x80\x05\x96" + (2**48).to_bytes(8, "little") + b"."))


def twice(times: int, code: bytes = b"K\x01") -> bytes:
    """A pair of pairs of pairs ...: few bytes, and endless work for whoever looks at all of it."""
    return code + b"2\x86" * times


@pytest.mark.parametrize(
    "code",
    [
        b"}" + twice(200) + b"Ns.",
        b"}(" + twice(200) + b"Nu.",
        b"(" + twice(200) + b"Nd.",
        b"\x8f(" + twice(200) + b"\x90.",
        b"(" + twice(200) + b"\x91.",
        b"cbuiltins\nset\n(" + twice(200) + b"l\x85R.",
        b"ccollections\nOrderedDict\n((" + twice(200) + b"Nll\x85R.",
    ],
    ids=["item", "items", "dict", "set", "frozenset", "set called", "ordered"],
)
def test_keys_that_take_for_ever_are_left_out(code: bytes) -> None:
    found = content_of_torch_file(of_pickle(b"\x80\x04" + code))
    assert found == {} or isinstance(found, StandIn)


def test_storages_are_named_by_texts() -> None:
    pid = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + twice(200) + b"X\x03\x00\x00\x00cpuK\x01tQ."
    with pytest.raises(NotTorchError, match="a storage of an unknown kind"):
        content_of_torch_file(of_pickle(b"\x80\x02" + pid))


def test_numbers_that_share_a_place_in_a_dictionary() -> None:
    colliding = {n * (2**61 - 1): None for n in range(1, 50)}
    code = b"\x80\x02}(" + b"".join(pickle.dumps(key, 2)[2:-1] + b"N" for key in colliding) + b"u."
    assert content_of_torch_file(of_pickle(code)) == {}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"N0" * 5000 + b"N.", "more than 10,000 instructions"),
        (b"\x95" + (10_002).to_bytes(8, "little") + b"N0" * 5000 + b"N.", "more than 10,000 instructions"),
        (b"".join(b"ca\nb%d\n0" % n for n in range(1001)) + b"N.", "more than 1,000 classes"),
    ],
    ids=["instructions", "in a frame", "classes"],
)
def test_programs_without_end(code: bytes, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "_MOST_INSTRUCTIONS", 10_000)
    with pytest.raises(NotTorchError, match=message):
        content_of_torch_file(of_pickle(b"\x80\x04" + code))


def test_a_pickle_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "_MOST_SECONDS", -1.0)
    with pytest.raises(NotTorchError, match="takes more than"):
        content_of_torch_file(of_pickle(b"\x80\x04" + b"N0" * 100 + b"N."))


@LAYOUTS
def test_views_of_the_other_sign(legacy: bool) -> None:
    """A bit of the tensor, not of its elements."""
    tensors = {"a": torch._neg_view(torch.arange(6.0).reshape(2, 3)).T, "b": torch._neg_view(torch.ones(3).bfloat16())}
    found = content_of_torch_file(saved(tensors, legacy))
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name].float32(), tensor.resolve_neg().float().numpy())
