"""Sources of target voices: the corpus, a folder of speech, or a dataset."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.corpora.bounded_text import CorpusError, lines_of
from pipelines.corpora.mediafiles import AUDIO_SUFFIXES, is_clip
from pipelines.decoding.container import no_media
from pipelines.decoding.source_file import is_missing, sha256
from pipelines.decoding.utf8 import escaped, is_utf8
from pipelines.errors import UsageError, listed, reason
from pipelines.media_types import MediaError
from pipelines.row import digest
from pipelines.running.machine_faults import refuse_fault

if TYPE_CHECKING:
    from augment.audio.settings import AudioSettings, VoiceDatasetSettings
    from pipelines.store import StoreReader

logger = logging.getLogger(__name__)

CORPUS = "corpus"  # the setting for the training split's own speakers
LIST = "voices.csv"  # the list of a folder's speakers and genders, with columns path, speaker, gender
SPEAKER_COLUMNS = ("speaker", "speaker_id")  # of a dataset; the first that exists is used
_GENDERS = {"m": "male", "man": "male", "f": "female", "woman": "female"}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A recording of a voice."""

    speaker: str
    name: str  # the row's id, the file's path in its folder, or the index in a dataset
    at: int | Path | bytes  # a row of the store, a file, or the file's bytes
    gender: str | None = None  # as tagged: male, female, or another word


def clips_of(settings: AudioSettings, reader: StoreReader) -> list[Clip]:
    """The recordings that targets are drawn from.

    Raises:
        UsageError: If `augment.audio.voices` cannot be used.
    """
    if settings.voices == CORPUS:
        return of_corpus(reader)
    if _is_dataset(settings.voices):
        return of_dataset(settings.voices, settings.voices_dataset)
    folder = Path(settings.voices)
    return _usable(of_folder(folder), folder)


def contents(settings: AudioSettings) -> str:
    """A digest of a folder's or dataset's contents; if they change, other voices are drawn."""
    if not _is_dataset(settings.voices):
        return _folder_digest(Path(settings.voices))
    clips = of_dataset(settings.voices, settings.voices_dataset)
    hashes = [hashlib.sha256(bytes(clip.at)).hexdigest() for clip in clips]
    return digest(
        [(clip.name, clip.speaker, clip.gender, sha) for clip, sha in zip(clips, hashes, strict=True)]
    )


def of_corpus(reader: StoreReader) -> list[Clip]:
    """The originals of the training split that have audio."""
    columns = reader.table.select(["split", "kind", "group", "has_audio", "id"]).to_pydict()
    return [
        Clip(speaker=group, name=row_id, at=index)
        for index, (split, kind, group, has_audio, row_id) in enumerate(zip(*columns.values(), strict=True))
        if split == "train" and kind == "original" and has_audio
    ]


def of_folder(
    folder: Path,
    setting: str = "augment.audio.voices",
    choices: str = f"{CORPUS}, a folder of speech, or a dataset's name",
) -> list[Clip]:
    """The files of a folder that its list names, or all: a subfolder, or a file outside one, is a speaker.

    Args:
        folder: A folder of speech.
        setting: The setting that names the folder, for messages.
        choices: The values that the setting takes, for messages.

    Raises:
        UsageError: If it is no folder, has no files, or its list is wrong.
    """
    try:
        is_folder = folder.is_dir()
    except OSError as error:
        refuse_fault(error, setting)
        raise UsageError(f"{setting}: {folder} cannot be read ({error.strerror}); take {choices}") from error
    if not is_folder:
        raise UsageError(f"{setting}: {folder} is no folder; take {choices}")
    clips = []
    if not is_missing(folder / LIST):
        clips = _listed(folder, setting)
    else:
        files = filter(is_clip, _files(folder, setting))
        for file in (file for file in files if file.suffix.lower() in AUDIO_SUFFIXES):
            inside = file.relative_to(folder)
            speaker = inside.parts[0] if len(inside.parts) > 1 else file.stem
            clips.append(Clip(speaker=speaker, name=inside.as_posix(), at=file))
    if not clips:
        raise UsageError(
            f"{setting}: {folder} holds no {', '.join(AUDIO_SUFFIXES)} file; put speech there, a"
            f" subfolder a speaker, or name the files in its {LIST}"
        )
    return clips


def _files(folder: Path, setting: str) -> list[Path]:
    """The files below a folder, sorted; what cannot be read, or has a name that is not UTF-8, is logged."""
    errors: list[OSError] = []
    paths = [Path(root, name) for root, _, names in os.walk(folder, onerror=errors.append) for name in names]
    for error in errors:
        refuse_fault(error, setting)
    left_out = [f"{escaped(str(error.filename))} cannot be read ({error.strerror})" for error in errors]
    named = [path for path in paths if is_utf8(str(path.relative_to(folder)))]
    left_out += [f"{escaped(str(path))} is not named in UTF-8" for path in paths if path not in named]
    if left_out:
        logger.warning("%s: left out of %s: %s", setting, folder, listed(left_out))
    return sorted(named)


