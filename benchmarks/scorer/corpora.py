"""The clips that the benchmark corrupts: puppets, talking faces, voices, or those of a store.

Real clips are no part of the project: they are named on the command line, and each becomes a training clip.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.commands import import_puppets
from pipelines import importing
from pipelines.corpora.bounded_text import CorpusError, lines_of
from pipelines.errors import UsageError
from pipelines.media import MediaError, encode_audio, read_audio
from pipelines.settings import parse_stage

Line = Mapping[str, object]


class Corpus(NamedTuple):
    """A store, and what the benchmark knows about its clips."""

    store: Path
    puppets_seed: int | None = None
    """The seed of its puppets, which are drawn again with another mood; None if it has other clips."""
    moods: Mapping[str, str] | None = None
    """The mood of each clip by its id; None if only its label is known."""


def puppets(out: Path, *, clips: int, seed: int) -> Corpus:
    """A corpus of puppets."""
    return Corpus(import_puppets(out, clips=clips, seed=seed), puppets_seed=seed)


def faces(folder: Path, out: Path) -> Corpus:
    """Talking faces in the layout of the MMSA toolkit: `label.csv`, and clips in `Raw/VIDEO/CLIP.*`.

    Raises:
        UsageError: If there is no such table, or it names a clip that is not there.
    """
    lines = [
        {
            "id": f"{line['video_id']}/{line['clip_id']}", "path": _clip(folder, line), "text": line["text"],
            "label": line["label"], "split": "train", "group": line["video_id"],
        }
        for line in _table(folder / "label.csv", ("video_id", "clip_id", "text", "label"))
    ]  # fmt: skip
    return Corpus(_imported(lines, out))


def voices(table: Path, out: Path, *, clips: int) -> Corpus:
    """Acted voices: takes of one sentence by several speakers in several moods, without their video.

    The sentence is the one with the most lines. Of as many speakers as there are moods, or as `clips` need
    for all moods, each take differs from the others in speaker or mood, so that a clip has partners.

    Args:
        table: A CSV in the layout of `daq-msa import folder`, with a column `emotion` and, if there are
            several of an emotion, `intensity`.
        out: Folder of the store and of the audio.
        clips: How many clips, at most.

    Raises:
        UsageError: If the table cannot be read, lacks a column, or names a clip without a sound.
    """
    lines = _table(table, ("id", "path", "text", "label", "group", "emotion"))
    ((sentence, _),) = Counter(line["text"] for line in lines).most_common(1)
    takes: dict[tuple[str, str], dict[str, str]] = {}
    for line in lines:
        if line["text"] == sentence:
            takes.setdefault((line["group"], f"{line['emotion']} {line.get('intensity', '')}".strip()), line)
    chosen = _grid(takes, clips)
    sounds = [_sound(table, line) for line in chosen.values()]
    folder = (out / "audio").resolve()
    folder.mkdir(parents=True)
    for number, sound in enumerate(sounds):
        (folder / f"{number}.flac").write_bytes(sound)
    made = [
        {
            "id": line["id"], "path": folder / f"{number}.flac", "text": sentence,
            "label": line["label"], "split": "train", "group": speaker,
        }
        for number, ((speaker, _), line) in enumerate(chosen.items())
    ]  # fmt: skip
    moods = {f"folder/{line['id']}": mood for (_, mood), line in chosen.items()}
    return Corpus(_imported(made, out), moods=moods)


def _grid(
    takes: Mapping[tuple[str, str], dict[str, str]], clips: int
) -> dict[tuple[str, str], dict[str, str]]:
    """Of takes by speaker and mood, about as many speakers as moods; more speakers once all moods are in."""
    speakers, moods = (sorted({key[at] for key in takes}) for at in (0, 1))
    count = min(len(moods), round(clips**0.5))
    spread = {moods[round(at * (len(moods) - 1) / max(count - 1, 1))] for at in range(count)}
    wanted = [key for speaker in speakers for key in takes if key[0] == speaker and key[1] in spread]
    return {key: takes[key] for key in wanted[:clips]}


def _table(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    try:
        with lines_of(path) as text:
            lines = [*csv.DictReader(text, restval="")]
    except CorpusError as error:
        raise UsageError(str(error)) from error
    missing = [column for column in columns if not lines or column not in lines[0]]
    if missing:
        raise UsageError(f"{path}: lacks the columns {', '.join(missing)}, or has no line; see --help")
    return lines


def _sound(table: Path, line: Mapping[str, str]) -> bytes:
    """The sound of a line's clip, encoded."""
    try:
        return encode_audio(read_audio(table.parent / line["path"]))
    except MediaError as error:
        raise UsageError(f"{error}; {table} names it: mend the clip, or leave its line out") from error


def _clip(folder: Path, line: Mapping[str, str]) -> Path:
    path = next((folder / "Raw" / line["video_id"]).glob(f"{line['clip_id']}.*"), None)
    if path is None:
        raise UsageError(
            f"{folder}: found no Raw/{line['video_id']}/{line['clip_id']}.*, which label.csv names;"
            " add the clip, or leave its line out"
        )
    return path.resolve()


def _imported(lines: Iterable[Line], out: Path) -> Path:
    """A store of these lines of a table in the layout of `daq-msa import folder`."""
    out.mkdir(parents=True, exist_ok=True)
    table = out / "clips.csv"
    lines = [*lines]
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*lines[0]])
        writer.writeheader()
        writer.writerows(lines)
    store = out / "store"
    argv = ["--out", str(store), "--corpus.name", "folder", "--corpus.path", str(table)]
    prog = "python -m pipelines.importing"
    importing.run(parse_stage(importing.ImportConfig, "corpus", argv, prog=prog, needs=("out",)))
    return store
