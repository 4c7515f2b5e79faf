"""Whatever a table names, an import goes on: a row that cannot be read is rejected with the reason."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import importing, media
from pipelines.corpora import source
from pipelines.corpora.table import CorpusError
from pipelines.decoding import limits, source_file
from pipelines.decoding.reencoding import reencode
from pipelines.errors import UsageError
from pipelines.importing import main
from pipelines.running.machine_faults import MachineFault
from pipelines.store import StoreReader
from tests import processes
from tests.pipelines.clips import numbered, tone

HEADER = ["path", "text", "label", "split", "group", "id"]
CLIP = media.mux(numbered(5), 10, tone(0.5))
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and files of other kinds")


# Runs a command for which permissions count: root without its rights to pass them over.
PLAIN_ROOT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def write(folder: Path, paths: dict[str, str]) -> Path:
    """A CSV with a row for each id and path."""
    table = folder / "label.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [HEADER, *([path, "hi", 0, "train", name, name] for name, path in paths.items())]
        )
    return table


def run(table: Path, out: Path, name: str = "folder") -> dict[str, tuple[str, str]]:
    """Import; the rejected rows' error and message by id. Every JSON file must be UTF-8."""
    main(["--corpus.name", name, "--corpus.path", str(table), "--out", str(out)])
    for path in out.glob("*.json*"):
        for line in path.read_text(encoding="utf-8").split("\n") if path.suffix == ".jsonl" else ():
            assert not line or json.loads(line)
    lines = (out / "failures.jsonl").read_text(encoding="utf-8").split("\n")
    records = map(json.loads, filter(None, lines))
    return {record["id"].removeprefix(f"{name}/"): (record["error"], record["message"]) for record in records}


def done(out: Path) -> list[str]:
    return [row["id"].removeprefix("folder/") for row in StoreReader(out).rows()]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "good.mkv").write_bytes(CLIP)
    return folder


@pytest.fixture
def bound(corpus: Path) -> Iterator[None]:
    """A socket in the corpus."""
    with socket.socket(socket.AF_UNIX) as made, pytest.MonkeyPatch.context() as patch:
        patch.chdir(corpus)  # a socket's path may have about 100 bytes
        made.bind("socket.mkv")
        yield


@linux
@pytest.mark.usefixtures("bound")
def test_what_is_no_file_on_a_disk_is_a_rejected_row(corpus: Path, tmp_path: Path) -> None:
    (corpus / "folder.mp4").mkdir()
    os.mkfifo(corpus / "pipe.mkv")
    (corpus / "loop.mkv").symlink_to("loop.mkv")
    (corpus / "dangling.mkv").symlink_to("nowhere.mkv")
    (corpus / "memory.mkv").symlink_to("/proc/self/mem")
    (corpus / "whole.mkv").symlink_to(corpus / "good.mkv")
    (corpus / "huge.mkv").touch()
    os.truncate(corpus / "huge.mkv", limits.MAX_BYTES + 1)
    expected = {
        "long": ("a" * 300 + ".mkv", "MediaError", "File name too long"),
        "deep": ("a/" * 3000 + ".mkv", "MediaError", "File name too long"),
        "below a file": ("good.mkv/clip.mkv", "MissingClip", "no media file good.mkv/clip.mkv"),
        "folder": ("folder.mp4", "MediaError", "is a folder, wanted a file"),
        "top": (".", "MediaError", "is a folder, wanted a file"),
        "pipe": ("pipe.mkv", "MediaError", "is a pipe, wanted a file"),
        "socket": ("socket.mkv", "MediaError", "is a socket, wanted a file"),
        "loop": ("loop.mkv", "MediaError", "Too many levels of symbolic links"),
        "dangling": ("dangling.mkv", "MissingClip", "no media file dangling.mkv"),
        "memory": ("memory.mkv", "MediaError", "lies in /proc, wanted a file on a disk"),
        "memory itself": ("/proc/self/mem", "MediaError", "lies in /proc, wanted a file on a disk"),
        "zero": ("/dev/zero", "MediaError", "is a device, wanted a file"),
        "stdin": ("/dev/stdin", "MediaError", "wanted a"),
        "huge": ("huge.mkv", "MediaError", f"the limit is {limits.MAX_BYTES}"),
    }
    good = {
        "good": "good.mkv",
        "absolute": str(corpus / "good.mkv"),
        "up": "../corpus/good.mkv",
        "link": "whole.mkv",
    }
    table = write(corpus, {name: path for name, (path, *_) in expected.items()} | good)
    rejected = run(table, tmp_path / "store")
    assert {name: error for name, (error, _) in rejected.items()} == {
        name: error for name, (_, error, _) in expected.items()
    }
    for name, (_, _, reason) in expected.items():
        assert reason in rejected[name][1], name
    assert done(tmp_path / "store") == list(good)
    (corpus / "folder.mp4").rmdir()
    (corpus / "folder.mp4").write_bytes(CLIP)
    assert set(run(table, tmp_path / "store")) == set(expected) - {"folder"}


