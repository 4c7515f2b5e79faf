"""Files that want to break what reads them, or to make it do something: media, tables, recipes, pickles.

Each generator is given the path of a canary, which its file tries to make or to read.
"""

from __future__ import annotations

import io
import pickle
import struct
import wave
from collections.abc import Callable
from pathlib import Path

Bytes = Callable[[str], bytes]


def _wave(rate: int, claimed: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(100))
    content = bytearray(buffer.getvalue())
    content[40:44] = struct.pack("<I", claimed)
    return bytes(content)


def _avi(width: int, height: int) -> bytes:
    header = struct.pack("<10I", 1, 0, 0, 0, 1, 0, 1, 0, width, height) + bytes(16)
    chunk = b"avih" + struct.pack("<I", len(header)) + header
    hdrl = b"LIST" + struct.pack("<I", len(chunk) + 4) + b"hdrl" + chunk
    return b"RIFF" + struct.pack("<I", len(hdrl) + 4) + b"AVI " + hdrl


# Content of a clip. The name's suffix is that of the clip.
MEDIA: dict[str, Bytes] = {
    "empty.mp4": lambda _: b"",
    "one-byte.mp4": lambda _: b"\0",
    "text.mp4": lambda _: b"this is a text\n" * 50,
    "random.mp4": lambda _: bytes((n * n * 31 + n) % 256 for n in range(5000)),
    "endless-box.mp4": lambda _: struct.pack(">I4sQ", 1, b"ftyp", 2**63 - 1) + b"isom" * 4,
    "empty-box.mp4": lambda _: struct.pack(">I4s", 0, b"moov") + bytes(64),
    "nested-boxes.mp4": lambda _: b"".join(struct.pack(">I4s", 8 * (2000 - n), b"moov") for n in range(2000)),
    "list.mp4": lambda canary: f"ffconcat version 1.0\nfile '{canary}.secret'\n".encode(),
    "playlist.mp4": lambda canary: f"#EXTM3U\n#EXTINF:1,\nfile://{canary}.secret\n#EXT-X-ENDLIST\n".encode(),
    "network.mp4": lambda _: b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
    "session.mp4": lambda _: b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 9 RTP/AVP 96\n",
    "page.mp4": lambda canary: f'<svg xmlns:x="x"><image href="file://{canary}.secret"/></svg>'.encode(),
    "entities.mp4": lambda c: f'<!DOCTYPE a [<!ENTITY b SYSTEM "file://{c}.secret">]><MPD>&b;</MPD>'.encode(),
    "long.wav": lambda _: _wave(16_000, 2**32 - 1),
    "slow.wav": lambda _: _wave(1, 100),
    "fast.wav": lambda _: _wave(2**31 - 1, 100),
    "huge.avi": lambda _: _avi(2**31 - 1, 2**31 - 1),
    "wide.avi": lambda _: _avi(60_000, 60_000),
    "pickle.mp4": lambda canary: _calls("os", "system", f"touch {canary}"),
    "archive.mp4": lambda _: b"PK\x03\x04" + bytes(200),
    "\x1b[31mred.mp4": lambda _: b"nothing",
    "-i.mp4": lambda _: b"nothing",
    "$(touch CANARY);.mp4": lambda _: b"nothing",
    "n" * 250 + ".mp4": lambda _: b"nothing",
}  # fmt: skip

HEAD = "path,text,label,split,group\n"
GOOD = "good.mp4,a good film,1.0,train,a\nfine.mp4,a bad film,-1.0,test,b\n"

