"""Tables: ids as they are written, and every fault told with its lines."""

from __future__ import annotations

import errno
import io
import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.corpora import bounded_text
from pipelines.corpora.table import Clip, Corpus, CorpusError, Line, ParseErrors, read_table
from pipelines.running.machine_faults import MachineFault

COLUMNS = ("id", "text")


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def clip(group: str, split: str) -> Clip:
    return Clip(
        id=f"c/{group}/{split}", path=None, text="t", label=0, split=split, group=group, language=None,
        scale="mosi", corpus="c",
    )  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_ids_stay_text_whatever_the_line_ends(tmp_path: Path, end: str, mark: bytes) -> None:
    ids = ["007", "-3g5yACwYnA", "1e5", "1.0", "NA", "True", "=1+1"]
    content = end.join(["id,text", *(f'{name},"a, b"' for name in ids)]) + end
    lines = read_table(ParseErrors(write(tmp_path / "t.csv", mark + content.encode())), COLUMNS)
    assert [line.get("id") for line in lines] == ids
    assert {line.get("text") for line in lines} == {"a, b"}
    assert [line.place for line in lines] == [str(number) for number in range(2, 9)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id;text\n1;2\n", "the column id, text is missing; the header has id;text"),
        ("", "the column id, text is missing"),
        ("id,text\n", "has a header and no lines"),
        ("id,text,id\n1,2,3\n", "the column id is in the header more than once"),
        ("id,text\n\xff\n".encode("latin1"), "is not UTF-8"),
        ('id,text\n1,"open\n', "is no CSV, line 2"),
        ("id,text\n1," + "a" * 200_000, "is no CSV, line 2: field larger than field limit"),
        ("id,text\n1,2\n" + "\0" * 2_000_000, "is no CSV, line 3: it has more than 1048576 characters"),
        ("a" * 2_000_000, "is no CSV, line 1: it has more than 1048576 characters"),
        ("id,text\n1,2\n".encode("utf-16-le"), "its header holds NUL characters, as UTF-16 does"),
        ("id,text\n1,2\n".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_tables_that_are_none_are_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_table(ParseErrors(write(tmp_path / "t.csv", content)), COLUMNS)


def test_lines_of_another_length_are_noted_and_left_out(tmp_path: Path) -> None:
    errors = ParseErrors(write(tmp_path / "t.csv", "id,text\n1,2\n1,2,3\n4\n"))
    assert [line.place for line in read_table(errors, COLUMNS)] == ["2"]
    with pytest.raises(
        CorpusError, match=r"has not 2 values as the header: line 3 \(3 values\), 4 \(1 values\)"
    ):
        errors.raise_any()


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"t\.csv: cannot be read \(No such file"):
        read_table(ParseErrors(tmp_path / "t.csv"), COLUMNS)


def test_a_table_is_a_regular_file_of_limited_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(bounded_text.MAX_BYTES + 1)
    for path, told in (
        (tmp_path / "folder.csv", "is a folder, wanted a file"),
        (tmp_path / "pipe.csv", "is a pipe, wanted a file"),
        (Path("/dev/zero"), "is a device, wanted a file"),
        (tmp_path / "large.csv", f"the limit of a table is {bounded_text.MAX_BYTES}"),
        (tmp_path / ("a" * 300), "File name too long"),
    ):
        with pytest.raises(CorpusError, match=told):
            read_table(ParseErrors(path), COLUMNS)

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path = write(tmp_path / "t.csv", "id,text\n1,2\n")
    wrapper = type("Broken", (io.TextIOWrapper,), {"readline": broken})
    monkeypatch.setattr(bounded_text, "io", SimpleNamespace(TextIOWrapper=wrapper))
    with pytest.raises(MachineFault, match=r"t\.csv: OSError: .*check the disk"):
        read_table(ParseErrors(path), COLUMNS)


@pytest.mark.parametrize("value", ["", "good", "3.1", "-3.01", "nan", "inf"])
def test_labels_are_numbers_within_their_scale(value: str) -> None:
    errors = ParseErrors(Path("t.csv"))
    errors.number(Line("2", {"label": value}), "label", "mosi")
    with pytest.raises(CorpusError, match=r"t\.csv: .*label is .*: line 2 \("):
        errors.raise_any()


def test_binary_labels_are_0_or_1() -> None:
    errors = ParseErrors(Path("t.csv"))
    assert errors.number(Line("2", {"label": "1"}), "label", "binary") == 1
    errors.raise_any()
    errors.number(Line("3", {"label": "0.5"}), "label", "binary")
    with pytest.raises(CorpusError, match="outside the scale binary"):
        errors.raise_any()


def test_optional_labels_may_be_lacking_but_not_wrong() -> None:
    errors = ParseErrors(Path("t.csv"))
    assert errors.optional_number(Line("2", {}), "label_T", "sims") is None
    assert errors.optional_number(Line("2", {"label_T": " "}), "label_T", "sims") is None
    errors.raise_any()
    wrong = errors.optional_number(Line("3", {"label_T": "x"}), "label_T", "sims")
    assert wrong is not None
    assert math.isnan(wrong)
    with pytest.raises(CorpusError, match="label_T is not a number"):
        errors.raise_any()


@pytest.mark.parametrize(
    ("name", "split"), [("dev", "valid"), ("VAL", "valid"), ("training", "train"), ("test", "test")]
)
def test_splits_have_one_name(name: str, split: str) -> None:
    assert ParseErrors(Path()).split(Line("2", {"mode": name}), "mode") == split


def test_faults_are_told_together_with_a_few_lines_each() -> None:
    errors = ParseErrors(Path("t.csv"))
    for number in range(2, 12):
        errors.required(Line(str(number), {"text": " "}), "text")
    errors.split(Line("12", {"mode": "tset"}), "mode")
    errors.unique(Line("12", {}), "c/a/1")
    errors.unique(Line("13", {}), "c/a/1")
    with pytest.raises(CorpusError) as caught:
        errors.raise_any()
    assert str(caught.value) == (
        "t.csv: the table is malformed and nothing was imported; text is empty:"
        " line 2, 3, 4, 5, 6 and 5 more;"
        " mode is no split (train, valid or test): line 12 ('tset');"
        " the clip stands in the table already: line 13 (c/a/1, line 12)"
    )


@pytest.mark.parametrize("value", ["../up", "a/b", "a\\b", ".."])
def test_names_are_no_paths(value: str) -> None:
    errors = ParseErrors(Path("t.csv"))
    errors.name(Line("2", {"video_id": value}), "video_id")
    with pytest.raises(CorpusError, match="video_id is a path"):
        errors.raise_any()


def test_groups_cross_only_official_splits() -> None:
    clips = (clip("ann", "train"), clip("ann", "test"), clip("bob", "train"))
    official = Corpus(name="c", root=Path("c"), clips=clips, official_split=True)
    assert official.crossing == {"ann": ("test", "train")}
    with pytest.raises(CorpusError, match=r"groups in more than one split, 1 of them: ann \(test, train\)"):
        Corpus(name="c", root=Path("c"), clips=clips, official_split=False)
