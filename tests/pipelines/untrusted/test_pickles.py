"""What a feature pickle may hold is read as written; all else is refused by name, and nothing runs."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.untrusted import pickle_machine, pickles
from tests.pipelines.untrusted.pickle_bombs import ARRAY, BOMBS, HARMLESS, array_of, dtype_of

ROOT = Path(__file__).resolve().parents[3]
CONTENT: dict[str, Any] = {
    "numbers": [1, -(2**70), 2.5, True, None, float("inf")],
    "strings": ("a", "é", "中", b"\xff\x00"),
    "containers": OrderedDict(a={1, 2}, b=frozenset({3}), c=bytearray(b"x")),
    "float": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 4)),
    "words": np.array(["ab", "cde"]),
    "objects": np.array(["ab", 3, None], dtype=object),
    "scalar": np.float64(0.25),
}


def equal(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, np.ndarray):
        # numpy brings the bytes of an unpickled array into the machine's order
        same = (
            np.asarray(found).dtype.newbyteorder("=") == wanted.dtype.newbyteorder("=")
            and found.shape == wanted.shape
        )
        return same and bool(np.all(np.asarray(found) == wanted))
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(equal(found[key], wanted[key]) for key in wanted)
    return bool(found == wanted) and isinstance(found, type(wanted))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_reads_what_a_feature_file_holds(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "features.pkl"
    path.write_bytes(pickle.dumps(CONTENT, protocol=protocol))
    found = pickles.load(path)
    found["containers"] = OrderedDict(found["containers"])
    for key, wanted in CONTENT.items():
        assert equal(found[key], wanted), key


def test_reads_arrays_of_numpy_1_and_python_2(shared: Path) -> None:
    content = pickles.load(shared / "labels" / "mosi" / "features_audio.pickle")
    assert len(content) == 7
    assert np.asarray(content[0]).shape == (62, 63, 73)
    assert np.asarray(content[0]).dtype == np.float64
    assert np.isfinite(content[0]).all()
    assert content[5][:3] == [35, 30, 30]


class Touch:
    """Unpickled by the standard library, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


class Attack:
    """A reduce to a named function, as its pickle would hold it."""

    def __init__(self, name: str, *arguments: Any) -> None:
        self.module, _, self.name = name.rpartition(".")
        self.arguments = arguments

    def pickled(self) -> bytes:
        """Protocol 2: GLOBAL, the arguments, REDUCE."""
        arguments = pickle.dumps(self.arguments, protocol=2)[2:-1]
        return b"\x80\x02c" + f"{self.module}\n{self.name}\n".encode() + arguments + b"R."


