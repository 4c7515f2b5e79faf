"""Where target voices are found: in the corpus, in a folder of speech, or in a dataset of the Hub."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import provenance
from pipelines.errors import UsageError, reason
from pipelines.row import digest

if TYPE_CHECKING:
    from augment.audio.settings import AudioSettings, VoiceDatasetSettings
    from pipelines.store import StoreReader

CORPUS = "corpus"
"""The setting for the training split's own speakers."""
LIST = "voices.csv"
"""What tells the speakers and their genders in a folder: path, speaker, gender."""
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
SPEAKER_COLUMNS = ("speaker", "speaker_id")
"""Of a dataset; the first that is there counts."""
_WORDS = {"m": "male", "man": "male", "f": "female", "woman": "female"}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A recording of a voice."""

    speaker: str
    name: str
    """The row's id, the file's path in its folder, or its place in a dataset."""
    at: int | Path | bytes
    """A row of the store, a file, or the file's bytes."""
    gender: str | None = None
    """As tagged: male, female, or another word; None where nothing is."""


def clips_of(settings: AudioSettings, reader: StoreReader) -> list[Clip]:
    """The recordings that targets are drawn from.

    Raises:
        UsageError: If `augment.audio.voices` is no bank of voices.
    """
    if settings.voices == CORPUS:
        return of_corpus(reader)
    if _is_dataset(settings.voices):
        return of_dataset(settings.voices, settings.voices_dataset)
    return of_folder(Path(settings.voices))


def contents(settings: AudioSettings) -> str:
    """A digest of what a folder or dataset holds: with other voices, others are drawn."""
    if not _is_dataset(settings.voices):
        return provenance.folder_digest(Path(settings.voices))
    clips = of_dataset(settings.voices, settings.voices_dataset)
    return digest([(clip.name, clip.speaker, clip.gender, _sha256(clip.at)) for clip in clips])


def of_corpus(reader: StoreReader) -> list[Clip]:
    """Rows of the training split's originals that have sound."""
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
    """Files of a folder: those that its list names, or all, a subfolder or a lone file being a speaker.

    Args:
        folder: Of speech.
        setting: That named the folder, for messages.
        choices: What the setting takes, for messages.

    Raises:
        UsageError: If it is no folder, if it has no file, or if its list is wrong.
    """
    if not folder.is_dir():
        raise UsageError(f"{setting}: {folder} is no folder; take {choices}")
    if (folder / LIST).is_file():
        clips = _listed(folder, setting)
    else:
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        clips = [_found(folder, file) for file in files]
    if not clips:
        raise UsageError(
            f"{setting}: {folder} holds no {', '.join(SUFFIXES)} file; put speech there, a"
            f" subfolder a speaker, or name the files in its {LIST}"
        )
    return clips


def _found(folder: Path, file: Path) -> Clip:
    inside = file.relative_to(folder)
    speaker = inside.parts[0] if len(inside.parts) > 1 else file.stem
    return Clip(speaker=speaker, name=inside.as_posix(), at=file)


def _listed(folder: Path, setting: str) -> list[Clip]:
    """The files that a folder's list names."""
    where = f"{setting}: {folder / LIST}"
    with (folder / LIST).open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        missing = {"path", "speaker"} - set(rows.fieldnames or ())
        if missing:
            raise UsageError(
                f"{where}: found the columns {', '.join(rows.fieldnames or ['none'])}, wanted path, speaker"
                " and, if known, gender"
            )
        return [_entry(folder, row, f"{where}, line {rows.line_num}") for row in rows]


def _entry(folder: Path, row: dict[str, str | None], where: str) -> Clip:
    path, speaker = (row["path"] or "").strip(), (row["speaker"] or "").strip()
    if not speaker:
        raise UsageError(f"{where}: no speaker; name who speaks in {path or 'it'}")
    if not (folder / path).is_file():
        raise UsageError(f"{where}: {path!r} is no file; paths are relative to {folder}")
    return Clip(speaker=speaker, name=path, at=folder / path, gender=_gender(row.get("gender")))


@cache
def of_dataset(name: str, settings: VoiceDatasetSettings) -> list[Clip]:
    """The first recordings of a dataset, read once a process.

    Args:
        name: Of the Hub, or a folder of Parquet files.
        settings: Which of its clips.

    Raises:
        UsageError: If it cannot be loaded, or if its columns do not tell sound and speaker.
    """
    try:
        dataset = _loaded(name, settings)
        rows = list(islice(dataset, settings.clips))
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"augment.audio.voices: {name!r} is no folder, and cannot be loaded as a dataset either"
            f" ({reason(error)}); take {CORPUS}, a folder of speech, or a dataset's name, with its subset,"
            " split and revision in augment.audio.voices_dataset"
        ) from error
    speaker = _speaker_column(name, rows)
    named = getattr(dataset.features.get("gender") if dataset.features else None, "names", None)
    return [
        Clip(
            speaker=str(row[speaker]),
            name=f"{settings.split}/{index}",
            at=_bytes(row["audio"]),
            gender=_gender(named[row["gender"]] if named else row.get("gender")),
        )
        for index, row in enumerate(rows)
    ]


def _loaded(name: str, settings: VoiceDatasetSettings) -> Any:
    """The dataset with its sound undecoded."""
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


def _speaker_column(name: str, rows: list[dict[str, Any]]) -> str:
    found = list(rows[0]) if rows else []
    speaker = next((column for column in SPEAKER_COLUMNS if column in found), None)
    if speaker is None or "audio" not in found:
        raise UsageError(
            f"augment.audio.voices: the dataset {name} has the columns {', '.join(found) or 'none'}, wanted"
            f" audio, {' or '.join(SPEAKER_COLUMNS)} and, if known, gender; rename its columns, or save its"
            " sounds as a folder"
        )
    return speaker


def _bytes(audio: dict[str, Any]) -> bytes:
    if audio["bytes"] is not None:
        return audio["bytes"]
    import fsspec

    with fsspec.open(audio["path"], "rb") as file:
        return file.read()


def _is_dataset(voices: str) -> bool:
    """Whether a setting names a dataset: a folder of Parquet files, or what is no path here."""
    path = Path(voices)
    if path.is_dir():
        return not (path / LIST).is_file() and any(path.rglob("*.parquet"))
    return not path.exists() and not path.is_absolute() and voices[:1] not in (".", "~")


def _gender(tag: object) -> str | None:
    """A tag in one spelling; None where it is empty."""
    word = "" if tag is None else str(tag).strip().lower()
    return _WORDS.get(word, word) or None


def _sha256(content: object) -> str:
    assert isinstance(content, bytes)
    return hashlib.sha256(content).hexdigest()
