"""A plain folder: one CSV beside or above the clips.

path            of the clip, relative to the CSV; empty, or no such column, in a corpus of text alone
text            the transcript; may be empty beside a clip
label           a number on `scale`
split           train, valid or test
group           speaker or source video
id              optional; else the path without its ending, and without a path a digest of the line
label_text, label_audio, label_video    optional, on the same scale
language        optional, such as en
scale           optional; mosi [-3, 3] where it is not given
"""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath

from pipelines.corpora.table import Clip, Corpus, CorpusError, Faults, Line, checked, read_table
from pipelines.row import SCALES, digest

logger = logging.getLogger(__name__)

REQUIRED = ("text", "label", "split", "group")
DEFAULT_SCALE = "mosi"


def read(src: Path, *, name: str = "folder", strict: bool = False) -> Corpus:
    """Read the CSV `src` and find its clips.

    Args:
        src: The CSV.
        name: What the corpus is called, the first part of its ids.
        strict: Refuse the table for a single bad line.

    Raises:
        CorpusError: If the table is malformed or groups cross splits.
    """
    if src.is_dir():
        raise CorpusError(f"{src}: is a folder; name the CSV with path, {', '.join(REQUIRED)}")
    faults = Faults(src)
    lines = read_table(faults, REQUIRED)
    if lines and "path" not in lines[0].values:
        logger.warning("%s: has no column path, so its %d rows are of text alone", src, len(lines))
    clips, bad = faults.sorted_out(
        lines, lambda line: _clip(line, src.parent, name, faults), corpus=name, strict=strict
    )
    corpus = Corpus(
        name=name, root=src.parent, clips=tuple(clips), bad_lines=tuple(bad), official_split=False
    )
    return checked(corpus)


def _clip(line: Line, root: Path, name: str, faults: Faults) -> Clip:
    scale = line.get("scale") or DEFAULT_SCALE
    if scale not in SCALES:
        faults.add(line, f"scale is none of {', '.join(SCALES)}", repr(scale))
        scale = DEFAULT_SCALE
    path = line.get("path")
    named = path.removesuffix(PurePosixPath(path).suffix) or f"text-{digest(dict(line.values))[:12]}"
    return Clip(
        id=f"{name}/{line.get('id') or named}",
        path=root / path if path and (root / path).is_file() else None,
        media_name=path or None,
        text=faults.transcript(line, "text", media=bool(path)),
        label=faults.number(line, "label", scale),
        label_text=faults.optional_number(line, "label_text", scale),
        label_audio=faults.optional_number(line, "label_audio", scale),
        label_video=faults.optional_number(line, "label_video", scale),
        split=faults.split(line, "split"),
        group=faults.required(line, "group"),
        language=line.get("language") or None,
        scale=scale,
        corpus=name,
    )
