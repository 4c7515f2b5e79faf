"""MELD: scenes of the series Friends, with a sentiment for each utterance.

    train_sent_emo.csv  dev_sent_emo.csv  test_sent_emo.csv     anywhere below the folder
    train_splits/dia0_utt0.mp4  dev_splits_complete/...  output_repeated_splits_test/...

Dialogues are numbered from 0 in each split, so a clip belongs to the split that a folder above it names; if
there is only one table, the clips may be in any folder. The sentiments become -1, 0 and 1 on the scale `sims`
[-1, 1]. A clip's group is its speaker: the six friends are in every official split.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

from pipelines.corpora.mediafiles import is_clip
from pipelines.corpora.table import SPLIT_NAMES, Clip, Corpus, CorpusError, Line, ParseErrors, read_table
from pipelines.decoding.utf8 import escaped
from pipelines.errors import listed
from pipelines.row import SPLITS
from pipelines.running.machine_faults import refuse_fault

TABLES = "train_sent_emo.csv, dev_sent_emo.csv or test_sent_emo.csv"
LAYOUT = f"{TABLES} and the clips as dia<D>_utt<U>.* in folders named after the split"
REQUIRED = ("Utterance", "Speaker", "Sentiment", "Dialogue_ID", "Utterance_ID")
SENTIMENTS = {"negative": -1.0, "neutral": 0.0, "positive": 1.0}
_TABLE = "_sent_emo.csv"
_CLIP_NAME = re.compile(r"dia\d+_utt\d+")
# The split of clips that are in no split's folder.
_ANYWHERE = ""

Files = dict[tuple[str, str], Path]


def read(src: Path, *, strict: bool = False) -> Corpus:
    """Read the tables of MELD that are there, and find their clips.

    Args:
        src: The corpus' folder.
        strict: Refuse a table for a single bad line.

    Raises:
        CorpusError: If there is no table or one is malformed.
    """
    paths, unreadable = _below(src)
    tables = {_split_of(path.name): path for path in reversed(paths) if path.name.endswith(_TABLE)}
    tables.pop(_ANYWHERE, None)
    if not tables:
        raise CorpusError(f"{src}: has no table {TABLES}{unreadable}; meld is a folder with {LAYOUT}")
    files = _media_files(src, paths)
    if len(tables) == 1:  # the clips of the only table may be in any folder
        (split,) = tables
        files = {(split, name): path for (own, name), path in files.items() if own == _ANYWHERE} | files
    parts = []
    for split in (name for name in SPLITS if name in tables):
        errors = ParseErrors(tables[split])
        lines = read_table(errors, REQUIRED)
        sought = f"the split {split}{unreadable}"
        clip_of = partial(_clip, split=split, files=files, sought=sought, errors=errors)
        parts.append(errors.clips(lines, clip_of, corpus="meld", strict=strict))
    clips = [clip for good, _ in parts for clip in good]
    bad_lines = [line for _, bad in parts for line in bad]
    return Corpus(name="meld", root=src, clips=clips, bad_lines=bad_lines, official_split=True)


def _clip(line: Line, split: str, files: Files, sought: str, errors: ParseErrors) -> Clip:
    for column in ("Dialogue_ID", "Utterance_ID"):
        if not line.get(column).isdecimal():
            errors.add(line, f"{column} is no number", repr(line.get(column)))
    sentiment = errors.required(line, "Sentiment").lower()
    if sentiment not in SENTIMENTS:
        errors.add(line, f"Sentiment is none of {', '.join(SENTIMENTS)}", repr(sentiment))
    dialogue, utterance = line.get("Dialogue_ID"), line.get("Utterance_ID")
    name = f"dia{dialogue}_utt{utterance}"
    path = files.get((split, name))
    return Clip(
        id=f"meld/{split}_dia{dialogue}/utt{utterance}",
        path=path,
        media_name=f"{name}.* of {sought}",
        text=errors.transcript(line, "Utterance", media=path is not None),
        label=SENTIMENTS.get(sentiment, 0.0),
        split=split,
        group=errors.required(line, "Speaker"),
        language="en",
        scale="sims",
        corpus="meld",
    )


def _below(src: Path) -> tuple[list[Path], str]:
    """All paths below a folder, files before folders; and which folders cannot be read, in words."""
    errors: list[OSError] = []
    files: list[Path] = []
    folders: list[Path] = []
    for root, inside, names in os.walk(src, onerror=errors.append):
        files += (Path(root, name) for name in names)
        folders += (Path(root, name) for name in inside)
    for error in errors:
        refuse_fault(error, str(error.filename))
    told = [f"{escaped(str(error.filename))}: {error.strerror}" for error in errors]
    return sorted(files) + sorted(folders), f" (folders that cannot be read: {listed(told)})" if told else ""


def _media_files(src: Path, paths: list[Path]) -> Files:
    """The clips among the paths below a folder, by split and name; of several of one name the first."""
    files: Files = {}
    for path in paths:
        if is_clip(path) and _CLIP_NAME.fullmatch(path.stem):
            folders = reversed(path.relative_to(src).parts[:-1])
            split = next(filter(None, map(_split_of, folders)), _ANYWHERE)
            files.setdefault((split, path.stem), path)
    return files


def _split_of(name: str) -> str:
    """The split that a file's or folder's name contains; empty if none."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), _ANYWHERE)