def _folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files, as far as they can be read."""
    digests = {}
    for path in _files(folder, "augment.audio.voices"):
        with suppress(MediaError):
            digests[path.relative_to(folder).as_posix()] = sha256(path)
    return digest(digests)


def _usable(clips: list[Clip], folder: Path) -> list[Clip]:
    """Clips without those that are no media, or cannot be read, which are logged.

    Raises:
        UsageError: If there are no others.
    """
    refused = {clip.name: told for clip in clips if isinstance(clip.at, Path) and (told := _refusal(clip.at))}
    names = listed(f"{name} {told}" for name, told in refused.items())
    if len(refused) == len(clips):
        raise UsageError(f"augment.audio.voices: {folder} holds no speech: {names}; put recordings there")
    if refused:
        logger.warning("augment.audio.voices: %d files of %s are left out: %s", len(refused), folder, names)
    return [clip for clip in clips if clip.name not in refused]


def _refusal(path: Path) -> str | None:
    try:
        return no_media(path)
    except MediaError as error:
        return str(error).removeprefix(f"{escaped(str(path))}: ")


def _listed(folder: Path, setting: str) -> list[Clip]:
    """The files that a folder's list names."""
    try:
        with lines_of(folder / LIST) as lines:
            return _named(csv.DictReader(lines), folder, setting)
    except CorpusError as error:
        raise UsageError(f"{setting}: {error}") from error


def _named(rows: csv.DictReader[str], folder: Path, setting: str) -> list[Clip]:
    clips = []
    if not {"path", "speaker"} <= set(rows.fieldnames or ()):
        raise UsageError(
            f"{setting}: {folder / LIST}: found the columns {', '.join(rows.fieldnames or ['none'])},"
            " wanted path, speaker and, if known, gender"
        )
    for row in rows:
        where = f"{setting}: {folder / LIST}, line {rows.line_num}"
        path, speaker = (row["path"] or "").strip(), (row["speaker"] or "").strip()
        if not speaker:
            raise UsageError(f"{where}: no speaker; name who speaks in {path or 'it'}")
        if not path or is_missing(folder / path):
            raise UsageError(f"{where}: {path!r} is no file; paths are relative to {folder}")
        gender = _gender(row.get("gender"))
        clips.append(Clip(speaker=speaker, name=path, at=folder / path, gender=gender))
    return clips


@cache
def of_dataset(name: str, settings: VoiceDatasetSettings) -> list[Clip]:
    """The first recordings of a dataset, read once per process.

    Args:
        name: A Hub id, or a folder of Parquet files.
        settings: Which of its clips to read.

    Raises:
        UsageError: If it cannot be loaded, or lacks a column for audio or speaker.
    """
    try:
        dataset = _load_undecoded(name, settings)
        rows = list(islice(dataset, settings.clips))
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"augment.audio.voices: {name!r} is no folder, and cannot be loaded as a dataset either"
            f" ({reason(error)}); take {CORPUS}, a folder of speech, or a dataset's name, with its subset,"
            " split and revision in augment.audio.voices_dataset"
        ) from error
    columns = list(rows[0]) if rows else []
    speaker = next((column for column in SPEAKER_COLUMNS if column in columns), None)
    if speaker is None or "audio" not in columns:
        raise UsageError(
            f"augment.audio.voices: the dataset {name} has the columns {', '.join(columns) or 'none'}, wanted"
            f" audio, {' or '.join(SPEAKER_COLUMNS)} and, if known, gender; rename its columns, or save its"
            " sounds as a folder"
        )
    genders = getattr(dataset.features.get("gender") if dataset.features else None, "names", None)
    return [
        Clip(
            speaker=str(row[speaker]),
            name=f"{settings.split}/{index}",
            at=_bytes(row["audio"]),
            gender=_gender(genders[row["gender"]] if genders else row.get("gender")),
        )
        for index, row in enumerate(rows)
    ]


def _load_undecoded(name: str, settings: VoiceDatasetSettings) -> Any:
    """The dataset, with its audio left encoded."""
    import datasets

    dataset = datasets.load_dataset(
        name,
        settings.subset,
        split=settings.split,
        revision=settings.revision,
        streaming=settings.streaming,
    )
    if "audio" in (dataset.column_names or ["audio"]):
        return dataset.cast_column("audio", datasets.Audio(decode=False))
    return dataset


def _bytes(audio: dict[str, Any]) -> bytes:
    if audio["bytes"] is not None:
        return audio["bytes"]
    import fsspec

    with fsspec.open(audio["path"], "rb") as file:
        return file.read()


def _is_dataset(voices: str) -> bool:
    """Whether a setting names a dataset: a folder of Parquet files, or something that is no local path."""
    path = Path(voices)
    if is_missing(path):
        return not path.is_absolute() and voices[:1] not in (".", "~")
    with suppress(OSError):  # told when the folder is read
        return path.is_dir() and is_missing(path / LIST) and any(path.rglob("*.parquet"))
    return False


def _gender(tag: object) -> str | None:
    """A tag in a common spelling; None if it is empty."""
    word = "" if tag is None else str(tag).strip().lower()
    return _GENDERS.get(word, word) or None
