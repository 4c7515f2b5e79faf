"""The row: one clip, or one variant of a clip, in every store.

A row in Python is a plain dict with the columns of `features`. Its media stay encoded,
`{"bytes": b"...", "path": None}` or None; only `pipelines.media` decodes them.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import TYPE_CHECKING, Any, Literal, get_args

from pipelines.untrusted.plain_json import parsed_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import datasets
    import pyarrow

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
    """The columns of a store and their types, with these `score_*` columns."""
    import datasets

    columns = _columns(datasets.Value("string"), datasets.Value("float32"), scores)
    video, audio = datasets.Video(decode=False), datasets.Audio(decode=False)
    return datasets.Features(columns | {"video": video, "audio": audio})


def arrow_schema() -> pyarrow.Schema:
    """The fixed columns for pyarrow, without an import of `datasets`, which takes 55 MB."""
    import pyarrow

    columns = _columns(pyarrow.string(), pyarrow.float32())
    encoded = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    return pyarrow.schema(columns | dict.fromkeys(MEDIA, encoded))


def _columns(string: Any, number: Any, scores: Iterable[str] = ()) -> dict[str, Any]:
    """The columns in order, each with its type; those of media have none yet."""
    columns = dict.fromkeys(_STRINGS, string) | dict.fromkeys(MEDIA)
    columns["text"] = string
    columns |= dict.fromkeys(_FLOATS, number)
    columns |= dict.fromkeys(("corpus", "scale", "language"), string)
    columns |= dict.fromkeys(("duration_s", "fps"), number)
    columns["generator"] = string
    columns |= dict.fromkeys(scores, number)
    return columns | dict.fromkeys((*QUALITIES, "weight"), number)


def new_row(**values: Any) -> Row:
    """A row with every fixed column: `values`, weight 1, and None for the others."""
    row: Row = dict.fromkeys((*_STRINGS, *MEDIA, "text", *_FLOATS, "corpus", "scale", "language"))
    row |= dict.fromkeys(("duration_s", "fps", "generator", *QUALITIES))
    row["weight"] = 1.0
    unknown = set(values) - set(row)
    assert not unknown, f"not columns of a row: {sorted(unknown)}"
    return row | values


def media(encoded: bytes | None) -> dict[str, Any] | None:
    """A row's value for encoded media, or None."""
    return None if encoded is None else {"bytes": encoded, "path": None}


def variant_id(source_id: str, kind: str, number: int) -> str:
    """The id of the `number`-th variant of a kind, `<source>#<kind>-<number>`."""
    return f"{source_id}#{kind}-{number}"


def is_variant_id(row_id: str) -> bool:
    """Whether an id has the form that `variant_id` gives."""
    return re.search(rf"#({'|'.join(VARIANT_KINDS)})-\d+$", row_id) is not None


def effective_size(weights: Iterable[float]) -> float:
    """(Σw)² / Σw²: the number of rows of weight 1 that would count as much; 0 if all weights are 0."""
    weights = [*weights]
    squares = math.fsum(weight * weight for weight in weights)
    return math.fsum(weights) ** 2 / squares if squares else 0.0


def digest(value: Any) -> str:
    """SHA-256 of a value's JSON, in hex, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def row_seed(seed: int, row_id: str) -> int:
    """The seed of a row's random generator, in [0, 2**63).

    It depends only on the run's seed and the row's id, so that results do not depend on order, batch size or
    number of workers.
    """
    return int(digest([seed, row_id])[:16], 16) >> 1


def provenance(row: Mapping[str, Any]) -> dict[str, Any]:
    """How a row was made: its column `generator`, decoded from JSON."""
    return parsed_json(row["generator"]) if row["generator"] else {}
