"""The corpora that can be imported, by the name that the command takes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import listed

if TYPE_CHECKING:
    from pipelines.corpora.table import Corpus

# Each reader takes the corpus' folder (of `folder`: the CSV) and its own options.
READERS = {
    "mosi": "mmsa:mosi",
    "mosei": "mmsa:mosei",
    "sims": "mmsa:sims",
    "mustard": "mustard:read",
    "meld": "meld:read",
    "folder": "folder:read",
}


def read(name: str, src: Path, **options: Any) -> Corpus:
    """The clips of a corpus.

    Raises:
        CorpusError: If it cannot be imported, or none of its clips is there.
    """
    from pipelines.corpora.table import CorpusError

    module, function = READERS[name].split(":")
    reader = import_module(f"pipelines.corpora.{module}")
    if name != "folder" and not src.is_dir():
        raise CorpusError(f"{src}: is no folder; {name} is a folder with {reader.LAYOUT}")
    corpus: Corpus = getattr(reader, function)(src, **options)
    wanted = reader.LAYOUT if name == "folder" else f"a folder with {reader.LAYOUT}"
    sought = [str(clip.media_name) for clip in corpus.clips]
    if sought and len(corpus.missing) == len(sought):
        raise CorpusError(
            f"{corpus.root}: holds none of the {len(sought)} clips of its tables, such as"
            f" {listed(sought, most=2)}; {name} is {wanted}"
        )
    return corpus
