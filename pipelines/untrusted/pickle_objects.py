"""What a pickle may call, by name: numpy's arrays and scalars, rebuilt from checked parts, and containers.

numpy's own constructors are not here, because they trust their arguments: a forged dtype makes one read
foreign memory. Errors name types and lengths and never show a value, which may be endless to print.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

# Kinds of dtype that an array may have: booleans, integers, floats, complex, strings, objects.
_PLAIN_DTYPE = re.compile(r"[?biufcSaU]\d{0,9}|O8?|O4|b1")
_NO_STATE = (None, None, None)  # a plain dtype has no subarray, no names and no fields
_MAX_DIMENSIONS = 32
_MAX_EMPTY = 2**24  # the product of an empty array's other sides: masks are as long as they are
_MAX_KEY = 2**60  # larger integers can be made to share one hash
_KEYS = (str, bytes, float, np.integer, np.floating, type(None))


class Array(np.ndarray):
    """An array whose state is checked before numpy sees it."""

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, data = state
        if version != 1 or not isinstance(dtype, Dtype):
            raise ValueError("an array with a state of another version, or without a dtype")
        if isinstance(data, str):  # a Python 2 string
            data = data.encode("latin1")
        count = _size(shape)
        kind, size = (list, count) if dtype.value.hasobject else (bytes, count * dtype.value.itemsize)
        if type(data) is not kind or len(data) != size:
            raise ValueError(f"an array of {count} values of type {dtype.value}, which its data do not have")
        super().__setstate__((1, shape, dtype.value, fortran is True, data))  # type: ignore[arg-type]


class Dtype:
    """A numpy dtype of a plain kind."""

    __slots__ = ("value",)

    def __init__(self, kind: Any) -> None:
        if not isinstance(kind, str) or not _PLAIN_DTYPE.fullmatch(kind):
            found = repr(kind[:40]) if isinstance(kind, str) else type(kind).__name__
            raise ValueError(f"an array of type {found} is refused; it takes numbers, strings, or objects")
        self.value = np.dtype(kind)
        if not self.value.itemsize:
            raise ValueError(f"an array of type {kind!r}, whose values have no bytes")

    def __setstate__(self, state: Any) -> None:
        order, plain = state[1], state[2:5]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in plain):
            raise ValueError("a dtype with subarrays, fields or an unknown byte order")
        self.value = self.value.newbyteorder(order) if order in "<>" else self.value


class Function:
    """A function that a pickle may call."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


def check_keys(keys: Iterable[Any]) -> None:
    """Refuse keys of dicts and items of sets whose hashes are slow to compute or easy to bring together.

    Raises:
        ValueError: Of a key that is no string, bytes, number or None, or an integer beyond 2^60.
    """
    for key in keys:
        if isinstance(key, int):
            if not -_MAX_KEY < key < _MAX_KEY:
                raise ValueError("an integer beyond 2^60 as a key of a dict or an item of a set")
        elif not isinstance(key, _KEYS):
            raise ValueError(
                f"a {type(key).__name__} as a key of a dict or an item of a set; they are strings or numbers"
            )


def _size(shape: Any) -> int:
    """The number of an array's values."""
    if type(shape) is not tuple or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"an array whose shape is no tuple of at most {_MAX_DIMENSIONS} sides")
    if not all(isinstance(side, int) and 0 <= side < 2**62 for side in shape):
        raise ValueError("an array whose shape has a side that is no size")
    if 0 in shape and math.prod(side or 1 for side in shape) > _MAX_EMPTY:
        raise ValueError("an empty array whose other sides are too long")
    return math.prod(shape)


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """An empty array, which `__setstate__` fills."""
    if kind is not _NDARRAY:
        raise ValueError("an array of another class than numpy.ndarray")
    return np.empty(0, dtype=np.int8).view(Array)


def _from_buffer(data: Any, dtype: Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    if dtype.value.hasobject or not isinstance(data, bytes | bytearray):
        raise ValueError(f"an array of type {dtype.value} from a {type(data).__name__}")
    if _size(shape) * dtype.value.itemsize != len(data):
        raise ValueError(f"an array of {_size(shape)} values of type {dtype.value} from {len(data)} bytes")
    return np.frombuffer(data, dtype=dtype.value).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Dtype, data: Any) -> Any:
    if dtype.value.hasobject:
        raise ValueError("a numpy scalar of type object")
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes) or len(raw) != dtype.value.itemsize:
        raise ValueError(f"a scalar of type {dtype.value} without its {dtype.value.itemsize} bytes")
    return np.frombuffer(raw, dtype=dtype.value)[0]


def _encode(text: str, encoding: str) -> bytes:
    """The form in which Python 3 writes bytes for Python 2."""
    if encoding != "latin1" or not isinstance(text, str):
        raise ValueError("bytes in another encoding than latin1")
    return text.encode("latin1")


def _of_items(kind: Callable[..., Any], check: Callable[[Iterable[Any]], None] | None = None) -> Function:
    """A container made from items; a number, which would allocate memory, is refused."""

    def make(items: list[Any] | tuple[Any, ...] | bytes = ()) -> Any:
        if not isinstance(items, list | tuple | bytes):
            raise ValueError(f"a container made from a {type(items).__name__}")
        if check:
            check(items)
        return kind(items)

    return Function(make)


def _check_pairs(pairs: Iterable[Any]) -> None:
    check_keys(key for key, _ in pairs)


_NDARRAY = "numpy.ndarray"  # stands for the class, which nothing may call

NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): Function(lambda kind, *_: Dtype(kind)),
    ("_codecs", "encode"): Function(_encode),
    ("collections", "OrderedDict"): _of_items(dict, _check_pairs),
}
for _core in ("numpy.core", "numpy._core"):
    NAMES[f"{_core}.multiarray", "_reconstruct"] = Function(_reconstruct)
    NAMES[f"{_core}.multiarray", "scalar"] = Function(_scalar)
    NAMES[f"{_core}.numeric", "_frombuffer"] = Function(_from_buffer)
for _builtins in ("builtins", "__builtin__"):
    NAMES[_builtins, "set"] = _of_items(set, check_keys)
    NAMES[_builtins, "frozenset"] = _of_items(frozenset, check_keys)
    NAMES[_builtins, "bytes"] = _of_items(bytes)
    NAMES[_builtins, "bytearray"] = _of_items(bytearray)
