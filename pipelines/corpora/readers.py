"""The corpora that can be imported, by the name that the command takes."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.corpora import folder, meld, mmsa, mustard
from pipelines.corpora.table import Corpus

# Each takes the corpus' folder (of `folder`: the CSV) and its own options, and returns its clips.
CORPORA: dict[str, Callable[..., Corpus]] = {
    "mosi": mmsa.mosi,
    "mosei": mmsa.mosei,
    "sims": mmsa.sims,
    "mustard": mustard.read,
    "meld": meld.read,
    "folder": folder.read,
}
