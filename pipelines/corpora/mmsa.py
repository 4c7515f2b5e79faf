"""The layout of the MMSA collection: CMU-MOSI, CMU-MOSEI and CH-SIMS as many users have them.

    label.csv                   video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode
    Raw/<video_id>/<clip_id>.*  the clips

`label_T`, `label_A`, `label_V` are CH-SIMS' unimodal labels of text, audio and video; in the other corpora
they are empty or missing. A clip's group is its source video. In CH-SIMS' official split, videos are in
several splits; in those of MOSI and MOSEI they are not.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from pipelines.corpora.mediafiles import ClipFolders
from pipelines.corpora.table import Clip, Corpus, CorpusError, Line, ParseErrors, read_table
from pipelines.decoding.source_file import is_missing

LAYOUT = "label.csv and the clips as Raw/<video_id>/<clip_id>.*"
REQUIRED = ("video_id", "clip_id", "text", "label", "mode")
LANGUAGES = {"mosi": "en", "mosei": "en", "sims": "zh"}
SCALES = {"mosi": "mosi", "mosei": "mosi", "sims": "sims"}
OFFICIAL_SPLIT_CROSSES = {"sims"}

# MOSEI numbers its clips, by index or by their start in seconds with `_` for the decimal point.
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
    errors, folders = ParseErrors(src / "label.csv"), ClipFolders()
    if is_missing(errors.path):
        raise CorpusError(
            f"{errors.path}: cannot be read, as there is none; {name} is a folder with {LAYOUT}"
        )
    lines = read_table(errors, REQUIRED)
    if is_missing(src / "Raw"):
        raise CorpusError(f"{src}: has no folder Raw with the clips as Raw/<video_id>/<clip_id>.*")
    clips, bad = errors.clips(
        lines, lambda line: _clip(line, src / "Raw", folders, name, errors), corpus=name, strict=strict
    )
    if not any(clip.text for clip in clips):
        raise CorpusError(
            f"{errors.path}: text is empty in all {len(clips)} lines that can be used; {name} is published"
            " with transcripts, so take its table from there again"
        )
    official = name in OFFICIAL_SPLIT_CROSSES
    return Corpus(name=name, root=src, clips=clips, bad_lines=bad, official_split=official)


mosi = partial(read, name="mosi")
mosei = partial(read, name="mosei")
sims = partial(read, name="sims")


def _clip(line: Line, raw: Path, folders: ClipFolders, name: str, errors: ParseErrors) -> Clip:
    video, clip = errors.name(line, "video_id"), errors.name(line, "clip_id")
    if name == "mosei" and clip and not _MOSEI_CLIP.fullmatch(clip):
        reason = "clip_id is no number, so the id was split at the wrong '_'"
        errors.add(line, reason, f"{video!r} and {clip!r}")
    scale, path = SCALES[name], folders.find(raw / video, clip)
    return Clip(
        id=f"{name}/{video}/{clip}",
        path=path,
        media_name=folders.told(raw / video, f"Raw/{video}/{clip}.*"),
        text=errors.transcript(line, "text", media=path is not None),
        label=errors.number(line, "label", scale),
        label_text=errors.optional_number(line, "label_T", scale),
        label_audio=errors.optional_number(line, "label_A", scale),
        label_video=errors.optional_number(line, "label_V", scale),
        split=errors.split(line, "mode"),
        group=video,
        language=LANGUAGES[name],
        scale=scale,
        corpus=name,
    )