def test_texts_that_cannot_be_stored_are_rejected_rows(corpus: Path, tmp_path: Path) -> None:
    table = write(corpus, {"good": "good.mkv", "nul": "good\0.mkv"})
    with table.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(["good.mkv", "h\0i", 0, "train", "someone", "text"])
    rejected = run(table, tmp_path / "store")
    assert rejected == {
        "label.csv:3": ("MalformedLine", r"label.csv, line 3: path holds NUL characters ('good\x00.mkv')"),
        "label.csv:4": ("MalformedLine", r"label.csv, line 4: text holds NUL characters ('h\x00i')"),
    }


def test_line_ends_of_unicode_in_ids_do_not_break_the_records(corpus: Path, tmp_path: Path) -> None:
    table = write(corpus, {"good": "good.mkv", "a\u2028b\x0cc": "gone.mkv"})
    for _ in range(2):
        assert run(table, tmp_path / "store")["a\u2028b\x0cc"][0] == "MissingClip"


def test_half_characters_of_json_are_rejected_rows(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    (folder / "utterances_final").mkdir(parents=True)
    (folder / "utterances_final/1.mkv").write_bytes(CLIP)
    entry = {"utterance": "hi", "speaker": "ann", "show": "FRIENDS", "sarcasm": True}
    entries = {"1": entry, "2": entry | {"utterance": "\ud83d"}, "\udce9": entry}
    (folder / "sarcasm_data.json").write_text(json.dumps(entries))
    arguments = ["--corpus.name", "mustard", "--corpus.path", str(folder), "--out", str(tmp_path / "store")]
    main([*arguments, "--corpus.speaker_independent", "true"])
    records = map(json.loads, (tmp_path / "store/failures.jsonl").read_text(encoding="utf-8").splitlines())
    assert {record["id"]: record["message"].partition(": ")[2] for record in records} == {
        "mustard/sarcasm_data.json:2": r"utterance is not UTF-8 ('\ud83d')",
        r"mustard/sarcasm_data.json:\udce9": r"its id is not UTF-8 ('\udce9')",
    }


@linux
def test_a_folder_whose_name_is_not_utf8_is_a_rejected_row(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    for split, name in (("train", "train"), ("dev", os.fsdecode(b"dev_\xe9"))):
        (folder / name).mkdir(parents=True)
        (folder / name / "dia0_utt0.mkv").write_bytes(CLIP)
        (folder / f"{split}_sent_emo.csv").write_text(
            f"Utterance,Speaker,Sentiment,Dialogue_ID,Utterance_ID\nOh.,{split},positive,0,0\n"
        )
    rejected = run(folder, tmp_path / "store", "meld")
    ((name, (error, message)),) = rejected.items()
    assert (name, error) == ("valid_dia0/utt0", "MediaError")
    assert message.endswith(r"dev_\udce9/dia0_utt0.mkv: its name or folder is not UTF-8; rename it")
    assert "dev_\\udce9" in (tmp_path / "store/failures.jsonl").read_text(encoding="utf-8").replace(
        "\\\\", "\\"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [(PermissionError(errno.EACCES, "Permission denied"), "cannot be read (Permission denied)"), (None, "")],
)
def test_a_file_that_cannot_be_opened_is_a_rejected_row(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | None, told: str
) -> None:
    (corpus / "locked.mkv").write_bytes(CLIP)
    opened = os.open

    def refused(path: Any, *arguments: Any, **options: Any) -> int:
        if error and Path(os.fsdecode(path)).name == "locked.mkv":
            raise error
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refused)
    rejected = run(write(corpus, {"good": "good.mkv", "locked": "locked.mkv"}), tmp_path / "store")
    assert rejected == ({"locked": ("MediaError", f"{corpus / 'locked.mkv'}: {told}")} if error else {})
    monkeypatch.undo()  # as if it could be read now
    assert run(corpus / "label.csv", tmp_path / "store") == {}


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM])
def test_a_fault_of_the_machine_while_a_file_is_hashed_ends_the_run(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def broken(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(source_file.hashlib, "file_digest", broken)
    with pytest.raises(MachineFault, match=r"good\.mkv: OSError: .*; the same command then goes on"):
        run(write(corpus, {"good": "good.mkv"}), tmp_path / "store")
    monkeypatch.undo()
    assert run(corpus / "label.csv", tmp_path / "store") == {}


@linux
def test_files_and_folders_without_permission_are_rejected_rows(tmp_path: Path) -> None:
    prefix = PLAIN_ROOT if os.geteuid() == 0 else ()
    if prefix and not shutil.which(prefix[0]):
        pytest.skip("root reads everything, and there is no setpriv")
    raw, out = tmp_path / "corpus/Raw", tmp_path / "store"
    for name in ("open", "locked", "listed"):
        (raw / name).mkdir(parents=True)
        (raw / name / "1.mkv").write_bytes(CLIP)
    (raw / "open/2.mkv").write_bytes(CLIP)
    named = (("open", 1), ("open", 2), ("locked", 1), ("listed", 1))
    rows = [f"{video},{clip},hi,0,train" for video, clip in named]
    (raw.parent / "label.csv").write_text("\n".join(["video_id,clip_id,text,label,mode", *rows]))
    (raw / "open/2.mkv").chmod(0)
    (raw / "locked").chmod(0)
    (raw / "listed").chmod(0o444)
    command = [
        *prefix,
        sys.executable,
        "-m",
        "pipelines",
        "import",
        "mosi",
        str(raw.parent),
        "--out",
        str(out),
    ]
    command += ["--out", str(out)]
    ended = subprocess.run(command, cwd=processes.ROOT, capture_output=True, text=True, check=False)
    (raw / "locked").chmod(0o755)
    (raw / "listed").chmod(0o755)
    assert ended.returncode == 0, ended.stderr
    told = (out / "failures.jsonl").read_text(encoding="utf-8")
    messages = {record["id"]: record["message"] for record in map(json.loads, told.splitlines())}
    assert set(messages) == {"mosi/open/2", "mosi/locked/1", "mosi/listed/1"}
    assert "2.mkv: cannot be read (Permission denied)" in messages["mosi/open/2"]
    assert "Raw/locked/1.* (the folder cannot be read: Permission denied)" in messages["mosi/locked/1"]
    assert "1.mkv: cannot be read (Permission denied)" in messages["mosi/listed/1"]


def changing(path: Path, **settings: Any) -> Any:
    """As `reencode`, while somebody changes or removes two of the files."""
    made = reencode(path, **settings)
    if path.name == "changed.mkv":
        path.write_bytes(media.mux(numbered(7), 10, tone(0.7)))
    if path.name == "gone.mkv":
        path.unlink()
    return made


def test_a_file_that_changes_while_it_is_read_is_not_stored_under_its_old_digest(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("changed", "gone"):
        shutil.copy(corpus / "good.mkv", corpus / f"{name}.mkv")
    table = write(corpus, {name: f"{name}.mkv" for name in ("good", "changed", "gone")})
    monkeypatch.setattr(importing, "reencode", changing)
    rejected = run(table, tmp_path / "store")
    assert "changed.mkv: was changed while it was imported" in rejected["changed"][1]
    assert "gone.mkv: cannot be read (No such file or directory)" in rejected["gone"][1]
    monkeypatch.undo()
    assert set(run(table, tmp_path / "store")) == {"gone"}
    row = next(StoreReader(tmp_path / "store").rows(["folder/changed"]))
    assert row["duration_s"] == pytest.approx(0.7)
    assert json.loads(row["generator"])["media_sha256"] == source.sha256(corpus / "changed.mkv")


def test_a_file_that_goes_between_hashing_and_decoding_is_a_rejected_row(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(corpus / "good.mkv", corpus / "gone.mkv")
    planned = importing.plan

    def plan(*arguments: Any) -> Any:
        tasks = planned(*arguments)
        (corpus / "gone.mkv").unlink()
        os.mkfifo(corpus / "gone.mkv")
        return tasks

    monkeypatch.setattr(importing, "plan", plan)
    rejected = run(write(corpus, {"good": "good.mkv", "gone": "gone.mkv"}), tmp_path / "store")
    assert rejected == {"gone": ("MediaError", f"{corpus / 'gone.mkv'}: is a pipe, wanted a file")}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "mosi",
            r"label\.csv: cannot be read, as there is none; mosi is a folder with label\.csv and the clips",
        ),
        ("mosei", r"label\.csv: cannot be read, as there is none; mosei is a folder with label\.csv"),
        ("sims", r"label\.csv: cannot be read, as there is none; sims is a folder with label\.csv"),
        ("mustard", r"has no sarcasm_data\.json or data/sarcasm_data\.json; mustard is a folder with"),
        ("meld", r"has no table train_sent_emo\.csv, .*; meld is a folder with train_sent_emo\.csv"),
        ("folder", r"is a folder; name the CSV with path, text"),
    ],
)
def test_folders_without_a_corpus_are_told_at_once(tmp_path: Path, name: str, told: str) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for _ in range(2):  # empty, then with other things
        with pytest.raises(CorpusError, match=told) as caught:
            main(["--corpus.name", name, "--corpus.path", str(folder), "--out", str(tmp_path / "store")])
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)
        (folder / "notes.txt").write_text("notes")
        (folder / "inside/Raw").mkdir(parents=True, exist_ok=True)
    if name != "folder":
        with pytest.raises(CorpusError, match=f"notes.txt: is no folder; {name} is a folder with"):
            main(
                [
                    "--corpus.name",
                    name,
                    "--corpus.path",
                    str(folder / "notes.txt"),
                    "--out",
                    str(tmp_path / "store"),
                ]
            )
    assert not (tmp_path / "store").exists()