# A whole table; `good.mp4` beside it is a clip.
TABLES: dict[str, Bytes] = {
    "empty": lambda _: b"",
    "no lines": lambda _: HEAD.encode(),
    "no table": lambda _: bytes(range(256)) * 10,
    "zero bytes": lambda _: (HEAD + "good.mp4,a\0b,1,train,a\n").encode(),
    "utf-16": lambda _: (HEAD + GOOD).encode("utf-16"),
    "broken utf-8": lambda _: (HEAD + GOOD).encode() + b"\xff\xfe\xfd.mp4,x,1,train,c\n",
    "open quote": lambda _: (HEAD + 'good.mp4,"never closed,1,train,a\n').encode(),
    "long cell": lambda _: (HEAD + f"good.mp4,{'x' * 500_000},1,train,a\n").encode(),
    "long name": lambda _: (HEAD + GOOD + f"{'n' * 300}.mp4,x,1,train,c\n").encode(),
    "memory": lambda _: (HEAD + GOOD + "/proc/self/mem,x,1,train,c\n").encode(),
    "endless": lambda _: (HEAD + GOOD + "/dev/zero,x,1,train,c\n").encode(),
    "random": lambda _: (HEAD + GOOD + "/dev/urandom,x,1,train,c\n").encode(),
    "terminal": lambda _: (HEAD + GOOD + "/dev/tty,x,1,train,c\n").encode(),
    "pipe": lambda _: (HEAD + GOOD + "pipe.mp4,x,1,train,c\n").encode(),
    "folder": lambda _: (HEAD + GOOD + "folder.mp4,x,1,train,c\n").encode(),
    "loop": lambda _: (HEAD + GOOD + "loop.mp4,x,1,train,c\n").encode(),
    "address": lambda _: (HEAD + GOOD + "http://127.0.0.1:9/x.mp4,x,1,train,c\n").encode(),
    "protocol": lambda c: (HEAD + GOOD + f"concat:{c}.secret|{c}.secret,x,1,train,c\n").encode(),
    "not a number": lambda _: (HEAD + "good.mp4,x,nan,train,a\ngood.mp4,y,1e999,train,a\n").encode(),
    "formula": lambda c: (HEAD + f"good.mp4,=cmd|'/c touch {c}'!A1,1,train,a\n").encode(),
    "escapes": lambda _: (HEAD + "good.mp4,\x1b[2J\x1b]0;\x07,1,train,a\n\x1b[3m.mp4,y,1,train,b\n").encode(),
    "ids that climb": lambda _: f"id,{HEAD}../../../../canary,good.mp4,x,1,train,a\n".encode(),
    "one id twice": lambda _: f"id,{HEAD}a,good.mp4,x,1,train,a\na,good.mp4,y,1,train,a\n".encode(),
    "many columns": lambda _: (",".join(f"c{n}" for n in range(20_000)) + "\n" + HEAD).encode(),
    "markup": lambda _: (HEAD + "good.mp4,<script>fetch('x')</script>,1,train,a\n").encode(),
}  # fmt: skip

_BOMB = "augment:\n  a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"  {chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)
_MERGES = "augment:\n  m0: &m0 {a: 1}\n" + "".join(
    f"  m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}\n" for n in range(1, 9)
)

RECIPES: dict[str, Bytes] = {
    "aliases": lambda _: _BOMB.encode() + b"  device: *j\n",
    "merged": lambda _: _MERGES.encode(),
    "itself": lambda _: b"augment: &a {video: *a}\n",
    "call": lambda canary: f'augment: !!python/object/apply:os.system ["touch {canary}"]\n'.encode(),
    "new": lambda canary: f"augment: !!python/object/new:os.system [touch {canary}]\n".encode(),
    "module": lambda _: b"augment: !!python/name:os.system\n",
    "deep": lambda _: b"augment: " + b"[" * 5_000 + b"]" * 5_000,
    "deep maps": lambda _: b"augment: " + b"{a: " * 3_000 + b"1" + b"}" * 3_000,
    "large": lambda _: b"augment: '" + b"x" * 30_000_000 + b"'\n",
    "binary": lambda _: bytes(range(256)),
    "utf-16": lambda _: "seed: 1\n".encode("utf-16"),
    "latin": lambda _: "augment: {device: café}\n".encode("latin1"),
    "tabs": lambda _: b"augment:\n\tdevice: cpu\n",
    "empty": lambda _: b"",
    "a list": lambda _: b"- 1\n- 2\n",
    "several": lambda _: b"seed: 1\n---\nseed: 2\n",
    "key twice": lambda _: b"seed: 1\nseed: 2\n",
    "no string": lambda _: b"1: 2\n? [a]\n: b\n",
    "escapes": lambda _: b'"\\e[31mred": 1\n',
    "large number": lambda _: b"seed: " + b"9" * 6_000 + b"\n",
    "time": lambda _: b"seed: 2026-99-99\n",
    "no number": lambda _: b"seed: .nan\n",
    "a mapping's place": lambda _: b"augment: 5\n",
    "escapes in a value": lambda _: b'augment: {device: "\\e[2J"}\n',
}  # fmt: skip


