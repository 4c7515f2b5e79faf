"""The layout of the MMSA collection: CMU-MOSI, CMU-MOSEI and CH-SIMS as many users have them.

    label.csv                   video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode
    Raw/<video_id>/<clip_id>.*  the clips

`label_T`, `label_A`, `label_V` are CH-SIMS' labels of text, sound and picture alone; the other
corpora leave them empty or out. A clip's group is its source video. CH-SIMS' official split
cuts through videos; those of MOSI and MOSEI do not.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from pipelines.corpora.mediafiles import ClipFolders
from pipelines.corpora.table import Clip, Corpus, CorpusError, Faults, Line, checked, read_table

REQUIRED = ("video_id", "clip_id", "text", "label", "mode")
LANGUAGES = {"mosi": "en", "mosei": "en", "sims": "zh"}
SCALES = {"mosi": "mosi", "mosei": "mosi", "sims": "sims"}
OFFICIAL_SPLIT_CROSSES = {"sims"}

# MOSEI numbers its clips, by index or by their begin in seconds with `_` for the point.
_MOSEI_CLIP = re.compile(r"\d+(_\d+)?")


def read(src: Path, *, name: str, strict: bool = False) -> Corpus:
    """Read the table of a corpus and find its clips.

    Args:
        src: The folder with `label.csv` and `Raw`.
        name: `mosi`, `mosei` or `sims`.
        strict: Refuse the table for a single bad line.

    Raises:
        CorpusError: If the table is malformed or has no transcript at all, there is no `Raw`, or videos
            cross splits that are not official.
    """
    faults, folders = Faults(src / "label.csv"), ClipFolders()
    lines = read_table(faults, REQUIRED)
    if not (src / "Raw").is_dir():
        raise CorpusError(f"{src}: has no folder Raw with the clips as Raw/<video_id>/<clip_id>.*")
    clips, bad = faults.sorted_out(
        lines, lambda line: _clip(line, src / "Raw", folders, name, faults), corpus=name, strict=strict
    )
    if not any(clip.text for clip in clips):
        raise CorpusError(
            f"{faults.path}: text is empty in all {len(clips)} lines that can be used; {name} is published"
            " with transcripts, so take its table from there again"
        )
    official = name in OFFICIAL_SPLIT_CROSSES
    return checked(
        Corpus(name=name, root=src, clips=tuple(clips), bad_lines=tuple(bad), official_split=official)
    )


mosi = partial(read, name="mosi")
mosei = partial(read, name="mosei")
sims = partial(read, name="sims")


def _clip(line: Line, raw: Path, folders: ClipFolders, name: str, faults: Faults) -> Clip:
    video, clip = faults.name(line, "video_id"), faults.name(line, "clip_id")
    if name == "mosei" and clip and not _MOSEI_CLIP.fullmatch(clip):
        faults.add(
            line, "clip_id is no number, so the id was split at the wrong '_'", f"{video!r} and {clip!r}"
        )
    scale, path = SCALES[name], folders.find(raw / video, clip)
    return Clip(
        id=f"{name}/{video}/{clip}",
        path=path,
        media_name=f"Raw/{video}/{clip}.*",
        text=faults.transcript(line, "text", media=path is not None),
        label=faults.number(line, "label", scale),
        label_text=faults.optional_number(line, "label_T", scale),
        label_audio=faults.optional_number(line, "label_A", scale),
        label_video=faults.optional_number(line, "label_V", scale),
        split=faults.split(line, "mode"),
        group=video,
        language=LANGUAGES[name],
        scale=scale,
        corpus=name,
    )
