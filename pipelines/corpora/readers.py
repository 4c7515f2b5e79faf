"""The corpora that can be imported, by the name that the command takes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """The clips of a corpus."""
    module, function = READERS[name].split(":")
    return getattr(import_module(f"pipelines.corpora.{module}"), function)(src, **options)