MELD = "Utterance,Speaker,Sentiment,Dialogue_ID,Utterance_ID\nOh.,Joey,positive,0,0\n"
MMSA = "video_id,clip_id,text,label,mode\nv,1,hi,0,train\n"


@pytest.mark.parametrize(
    ("name", "table", "text", "looked"),
    [
        ("mosi", "label.csv", MMSA, r"Raw/v/1\.\*"),
        ("mosei", "label.csv", MMSA, r"Raw/v/1\.\*"),
        ("sims", "label.csv", MMSA, r"Raw/v/1\.\*"),
        ("meld", "train_sent_emo.csv", MELD, r"dia0_utt0\.\* of the split train"),
        ("folder", "label.csv", "path,text,label,split,group\nv/1.mp4,hi,0,train,v\n", r"v/1\.mp4"),
    ],
)
def test_a_corpus_without_a_single_clip_is_told_at_once(
    tmp_path: Path, name: str, table: str, text: str, looked: str
) -> None:
    folder = tmp_path / "corpus"
    (folder / "Raw/w").mkdir(parents=True)
    (folder / "Raw/w/1.mp4").write_bytes(b"")
    (folder / table).write_text(text)
    src = folder / table if name == "folder" else folder
    wanted = rf"{folder}: holds none of the 1 clips of its tables, such as {looked}; {name} is a"
    with pytest.raises(CorpusError, match=wanted):
        main(["--corpus.name", name, "--corpus.path", str(src), "--out", str(tmp_path / "store")])
    assert not (tmp_path / "store").exists()


