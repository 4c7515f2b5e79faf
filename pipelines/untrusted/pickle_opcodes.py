"""The opcodes of a pickle that stand for a value by themselves, and how that value is read."""

from __future__ import annotations

import codecs
import pickletools
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

_INTEGER_BYTES = 128  # of the longest integer; every float is below it, too
_DIGITS = 309  # of the longest number in text, which is as large


_NAMES = {opcode.code: opcode.name for opcode in pickletools.opcodes}


def name_of(code: bytes) -> str:
    """An opcode's name.

    Raises:
        ValueError: If there is no such opcode, or no byte.
    """
    if not code:
        raise ValueError("cut off before its end")
    name = _NAMES.get(code.decode("latin1"))
    if name is None:
        raise ValueError(f"no opcode is {code!r}")
    return name


def _cut_off(count: int) -> str:
    return f"cut off: {count} bytes are announced, which are not there"


class Source:
    """A pickle's bytes, none of which is asked for that is not there.

    Args:
        file: Open at its start.
        size: The file's bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.read = file.read  # of a few bytes, without a check that they are all there

    def exactly(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            ValueError: If there are fewer.
        """
        # Asked for more than the file has, `read` would reserve the memory first.
        data = self.file.read(count) if count <= self.size else b""
        if len(data) != count:
            raise ValueError(_cut_off(count))
        return data

    def mutable(self, count: int) -> bytearray:
        """The next bytes, without a copy in between.

        Raises:
            ValueError: If there are fewer.
        """
        data = bytearray(count if count <= self.size else 0)
        if self.file.readinto(data) != count:  # type: ignore[attr-defined]
            raise ValueError(_cut_off(count))
        return data

    def line(self) -> bytes:
        """The next line, without its end."""
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise ValueError("cut off inside a line")
        return line[:-1]

    def digits(self) -> bytes:
        """The next line, which is a number in text."""
        line = self.line()
        if len(line) > _DIGITS:
            raise ValueError(f"a number of {len(line)} characters; at most {_DIGITS} are taken")
        return line


def _integer(source: Source) -> int:
    """An integer in text, or a boolean, which is written as 00 or 01."""
    digits = source.digits()
    return digits == b"01" if digits in (b"00", b"01") else int(digits.removesuffix(b"L"))


def _quoted(source: Source) -> str:
    """A string in quotes, as Python 2 wrote it."""
    line = source.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("a string without quotes")
    data: bytes = codecs.escape_decode(line[1:-1])[0]
    return data.decode("latin1")


def number(form: str) -> Callable[[Source], Any]:
    """A reader of a number in a form of `struct`."""
    size, unpack = struct.calcsize(form), struct.Struct(form).unpack
    return lambda source: unpack(source.read(size))[0]


def _sized(form: str, convert: Callable[[bytes], Any]) -> Callable[[Source], Any]:
    """A reader of a length and as many bytes."""
    length = number(form)
    return lambda source: convert(source.exactly(length(source)))


def _latin1(data: bytes) -> str:
    return data.decode("latin1")  # preserves both the strings and the arrays of Python 2


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _long(data: bytes) -> int:
    if len(data) > _INTEGER_BYTES:
        raise ValueError(f"an integer of {len(data)} bytes; at most {_INTEGER_BYTES} are taken")
    return int.from_bytes(data, "little", signed=True)


_length_8 = number("<Q")

VALUES: dict[bytes, Callable[[Source], Any]] = {
    b"N": lambda _: None,
    b"\x88": lambda _: True,
    b"\x89": lambda _: False,
    b"I": _integer,
    b"L": _integer,
    b"F": lambda source: float(source.digits()),
    b"J": number("<i"),
    b"K": number("<B"),
    b"M": number("<H"),
    b"G": number(">d"),
    b"\x8a": _sized("<B", _long),
    b"\x8b": _sized("<I", _long),
    b"S": _quoted,
    b"T": _sized("<I", _latin1),
    b"U": _sized("<B", _latin1),
    b"V": lambda source: source.line().decode("raw-unicode-escape"),
    b"X": _sized("<I", _utf8),
    b"\x8c": _sized("<B", _utf8),
    b"\x8d": _sized("<Q", _utf8),
    b"B": _sized("<I", bytes),
    b"C": _sized("<B", bytes),
    b"\x8e": _sized("<Q", bytes),
    b"\x96": lambda source: source.mutable(_length_8(source)),
}
