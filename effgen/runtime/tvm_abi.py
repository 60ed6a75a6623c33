"""How code that TVM generated is called: structures of the C interface of the TVM that effgen pins (`tvm/ffi/c_api.h`,
DLPack; `native/pool/tvm_abi.h` has the same for C).

A copy of this file goes with every offline folder: it uses nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

import ctypes

#: Type indices of values, of `TVMFFITypeIndex`; from `OBJECT` on they are objects.
INT, BOOL, TENSOR, TEXT, OBJECT = 1, 2, 7, 8, 64

#: kDLCPU.
CPU = 1

#: Code, bits and lanes of DLPack's types.
FLOAT32, INT64 = (2, 32, 1), (0, 64, 1)


class _Value(ctypes.Union):
    _fields_ = (("number", ctypes.c_int64), ("pointer", ctypes.c_void_p), ("text", ctypes.c_char_p))


class Any(ctypes.Structure):
    """TVMFFIAny: a tagged value."""

    _anonymous_ = ("value",)
    _fields_ = (("type", ctypes.c_int32), ("padding", ctypes.c_uint32), ("value", _Value))


class Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("dimensions", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),  # none: contiguous
        ("offset", ctypes.c_uint64),
    )


def tensor(data: int | None, shape: tuple[int, ...], kind: tuple[int, int, int] = FLOAT32) -> Tensor:
    """An array at the address `data` of this machine's memory."""
    return Tensor(data, CPU, 0, len(shape), *kind, (ctypes.c_int64 * len(shape))(*shape), None, 0)


def number(value: int) -> Any:
    """A whole number."""
    made = Any(INT, 0)
    made.number = value
    return made


def pointer_to(made: Tensor) -> Any:
    """A tensor, which must live as long as the value."""
    word = Any(TENSOR, 0)
    word.pointer = ctypes.addressof(made)
    return word
