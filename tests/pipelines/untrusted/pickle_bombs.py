"""Short pickles that are endless, deep or huge where they are read without bounds, and their relatives."""

from __future__ import annotations

import pickle
import struct

import numpy as np

# An array is _reconstruct(ndarray, (0,), b'b') with a state: version, shape, dtype, order, data.
ARRAY = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
ENCODE = b"c_codecs\nencode\n"
HUGE = struct.pack("<Q", 2**62)


def array_of(dtype: bytes, shape: bytes, data: bytes) -> bytes:
    return ARRAY + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb."


def dtype_of(kind: bytes, state: bytes = b"") -> bytes:
    return b"cnumpy\ndtype\n(U" + bytes([len(kind)]) + kind + b"K\x00K\x01tR" + state


def text(length: int) -> bytes:
    return b"X" + struct.pack("<I", length) + b"a" * length


def integer(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def doubled(times: int) -> bytes:
    """A tuple of two equal tuples of two equal tuples, and so on."""
    return b")" + b"2\x86" * times


def doubled_by_memo(times: int) -> bytes:
    """The same of lists, through the memo."""
    steps = (b"](" + b"h%c" % i * 2 + b"eq%c" % (i + 1) for i in range(times))
    return b"]q\x00" + b"".join(steps)


def deep_objects(depth: int) -> bytes:
    """Arrays of objects, each inside the next."""
    start, dtype = ARRAY[2:] + b"(K\x01K\x01\x85" + dtype_of(b"O") + b"\x89](", b"etb"
    return b"\x80\x02" + start * depth + b"N" + dtype * depth + b"."


TWICE = b"h\x00h\x00"
MEMO = {
    "memo: LONG_BINPUT": b"\x80\x02Nr\xf0\xff\xff\xff.",
    "memo: LONG_BINPUT of 2 GB": b"Nr\x00\x00\x00\x09.",
    "memo: BINPUT": b"Nq\xff.",
    "memo: PUT": b"Np4294967280\n.",
    "memo: PUT of many digits": b"Np" + b"9" * 100_000 + b"\n.",
    "memo: PUT below 0": b"Np-1\n.",
    "memo: GET": b"g4294967280\n.",
    "memo: LONG_BINGET": b"j\xf0\xff\xff\xff.",
    "memo: of nothing": b"\x94.",
}
ENDLESS = {
    "endless: a tuple": doubled(100) + b".",
    "endless: a list": doubled_by_memo(100) + b".",
    "endless: a key": b"}" + doubled(100) + b"Ns.",
    "endless: a small key": b"}" + doubled(10) + b"Ns.",
    "endless: an item of a set": b"\x8f(" + doubled(100) + b"\x90.",
    "endless: an item of a frozenset": b"(" + doubled(100) + b"\x91.",
    "endless: frozensets": b"((" * 40 + b"\x91h\x00\x86\x91" * 40 + b".",
    "endless: an item by a call": b"cbuiltins\nset\n(" + doubled(20) + b"l\x85R.",
    "endless: a pair by a call": b"ccollections\nOrderedDict\n(" + doubled(20) + b"N\x86l\x85R.",
    "endless: a name": doubled(100) + doubled(100) + b"\x93.",
    "endless: an object outside": doubled(18) + b"Q.",
    "endless: a dtype": b"cnumpy\ndtype\n" + doubled(18) + b"\x85R.",
    "endless: a dtype's state": dtype_of(b"f8") + doubled(18) + b"b.",
    "endless: a dtype's order": dtype_of(b"f8") + b"(K\x03" + doubled(18) + b"NNNNNtb.",
    "endless: an array's state": ARRAY + doubled(18) + b"b.",
    "endless: an array's shape": array_of(dtype_of(b"f8"), doubled(18), b"U\x00"),
    "endless: an array's data": array_of(dtype_of(b"f8"), b"K\x01\x85", doubled(18)),
    "endless: an array of itself": ARRAY + b"q\x00(K\x01K\x01\x85" + dtype_of(b"O") + b"\x89](h\x00etb.",
    "endless: a list in itself": b"]q\x00h\x00a.",
    "endless: a list in its item": b"]q\x00]q\x01h\x00aa.",
    "endless: a dict in itself": b"}q\x00K\x01h\x00s.",
    "endless: a copied text": text(2**20) + b"q\x00" + (ENCODE + b"h\x00U\x06latin1\x86R") * 100 + b".",
    "endless: a copied array": text(2**20)
    + b"q\x00"
    + (ARRAY[2:] + array_of(dtype_of(b"u1"), integer(2**20) + b"\x85", b"h\x00")[len(ARRAY) : -1]) * 100
    + b".",
    "endless: copied items": b"]("
    + b"K\x01" * 2**18
    + b"eq\x00"
    + b"cbuiltins\nbytes\nh\x00\x85R" * 100
    + b".",
    "endless: a repeated text": text(2**20) + b"q\x00](" + b"h\x00" * 1000 + b"e.",
}
DEEP = {
    "deep: APPEND": b"]" * 300_000 + b"a" * 299_999 + b".",
    "deep: LIST": b"(" * 300_000 + b"l" * 300_000 + b".",
    "deep: TUPLE": b"(" * 300_000 + b"t" * 300_000 + b".",
    "deep: TUPLE1": b")" + b"\x85" * 300_000 + b".",
    "deep: SETITEM": b"}K\x01" * 300_000 + b"N" + b"s" * 300_000 + b".",
    "deep: FROZENSET": b"(" * 300_000 + b"\x91" * 300_000 + b".",
    "deep: a key": b"}" + b")" + b"\x85" * 300_000 + b"Ns.",
    "deep: arrays of objects": deep_objects(30_000),
    "deep: by the memo": b"]q\x00" + b"".join(b"h%c]q%ca0" % (i, i + 1) for i in range(200)) + b".",
    "deep: downwards": b"]q\x000" + b"h\x00]q\x00a0" * 10_000 + b"h\x00.",
    "deep: marks": b"(" * 1_000_000 + b".",
}
ABSURD = {
    "absurd: BINBYTES": b"B\xff\xff\xff\x7f.",
    "absurd: BINBYTES8": b"\x8e" + HUGE + b".",
    "absurd: BINUNICODE": b"X\xff\xff\xff\x7f.",
    "absurd: BINUNICODE8": b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
    "absurd: BYTEARRAY8": b"\x96" + HUGE + b".",
    "absurd: BINSTRING": b"T\xff\xff\xff\xff.",
    "absurd: FRAME": b"\x80\x04\x95" + HUGE + b"N.",
    "absurd: LONG1": b"\x8a\xff" + b"\x7f" * 255 + b".",
    "absurd: LONG4": b"\x8b\xff\xff\xff\x7f.",
    "absurd: LONG4 that is there": b"\x8b\x00\x00\x10\x00" + b"\x7f" * 2**20 + b".",
    "absurd: INT": b"I" + b"9" * 1_000_000 + b"\n.",
    "absurd: LONG": b"L" + b"9" * 4000 + b"L\n.",
    "absurd: FLOAT": b"F" + b"9" * 1_000_000 + b"\n.",
    "absurd: no FLOAT": b"F" + b"x" * 1_000_000 + b"\n.",
    "absurd: a line without end": b"V" + b"x" * 1_000_000,
    "absurd: keys of one hash": b"}("
    + b"".join(integer(i * (2**61 - 1)) + b"N" for i in range(1, 9))
    + b"u.",
    "absurd: a tuple as key": b"}K\x01\x85Ns.",
    "absurd: a side": array_of(dtype_of(b"f8"), b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85", b"U\x00"),
    "absurd: sides of nothing": array_of(
        dtype_of(b"f8"), b"K\x00\x8a\x06\x00\x00\x00\x00\x00\x01\x86", b"U\x00"
    ),
    "absurd: a side of many bytes": array_of(dtype_of(b"f8"), integer(2**900) + b"\x85", b"U\x00"),
    "absurd: many sides": array_of(dtype_of(b"f8"), b"(" + integer(2**61) * 10_000 + b"t", b"U\x00"),
    "absurd: values without bytes": array_of(dtype_of(b"U0"), integer(2**50) + b"\x85", b"U\x00"),
    "absurd: values of many bytes": array_of(dtype_of(b"S2147483647"), b"K\x01\x85", b"U\x00"),
    "absurd: a type of many digits": array_of(dtype_of(b"S" + b"9" * 200), b"K\x01\x85", b"U\x00"),
    "absurd: objects that are not there": array_of(dtype_of(b"O"), integer(2**40) + b"\x85", b"]"),
    "absurd: a buffer": b"cnumpy.core.numeric\n_frombuffer\n(U\x08AAAAAAAA"
    + dtype_of(b"f8")
    + integer(2**40)
    + b"\x85U\x01CtR.",
}
STRANGE = {
    "strange: EXT1": b"\x80\x02\x82\x01.",
    "strange: EXT2": b"\x80\x02\x83\x01\x00.",
    "strange: EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
    "strange: PERSID": b"P1\n.",
    "strange: BINPERSID": b"NQ.",
    "strange: NEXT_BUFFER": b"\x97.",
    "strange: READONLY_BUFFER": b"N\x98.",
    "strange: INST": b"(ibuiltins\nset\n.",
    "strange: OBJ": b"(cbuiltins\nset\no.",
    "strange: NEWOBJ": b"cbuiltins\nset\n)\x81.",
    "strange: NEWOBJ_EX": b"cbuiltins\nset\n)}\x92.",
    "strange: a name of tuples": b"N\x85N\x85\x93.",
    "strange: a name that is long": b"c" + b"x" * 1_000_000 + b"\n" + b"y" * 1_000_000 + b"\n.",
    "strange: a name with control characters": b"cos\x1b[31m\nsys\x07tem\n.",
    "strange: a name of two lines": b"\x8c\x02os\x8c\x07sys\ntem\x93.",
    "strange: a call of a list": b"])R.",
    "strange: a call with a list": b"cbuiltins\nset\n]R.",
    "strange: a state for a list": b"]}b.",
    "strange: a state for a function": b"cbuiltins\nset\n}b.",
    "strange: items for an array": ARRAY + b"q\x00K\x00h\x00s.",
    "strange: items for bytes": b"\x96" + struct.pack("<Q", 1) + b"xK\x01a.",
    "strange: items for a tuple": b")Na.",
    "strange: an odd number of items": b"}(Nu.",
    "strange: nothing": b"",
    "strange: an end without a value": b".",
    "strange: an end behind a mark": b"N(.",
    "strange: items before a mark": b"](N(\x86.",
    "strange: no mark": b"Nt.",
    "strange: an unknown opcode": b"\xff.",
}
BOMBS = MEMO | ENDLESS | DEEP | ABSURD | STRANGE

# These are large for what they are, and are read.
HARMLESS = {
    "one list in eight places": b"](" + b"K\x01" * 1000 + b"eq\x00(" + b"h\x00" * 8 + b"t.",
    "an empty array": pickle.dumps(np.zeros((0, 50, 768))),
    "labels that are shared": pickle.dumps(["Negative", "Neutral", "Positive"] * 100_000),
    "many values that are dropped": b"N0" * 100_000 + b"N.",
}
