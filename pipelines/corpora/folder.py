"""A plain folder: one CSV beside or above the clips.

path            the clip, relative to the CSV; empty, or no such column, in a corpus of text only
text            the transcript; may be empty if there is a clip
label           a number on `scale`
split           train, valid or test
group           speaker or source video
id              optional; default: the path without its suffix, or without a path a digest of the line
label_text, label_audio, label_video    optional, on the same scale
language        optional, such as en
scale           optional; default: mosi [-3, 3]

A folder that `pipelines.puppets` wrote holds its record, `puppets.json`: its clips are of the corpus
`puppets`, whose heads are drawn, and all others of `folder`.
"""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath

from pipelines.corpora.table import Clip, Corpus, CorpusError, Line, ParseErrors, read_table
from pipelines.decoding.source_file import is_missing
from pipelines.row import SCALES, digest

logger = logging.getLogger(__name__)

LAYOUT = "a CSV whose column path names the clips, relative to its own folder"
REQUIRED = ("text", "label", "split", "group")
DEFAULT_SCALE = "mosi"
PUPPETS = "puppets.json"


def read(src: Path, *, name: str | None = None, strict: bool = False) -> Corpus:
    """Read a CSV and find its clips.

    Args:
        src: The CSV.
        name: The corpus' name, the first part of its ids; None for `puppets` or `folder`.
        strict: Refuse the table for a single bad line.

    Raises:
        CorpusError: If the table is malformed or groups cross splits.
    """
    if src.is_dir():
        raise CorpusError(f"{src}: is a folder; name the CSV with path, {', '.join(REQUIRED)}")
    errors = ParseErrors(src)
    lines = read_table(errors, REQUIRED)
    name = name or ("puppets" if (src.parent / PUPPETS).is_file() else "folder")
    if lines and "path" not in lines[0].values:
        logger.warning("%s: has no column path, so its %d rows are of text only", src, len(lines))
    clips, bad = errors.clips(
        lines, lambda line: _clip(line, src.parent, name, errors), corpus=name, strict=strict
    )
    return Corpus(name=name, root=src.parent, clips=clips, bad_lines=bad, official_split=False)


def _clip(line: Line, root: Path, name: str, errors: ParseErrors) -> Clip:
    scale = line.get("scale") or DEFAULT_SCALE
    if scale not in SCALES:
        errors.add(line, f"scale is none of {', '.join(SCALES)}", repr(scale))
        scale = DEFAULT_SCALE
    path = line.get("path")
    named = path.removesuffix(PurePosixPath(path).suffix) or f"text-{digest(dict(line.values))[:12]}"
    return Clip(
        id=f"{name}/{line.get('id') or named}",
        path=root / path if path and not is_missing(root / path) else None,
        media_name=path or None,
        text=errors.transcript(line, "text", media=bool(path)),
        label=errors.number(line, "label", scale),
        label_text=errors.optional_number(line, "label_text", scale),
        label_audio=errors.optional_number(line, "label_audio", scale),
        label_video=errors.optional_number(line, "label_video", scale),
        split=errors.split(line, "split"),
        group=errors.required(line, "group"),
        language=line.get("language") or None,
        scale=scale,
        corpus=name,
    )
