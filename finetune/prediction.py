"""What a fine-tuned model says of one clip: `daq-msa predict --model DIR CLIP --text "..."`.

The clip is decoded and encoded as an import with its own defaults does it, so that the rating is the
one that `daq-msa evaluate` gives for the same clip in a store.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import RunError, UsageError, call
from pipelines.row import SCALES, Row

if TYPE_CHECKING:
    from finetune.inputs.chat_encoder import ChatEncoder
    from pipelines.corpora.table import Clip


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What of a clip the model was shown."""

    frames: int
    sound_s: float
    text: str | None
    notes: list[str]
    """What the import found odd."""


def main(argv: list[str]) -> None:
    """Rate a clip and print the rating."""
    options = _options(argv)
    from finetune.model.saved_model import open_model, read_record

    scale = read_record(options.model)["scale"]  # before the clip is decoded, and the model loaded
    row = clip_row(options.clip, options.text, options.language, scale)
    model, encoder, _ = open_model(options.model, options.device)
    rating, shown = rate(model, encoder, row)
    low, high = SCALES[scale]
    told = {"rating": rating, "scale": scale, "low": low, "high": high, **asdict(shown)}
    print(json.dumps(told, ensure_ascii=False) if options.json else _sentence(told))


def clip_row(clip: Path | None, text: str | None, language: str | None, scale: str) -> Row:
    """The row that an import makes of a media file, or of a transcript alone.

    Raises:
        RunError: If the file holds neither picture nor sound, or cannot be read.
        UsageError: If the file is missing, or there is neither file nor text.
    """
    from pipelines.corpora.table import Clip
    from pipelines.importing import original

    if clip is None and not text:
        raise UsageError("CLIP: neither a media file nor --text was given; give one of them or both")
    if clip is not None and not clip.is_file():
        raise UsageError(f"CLIP: {clip} is no file; give one with picture, sound or both")
    said = Clip(
        id=clip.name if clip else "text",
        path=clip,
        text=text or "",
        label=0.0,
        split="test",
        group="",
        language=language,
        scale=scale,
        corpus="clip",
    )
    return as_stored(original(said) if clip is None else _imported(said))


def as_stored(row: Row) -> Row:
    """A row as a store gives it back: numbers are float32 there."""
    import pyarrow

    from pipelines.row import features

    return pyarrow.Table.from_pylist([row], schema=features().arrow_schema).to_pylist()[0]


def _imported(clip: Clip) -> Row:
    from pipelines.corpora.table import Corpus
    from pipelines.importing import ImportClips, ImportConfig, plan
    from pipelines.media import MediaError

    assert clip.path is not None
    config = ImportConfig(name="folder", path=str(clip.path))
    corpus = Corpus(name="clip", root=clip.path.parent, clips=(clip,), official_split=False)
    try:
        return ImportClips(config)([work.payload for work in plan(corpus, config)])[0]
    except MediaError as error:
        raise RunError(f"CLIP: {error}") from error


def rate(model: Any, encoder: ChatEncoder, row: Row) -> tuple[float | None, Shown]:
    """A model's rating of a row, on its scale, and what it was shown of it.

    The rating is None where a model that answers in writing wrote no number.
    """
    import torch

    from finetune.divergence import check_ratings
    from finetune.inputs.batch import collate
    from finetune.inputs.chat_formats import SAMPLING_RATE

    batch = collate([encoder(row)], encoder.processor.tokenizer.pad_token_id)
    device = next(model.parameters()).device
    with torch.no_grad():
        rating = float(model.rate(**{name: value.to(device) for name, value in batch.items()})[0])
    check_ratings(model, [row["id"]], [rating])
    frames, _, samples = encoder.decoded(row, encoder.budget.max_frames)
    return None if math.isnan(rating) else rating, Shown(
        frames=0 if frames is None else len(frames),
        sound_s=0.0 if samples is None else len(samples) / SAMPLING_RATE,
        text=row["text"] if "text" in encoder.modalities and row["text"] else None,
        notes=json.loads(row["generator"] or "{}").get("notes", []),
    )


def _sentence(told: dict[str, Any]) -> str:
    text = f'the text "{told["text"]}"' if told["text"] else "no text"
    notes = f" ({', '.join(told['notes'])})" if told["notes"] else ""
    rating = "no number" if told["rating"] is None else f"{told['rating']:+.3f}"
    return (
        f"{rating} on the scale {told['scale']}, {told['low']:g} to {told['high']:g}\n"
        f"shown: {told['frames']} frames, {told['sound_s']:.1f} s of sound, {text}{notes}"
    )


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="daq-msa predict", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "clip", type=Path, nargs="?", metavar="CLIP", help="a media file; without one, --text alone is rated"
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of a fine-tuned model")
    parser.add_argument("--text", help="what the speaker says")
    parser.add_argument("--language", help="of the question, such as en or zh (default: en)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


if __name__ == "__main__":
    call(main)
