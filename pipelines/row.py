"""The row: one clip, or one variant of a clip, as every store holds it.

A row in Python is a plain dict with the keys of `FEATURES`. Its media stay encoded,
`{"bytes": b"...", "path": None}` or None, and are decoded by `pipelines.media` alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import datasets

Row = dict[str, Any]
Modality = Literal["text", "audio", "video"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
VariantKind = Literal["video", "audio", "both", "classic"]
VARIANT_KINDS: tuple[VariantKind, ...] = get_args(VariantKind)
Kind = Literal["original", VariantKind]

KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS = ("train", "valid", "test")
MEDIA = ("video", "audio")
QUALITIES = ("quality_video", "quality_audio", "quality_cross", "quality")

# The range of `label` and of the unimodal labels, by the name in the column `scale`.
SCALES: dict[str, tuple[float, float]] = {"mosi": (-3.0, 3.0), "sims": (-1.0, 1.0), "binary": (0.0, 1.0)}

_STRINGS = ("id", "source_id", "kind", "split", "group")
_FLOATS = ("label", "label_text", "label_audio", "label_video")


def features(scores: Iterable[str] = ()) -> datasets.Features:
    """The columns of a store and their types.

    Args:
        scores: Names of the `score_*` columns that the store has beside the fixed ones.
    """
    import datasets

    string, number = datasets.Value("string"), datasets.Value("float32")
    columns: dict[str, Any] = dict.fromkeys(_STRINGS, string)
    columns["video"] = datasets.Video(decode=False)
    columns["audio"] = datasets.Audio(decode=False)
    columns["text"] = string
    columns |= dict.fromkeys(_FLOATS, number)
    columns |= dict.fromkeys(("corpus", "scale", "language"), string)
    columns |= dict.fromkeys(("duration_s", "fps"), number)
    columns["generator"] = string
    columns |= dict.fromkeys(scores, number)
    columns |= dict.fromkeys((*QUALITIES, "weight"), number)
    return datasets.Features(columns)


def new_row(**values: Any) -> Row:
    """A row with every fixed column: `values`, weight 1, and None where nothing was given."""
    row: Row = dict.fromkeys((*_STRINGS, *MEDIA, "text", *_FLOATS, "corpus", "scale", "language"))
    row |= dict.fromkeys(("duration_s", "fps", "generator", *QUALITIES))
    row["weight"] = 1.0
    unknown = set(values) - set(row)
    assert not unknown, f"not columns of a row: {sorted(unknown)}"
    return row | values


def media(encoded: bytes | None) -> dict[str, Any] | None:
    """Encoded bytes as a row holds them; None where there are none."""
    return None if encoded is None else {"bytes": encoded, "path": None}


def variant_id(source_id: str, kind: str, number: int) -> str:
    """The id of the `number`-th variant of a kind, `<source>#<kind>-<number>`."""
    return f"{source_id}#{kind}-{number}"


def effective_size(weights: Iterable[float]) -> float:
    """(Σw)² / Σw²: so many rows of weight 1 would count as much; 0 where no weight is above 0."""
    weights = [*weights]
    squares = math.fsum(weight * weight for weight in weights)
    return math.fsum(weights) ** 2 / squares if squares else 0.0


def digest(value: Any) -> str:
    """SHA-256 of a value's JSON, in hex; equal for equal values whatever their key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def row_seed(seed: int, row_id: str) -> int:
    """The seed of one row's generator, in [0, 2**63).

    Drawn from the run's seed and the row's id alone, so that a result depends on neither
    order, batch size nor the number of workers.
    """
    return int(digest([seed, row_id])[:16], 16) >> 1


def provenance(row: Mapping[str, Any]) -> dict[str, Any]:
    """What `generator` holds: how the row was made, decoded from its JSON."""
    return json.loads(row["generator"]) if row["generator"] else {}