MARKER = "ran"
CODE = f"open({MARKER!r}, 'w')"
ATTACKS = {
    "posix.system": Attack("posix.system", f"touch {MARKER}"),
    "os.system": Attack("os.system", f"touch {MARKER}"),
    "subprocess.Popen": Attack("subprocess.Popen", ["touch", MARKER]),
    "builtins.eval": Attack("builtins.eval", CODE),
    "__builtin__.eval": Attack("__builtin__.eval", CODE),
    "builtins.exec": Attack("builtins.exec", CODE),
    "builtins.getattr": Attack("builtins.getattr", "", "join"),
    "builtins.__import__": Attack("builtins.__import__", "antigravity"),
    "numpy.testing._private.utils.runstring": Attack("numpy.testing._private.utils.runstring", CODE, {}),
    "numpy.f2py.diagnose.run_command": Attack("numpy.f2py.diagnose.run_command", f"touch {MARKER}"),
    "numpy.load": Attack("numpy.load", "payload.npy"),
    "copyreg._reconstructor": Attack("copyreg._reconstructor", 1, 2, 3),
    "functools.partial": Attack("functools.partial", 1),
    "operator.methodcaller": Attack("operator.methodcaller", "system"),
    "torch._utils._rebuild_tensor_v2": Attack("torch._utils._rebuild_tensor_v2", 1),
    "torch.storage._load_from_bytes": Attack("torch.storage._load_from_bytes", b""),
    "pickle.loads": Attack("pickle.loads", b""),
    "importlib.import_module": Attack("importlib.import_module", "antigravity"),
    "shutil.rmtree": Attack("shutil.rmtree", "."),
    "ctypes.CDLL": Attack("ctypes.CDLL", "libc.so.6"),
    "timeit.timeit": Attack("timeit.timeit", CODE),
    "numpy.memmap": Attack("numpy.memmap", MARKER, "uint8", "w+", 0, 9),
    "numpy.ctypeslib.load_library": Attack("numpy.ctypeslib.load_library", "libc", "."),
    "pandas.io.pickle.read_pickle": Attack("pandas.io.pickle.read_pickle", "payload.pkl"),
    "a.class.of.nobody.Model": Attack("a.class.of.nobody.Model"),
    "pipelines.untrusted.pickle_objects.Dtype": Attack("pipelines.untrusted.pickle_objects.Dtype", "O"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_refuses_a_payload_by_name_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "features.pkl"
    path.write_bytes(ATTACKS[name].pickled())
    with pytest.raises(pickles.PickleError, match=rf"asks for {name.replace('.', '[.]')}, which is refused"):
        pickles.load(path)
    assert not (tmp_path / MARKER).exists()


# Ways to come by a name and to call it, other than GLOBAL and REDUCE.
TOUCH = b"X\x09\x00\x00\x00touch ran"
OPCODES = {
    "a name in text": b"cos\nsystem\n(Vtouch ran\ntR.",
    "INST": b"(Vtouch ran\nios\nsystem\n.",
    "OBJ": b"\x80\x02(cos\nsystem\n" + TOUCH + b"o.",
    "NEWOBJ": b"\x80\x02csubprocess\nPopen\n" + TOUCH + b"\x85\x81.",
    "NEWOBJ_EX": b"\x80\x04\x8c\x0asubprocess\x8c\x05Popen\x93" + TOUCH + b"\x85}\x92.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + TOUCH + b"\x85R.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93" + TOUCH + b"\x85R.",
    "an attribute of what is allowed": b"\x80\x04\x8c\x08builtins\x8c\x0dset.__class__\x93.",
    "a module's own module": b"\x80\x04\x8c\x05numpy\x8c\x09os.system\x93" + TOUCH + b"\x85R.",
    "an empty name": b"\x80\x04\x8c\x08builtins\x8c\x00\x93.",
    "a name that is no string": b"\x80\x04K\x01K\x02\x93.",
    "an extension's code": b"\x80\x02\x82\x01.",
    "a state for a class": b"\x80\x02cos\nenviron\n}b.",
    "hidden behind an end": b"\x80\x02}0cos\nsystem\n" + TOUCH + b"\x85R.",
}


@pytest.mark.parametrize("name", OPCODES)
def test_refuses_other_ways_to_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "features.pkl"
    path.write_bytes(OPCODES[name])
    with pytest.raises(pickles.PickleError, match=r"which is refused|not a whole pickle"):
        pickles.load(path)
    assert not (tmp_path / MARKER).exists()


def test_the_standard_library_would_run_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The payloads are whole: unpickled without the table, these make the file."""
    monkeypatch.chdir(tmp_path)
    harmful = ("a name in text", "INST", "OBJ", "STACK_GLOBAL", "hidden behind an end")
    payloads = [OPCODES[name] for name in harmful]
    payloads += [ATTACKS[name].pickled() for name in ("posix.system", "builtins.eval", "builtins.exec")]
    for payload in payloads:
        pickle.loads(payload)  # noqa: S301 - our own
        assert (tmp_path / MARKER).exists(), payload
        (tmp_path / MARKER).unlink()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_refuses_a_payload_inside_an_array_of_objects(tmp_path: Path, protocol: int) -> None:
    path, marker = tmp_path / "features.pkl", tmp_path / MARKER
    content = {"train": {"audio": np.zeros(3), "id": np.array([Touch(marker), 1], dtype=object)}}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(pickles.PickleError, match=r"asks for _?io[.]open"):
        pickles.load(path)
    assert not marker.exists()


FORGED = {
    # A type of objects whose flags deny it, so that numpy would take bytes for pointers.
    "flags": array_of(
        dtype_of(b"O8", b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"),
        b"K\x01\x85",
        b"U\x08AAAAAAAA",
    ),
    "too little data": array_of(dtype_of(b"f8"), b"M\xff\xff\x85", b"U\x08AAAAAAAA"),
    "a negative side": array_of(dtype_of(b"f8"), b"J\xff\xff\xff\xff\x85", b"U\x08AAAAAAAA"),
    "a dtype of fields": array_of(dtype_of(b"V8"), b"K\x01\x85", b"U\x08AAAAAAAA"),
    "a subarray in the dtype": array_of(
        dtype_of(b"f8", b"(K\x03U\x01<]NNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"),
        b"K\x01\x85",
        b"U\x08AAAAAAAA",
    ),
    "no dtype": array_of(b"U\x02f8", b"K\x01\x85", b"U\x08AAAAAAAA"),
    "another class": ARRAY.replace(b"cnumpy\nndarray\n", b"N") + b".",
    "the class called": b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.",
    "a set of a number": b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "a changed function": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}U\x09_functionNs\x86b.",
    "a function with attributes": b"\x80\x02c_codecs\nencode\n}U\x01aK\x01sb.",
    "an object outside the file": b"\x80\x02U\x01xQ.",
    "a scalar of objects": b"\x80\x02cnumpy.core.multiarray\nscalar\n"
    + dtype_of(b"O8")
    + b"U\x08AAAAAAAA\x86R.",
    "cut off": pickle.dumps(CONTENT)[:-40],
    "no pickle": b"{'train': 1}",
}


@pytest.mark.parametrize("name", FORGED)
def test_refuses_forged_arrays_and_broken_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / "features.pkl"
    path.write_bytes(FORGED[name])
    with pytest.raises(pickles.PickleError, match=r"features[.]pkl|is refused"):
        pickles.load(path)


def test_refused_files_leave_the_reader_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "features.pkl"
    for content in FORGED.values():
        path.write_bytes(content)
        with pytest.raises(pickles.PickleError):
            pickles.load(path)
    test_reads_what_a_feature_file_holds(tmp_path, 2)


def test_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(pickles.PickleError, match=r"nowhere[.]pkl: cannot be read"):
        pickles.load(tmp_path / "nowhere.pkl")


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, str | None]]:
    """By name of a bomb: the seconds that it took and the error."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, content in (BOMBS | HARMLESS).items():
        (folder / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-m", "tests.pipelines.untrusted.load_bombs", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (lines[-1:], done.stderr)
    return {name: (seconds, error) for name, seconds, error in lines}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_one_line_in_a_short_time_and_in_little_memory(
    read: dict[str, tuple[float, str | None]], name: str
) -> None:
    seconds, error = read[name]
    assert error is not None
    assert f"{name}: " in error
    assert len(error.splitlines()) == 1
    assert len(error) < 700
    assert seconds < 1


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_like_a_bomb_is_read(read: dict[str, tuple[float, str | None]], name: str) -> None:
    assert read[name][1] is None


@pytest.mark.parametrize(
    ("limit", "message"),
    [("MAX_OPCODES", "has more than 100 opcodes"), ("MAX_CONTAINERS", "has more than 100 containers")],
)
def test_opcodes_and_containers_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, message: str
) -> None:
    monkeypatch.setattr(pickle_machine, limit, 100)
    path = tmp_path / "features.pkl"
    path.write_bytes(b"]0" * 101 + b"N.")
    with pytest.raises(pickles.PickleError, match=rf"features[.]pkl: {message}"):
        pickles.load(path)


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(pickles.PickleError, match="/dev/zero: no regular file"):
        pickles.load("/dev/zero")
    with pytest.raises(pickles.PickleError, match="cannot be read"):
        pickles.load(tmp_path)
