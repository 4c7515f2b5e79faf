"""A plain folder: one CSV beside or above the clips.

path            of the clip, relative to the CSV
text            the transcript
label           a number on `scale`
split           train, valid or test
group           speaker or source video
id              optional; else the path without its ending
label_text, label_audio, label_video    optional, on the same scale
language        optional, such as en
scale           optional; mosi [-3, 3] where it is not given
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pipelines.corpora.table import Clip, Corpus, CorpusError, Faults, Line, checked, read_table
from pipelines.sample import SCALES

REQUIRED = ("path", "text", "label", "split", "group")
DEFAULT_SCALE = "mosi"


def read(src: Path, *, name: str = "folder") -> Corpus:
    """Read the CSV `src` and find its clips.

    Args:
        src: The CSV.
        name: What the corpus is called, the first part of its ids.

    Raises:
        CorpusError: If the table is malformed or groups cross splits.
    """
    if src.is_dir():
        raise CorpusError(f"{src}: is a folder; name the CSV with {', '.join(REQUIRED)}")
    lines = read_table(src, REQUIRED)
    faults = Faults(src)
    clips = tuple(_clip(line, src.parent, name, faults) for line in lines)
    faults.raise_any()
    return checked(Corpus(name=name, root=src.parent, clips=clips, official_split=False))


def _clip(line: Line, root: Path, name: str, faults: Faults) -> Clip:
    scale = line.get("scale") or DEFAULT_SCALE
    if scale not in SCALES:
        faults.add(line, f"scale is none of {', '.join(SCALES)}", repr(scale))
        scale = DEFAULT_SCALE
    path = faults.required(line, "path")
    clip_id = f"{name}/{line.get('id') or path.removesuffix(PurePosixPath(path).suffix)}"
    faults.unique(line, clip_id)
    return Clip(
        id=clip_id,
        path=root / path if (root / path).is_file() else None,
        text=faults.required(line, "text"),
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
