"""Reads untrusted pickles: arrays, numbers, strings and containers, and nothing else.

A pickle is a program: it names functions and calls them. Here every name is looked up in the table at the end
of this module; any other name ends the reading before anything of that name is imported or called. The table
does not contain numpy's own constructors, because they trust their arguments (a forged dtype makes one read
foreign memory): arrays are rebuilt from checked parts.

Python 2 pickles are read as latin1, which preserves both their strings and their arrays.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipelines.errors import RunError

# Kinds of dtype that an array may have: booleans, integers, floats, complex, strings, objects.
_PLAIN_DTYPE = re.compile(r"[?biufcSaU]\d*|O8?|O4|b1")
_NO_STATE = (None, None, None)  # a plain dtype has no subarray, no names and no fields


class PickleError(RunError):
    """A pickle that is broken or has refused content. The message names it and the file."""


def load(path: str | Path) -> Any:
    """Read a pickle file; arrays are of an `ndarray` subclass that `np.asarray` makes plain.

    Raises:
        PickleError: If it cannot be read, is broken, or names anything but arrays, numbers, strings and
            containers. None of its code has then run.
    """
    try:
        with Path(path).open("rb") as file:
            return _Reader(file, str(path)).load()
    except OSError as error:
        raise PickleError(f"{path}: cannot be read ({error.strerror})") from error
    except PickleError:
        raise
    except Exception as error:  # the virtual machine of a broken pickle can raise anything
        raise PickleError(f"{path}: not a whole pickle ({type(error).__name__}: {error})") from error


class _Reader(pickle.Unpickler):
    """An unpickler with a table of names instead of imports."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__(file, encoding="latin1")
        self.name = name

    def find_class(self, module: str, name: str) -> Any:
        """The table's entry for a name; `PickleError` if there is none."""
        if (module, name) not in _TABLE:
            raise PickleError(
                f"{self.name}: asks for {module}.{name}, which is refused; a feature file holds numpy"
                " arrays, numbers, strings, lists, tuples, dicts and sets alone. If you trust the file,"
                " convert it where it was made"
            )
        return _TABLE[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Refused: a pickle may not refer to anything outside its file."""
        raise PickleError(f"{self.name}: refers to an object outside the file ({str(pid)[:40]!r})")


class _Array(np.ndarray):
    """An array whose state is checked before numpy sees it."""

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, data = state
        if version != 1 or not isinstance(dtype, _Dtype) or not _is_shape(shape):
            raise ValueError(f"an array with the state {state[:4]!r}")
        if isinstance(data, str):  # a Python 2 string
            data = data.encode("latin1")
        count = math.prod(shape)
        kind, size = (list, count) if dtype.value.hasobject else (bytes, count * dtype.value.itemsize)
        if not isinstance(data, kind) or len(data) != size:
            about = f"shape {shape} and type {dtype.value}"
            raise ValueError(f"an array of {about} with {len(data)} items of data")
        super().__setstate__((1, shape, dtype.value, bool(fortran), data))  # type: ignore[arg-type]


class _Dtype:
    """A numpy dtype of a plain kind."""

    __slots__ = ("value",)

    def __init__(self, kind: Any) -> None:
        if not isinstance(kind, str) or not _PLAIN_DTYPE.fullmatch(kind):
            raise PickleError(
                f"an array of type {str(kind)[:40]!r} is refused; it takes numbers, strings, or objects"
            )
        self.value = np.dtype(kind)

    def __setstate__(self, state: Any) -> None:
        order, plain = state[1], tuple(state[2:5])
        if plain != _NO_STATE or order not in ("<", ">", "=", "|"):
            raise ValueError(f"a dtype with the state {state!r}")
        self.value = self.value.newbyteorder(order) if order in "<>" else self.value


class _Call:
    """A function that a pickle may call. It cannot be changed or given attributes."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name}: what a pickle calls cannot be changed")

    def __setstate__(self, state: Any) -> None:
        raise AttributeError("what a pickle calls has no state")


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(isinstance(side, int) and side >= 0 for side in shape)


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """An empty array, which `__setstate__` fills."""
    if kind is not _NDARRAY:
        raise ValueError(f"an array of class {kind!r}")
    return np.empty(0, dtype=np.int8).view(_Array)


def _from_buffer(data: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    if dtype.value.hasobject or not _is_shape(shape) or not isinstance(data, bytes | bytearray):
        raise ValueError(f"an array of type {dtype.value} and shape {shape!r} from a buffer")
    return np.frombuffer(data, dtype=dtype.value).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: _Dtype, data: Any) -> Any:
    if dtype.value.hasobject:
        raise ValueError("a numpy scalar of type object")
    raw = data.encode("latin1") if isinstance(data, str) else data
    if len(raw) != dtype.value.itemsize:
        raise ValueError(f"a scalar of type {dtype.value} with {len(raw)} bytes")
    return np.frombuffer(raw, dtype=dtype.value)[0]


def _encode(text: str, encoding: str) -> bytes:
    """The form in which Python 3 writes bytes for Python 2."""
    if encoding != "latin1":
        raise ValueError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


def _of_items(kind: Callable[..., Any]) -> _Call:
    """A container made from items; a number, which would allocate memory, is refused."""

    def make(items: list[Any] | tuple[Any, ...] | bytes = ()) -> Any:
        if not isinstance(items, list | tuple | bytes):
            raise ValueError(f"a container made from {items!r}")
        return kind(items)

    return _Call(make)


_NDARRAY = "numpy.ndarray"  # stands for the class, which nothing may call

_TABLE: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Call(lambda kind, *_: _Dtype(kind)),
    ("_codecs", "encode"): _Call(_encode),
    ("collections", "OrderedDict"): _of_items(dict),
}
for _core in ("numpy.core", "numpy._core"):
    _TABLE[f"{_core}.multiarray", "_reconstruct"] = _Call(_reconstruct)
    _TABLE[f"{_core}.multiarray", "scalar"] = _Call(_scalar)
    _TABLE[f"{_core}.numeric", "_frombuffer"] = _Call(_from_buffer)
for _builtins in ("builtins", "__builtin__"):
    for _kind in (set, frozenset, bytes, bytearray):
        _TABLE[_builtins, _kind.__name__] = _of_items(_kind)