@linux
def test_places_where_no_store_can_be_are_told_at_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write(corpus, {"good": "good.mkv"})
    (tmp_path / "file").write_text("notes")
    (tmp_path / "Raw").mkdir()
    for src, out, told in (
        (table, tmp_path / "file", r"--out: .*file is a file; takes a folder"),
        (table, tmp_path / "file/store", r"--out: .*file is a file; takes a folder"),
        (table, tmp_path / ("a" * 300), r"--out: .*cannot be made \(File name too long\)"),
        (table, Path("/proc/nowhere/store"), r"--out: /proc/nowhere/store cannot be made \(No such file"),
        (table, corpus, r"--out: .*corpus holds the corpus .*label\.csv"),
        (table, tmp_path, r"--out: .* holds the corpus .*label\.csv"),
        (corpus, corpus / "store", r"--out: .*store lies in the corpus' folder .*corpus, in which an import"),
        (
            tmp_path / ("a" * 300),
            tmp_path / "store",
            r"corpus\.path: .* cannot be read \(File name too long\)",
        ),
        (
            tmp_path / "caf\udce9",
            tmp_path / "store",
            r"corpus\.path: '.*caf\\udce9' has bytes that are not UTF-8",
        ),
        (table, tmp_path / "caf\udce9", r"--out: '.*caf\\udce9' has bytes that are not UTF-8"),
    ):
        name = "folder" if src == table else "mosi"
        with pytest.raises(UsageError, match=told) as caught:
            main(["--corpus.name", name, "--corpus.path", str(src), "--out", str(out)])
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match=r"--out: .* cannot be written in"):
        run(table, tmp_path / "new/store")
    assert sorted(path.name for path in corpus.iterdir()) == ["good.mkv", "label.csv"]


def test_a_store_may_lie_beside_its_table(corpus: Path) -> None:
    assert run(write(corpus, {"good": "good.mkv"}), corpus / "store") == {}