def _calls(module: str, name: str, argument: str) -> bytes:
    return f"c{module}\n{name}\n(S'{argument}'\ntR.".encode()


def _dotted(argument: bytes) -> bytes:
    return b"\x80\x04\x8c\x05numpy\x8c\x09os.system\x93\x8c" + bytes([len(argument)]) + argument + b"\x85R."


def _put(number: int) -> bytes:
    return b"\x80\x02]r" + struct.pack("<I", number) + b"."


def _doubling(times: int) -> bytes:
    """A tuple of a tuple twice, and so on: small on disk and without end when it is walked through."""
    return b"\x80\x02)" + b"".join(bytes([*b"q", n, *b"h", n, 0x86]) for n in range(times)) + b"."


PICKLES: dict[str, Bytes] = {
    "os.system": lambda canary: _calls("os", "system", f"touch {canary}"),
    "posix.system": lambda canary: _calls("posix", "system", f"touch {canary}"),
    "eval": lambda canary: _calls("builtins", "eval", f"open({canary!r}, chr(119))".replace("'", '"')),
    "python 2": lambda canary: _calls("__builtin__", "execfile", canary),
    "subprocess": lambda canary: _calls("subprocess", "getoutput", f"touch {canary}"),
    "numpy load": lambda canary: _calls("numpy", "load", canary),
    "getattr": lambda _: b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
    "dotted name": lambda canary: _dotted(f"touch {canary}".encode()),
    "runtime": lambda canary: _calls("numpy.testing", "runstring", f'open("{canary}","w")'),
    "empty": lambda _: b"",
    "cut": lambda _: pickle.dumps({"train": list(range(999))})[:500],
    "text": lambda _: b"no pickle at all",
    "memo": lambda _: _put(2**27),
    "large memo": lambda _: _put(2**32 - 1),
    "bytes": lambda _: b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",
    "string": lambda _: b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b".",
    "frame": lambda _: b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",
    "integer": lambda _: b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".",
    "digits": lambda _: b"L" + b"9" * 300_000 + b"L\n.",
    "deep": lambda _: b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep tuples": lambda _: b"\x80\x02)" + b"\x85" * 300_000 + b".",
    "doubling": lambda _: _doubling(100),
    "doubling key": lambda _: b"\x80\x02}" + _doubling(60)[2:-1] + b"K\x01s.",
    "itself": lambda _: b"\x80\x02]q\0h\0a.",
    "no stack": lambda _: b"\x80\x020000.",
    "marks": lambda _: b"\x80\x02" + b"(" * 500_000 + b".",
    "without end": lambda _: b"\x80\x02" + b"N0" * 3_000_000,
    "elsewhere": lambda _: b"Pfile\n.",
    "extension": lambda _: b"\x80\x02\x82\x01.",
    "escapes": lambda _: b"c\x1b[31mos\n\x1b[2Jsystem\n.",
    "long name": lambda _: b"c" + b"o" * 2_000_000 + b"\nsystem\n.",
    "protocol": lambda _: b"\x80\xff.",
    "a buffer": lambda _: b"\x80\x05\x97.",
    "set of a number": lambda _: b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR.",
    "a shape": lambda _: b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I99999999999\ntS'b'\ntR.",
    "a state": lambda _: b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb.",
    "a module": lambda _: b"cnumpy\n_core\n.",
    "another file": lambda _: b"\x89HDF\r\n\x1a\n" + bytes(100),
}  # fmt: skip


def write_corpus(folder: Path, table: bytes, clips: dict[str, bytes]) -> Path:
    """A corpus with a good clip beside the hostile ones, a pipe, a folder and a loop; its table's path."""
    import os

    from tests import tiny

    folder.mkdir(parents=True)
    for number, name in enumerate(("good.mp4", "fine.mp4")):
        (folder / name).write_bytes(tiny.row(number)["video"]["bytes"])
    for name, content in clips.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.mp4")
    (folder / "folder.mp4").mkdir()
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "label.csv").write_bytes(table)
    return folder / "label.csv"
