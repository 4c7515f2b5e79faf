"""MUStARD: sarcasm in television series, 1 for sarcastic and 0 for not.

    sarcasm_data.json           or data/sarcasm_data.json
    split_indices.p             or data/split_indices.p; five folds as indices into the JSON's order
    utterances_final/<id>.mp4   or mmsd_raw_data/utterances_final/<id>.mp4

The official evaluations have no valid split: five folds, in which speakers are in both train and test, and
one speaker-independent split, which tests on Friends and trains on the other series.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.corpora.bounded_text import text_of
from pipelines.corpora.mediafiles import ClipFolders
from pipelines.corpora.table import Clip, Corpus, CorpusError, Line, ParseErrors
from pipelines.decoding.source_file import is_missing, opened
from pipelines.errors import UsageError, reason
from pipelines.media_types import MediaError
from pipelines.untrusted import pickles
from pipelines.untrusted.plain_json import parsed_json

LAYOUT = "sarcasm_data.json, split_indices.p and the clips as utterances_final/<id>.*"
KEYS = ("utterance", "speaker", "show", "sarcasm")
FOLDS = 5
_TEST_SHOW = "FRIENDS"
_TABLE_FOLDERS = (".", "data")
_CLIP_FOLDERS = ("utterances_final", "mmsd_raw_data/utterances_final", "data/utterances_final")


def read(src: Path, *, fold: int = 0, speaker_independent: bool = False, strict: bool = False) -> Corpus:
    """Read MUStARD's annotations and find its clips.

    Args:
        src: The corpus' folder.
        fold: The official fold that is the test split, 0 to 4.
        speaker_independent: Test on Friends and train on the rest, instead of a fold.
        strict: Refuse the annotations for a single bad entry.

    Raises:
        CorpusError: If a file is missing or malformed.
        UsageError: If there is no such fold.
    """
    if not 0 <= fold < FOLDS:
        raise UsageError(f"corpus.fold: {fold} is no fold of MUStARD, 0 to {FOLDS - 1}")
    table = _found(src, _TABLE_FOLDERS, "sarcasm_data.json")
    entries = _entries(table)
    if speaker_independent:
        tested = {index for index, line in enumerate(entries) if line.get("show") == _TEST_SHOW}
    else:
        tested = _fold(_found(src, _TABLE_FOLDERS, "split_indices.p"), fold, len(entries))
    folder = next((src / name for name in _CLIP_FOLDERS if not is_missing(src / name)), None)
    if folder is None:
        raise CorpusError(f"{src}: has no folder {' or '.join(_CLIP_FOLDERS)} with the clips as <id>.mp4")
    errors, folders = ParseErrors(table), ClipFolders()
    splits = iter("test" if index in tested else "train" for index in range(len(entries)))
    clips, bad = errors.clips(
        entries,
        lambda line: _clip(line, next(splits), folder, folders, errors),
        corpus="mustard",
        strict=strict,
    )
    return Corpus(name="mustard", root=src, clips=clips, bad_lines=bad, official_split=True)


def _clip(line: Line, split: str, folder: Path, folders: ClipFolders, errors: ParseErrors) -> Clip:
    show, speaker = errors.required(line, "show"), errors.required(line, "speaker")
    path = folders.find(folder, line.place)
    return Clip(
        id=f"mustard/{show}/{line.place}",
        path=path,
        media_name=folders.told(folder, f"{folder.name}/{line.place}.*"),
        text=errors.transcript(line, "utterance", media=path is not None),
        label=errors.number(line, "sarcasm", "binary"),
        split=split,
        group=f"{show}/{speaker}",
        language="en",
        scale="binary",
        corpus="mustard",
    )


def _entries(path: Path) -> list[Line]:
    try:
        pairs = parsed_json(text_of(path), object_pairs_hook=list)
        if not isinstance(pairs, list) or not pairs or not all(isinstance(pair, tuple) for pair in pairs):
            raise CorpusError(f"{path}: holds no mapping of ids to entries")
        return [Line(key, _values(entry)) for key, entry in pairs]
    except ValueError as error:  # also a number of too many digits
        raise CorpusError(f"{path}: is no JSON in UTF-8 ({reason(error)})") from error


def _values(entry: Any) -> dict[str, str]:
    """The values of an entry under `KEYS` as text, except those that are missing or null."""
    # Objects were read as lists of pairs, so that two entries of one id are not merged silently.
    is_object = isinstance(entry, list) and all(isinstance(pair, tuple) for pair in entry)
    values = dict(entry) if is_object else {}
    given = {name: values[name] for name in KEYS if values.get(name) is not None}
    return {name: str(int(value) if isinstance(value, bool) else value) for name, value in given.items()}


def _fold(path: Path, fold: int, count: int) -> set[int]:
    """The indices of a fold's test split."""
    try:
        opened(path).close()
    except MediaError as error:
        raise CorpusError(str(error)) from error
    folds = pickles.load(path)
    try:
        sides: Sequence[set[int]] = [{int(index) for index in side} for side in folds[fold]]
        train, test = sides
    except (TypeError, ValueError, OverflowError, IndexError, KeyError) as error:
        raise CorpusError(f"{path}: holds no fold {fold} as two arrays of indices ({error})") from error
    if train & test or train | test != set(range(count)):
        raise CorpusError(
            f"{path}: fold {fold} has {len(train)} and {len(test)} indices, which are not the {count} entries"
            " of sarcasm_data.json, each once; the two files belong to different versions"
        )
    return test


def _found(src: Path, folders: Sequence[str], name: str) -> Path:
    places = [src / folder / name for folder in folders]
    for place in places:
        if not is_missing(place):
            return place
    sought = " or ".join(str(place.relative_to(src)) for place in places)
    raise CorpusError(f"{src}: has no {sought}; mustard is a folder with {LAYOUT}")
