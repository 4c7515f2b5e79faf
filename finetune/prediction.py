"""Rate one clip: `daq-msa predict --model DIR CLIP --text "..."`.

The clip is decoded and encoded as by an import with default settings, so that the rating is the one that
`daq-msa evaluate` gives for the same clip in a store.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.decoding.utf8 import is_utf8
from pipelines.errors import RunError, UsageError, call
from pipelines.row import SCALES, Row
from pipelines.untrusted.plain_json import parsed_json

if TYPE_CHECKING:
    from finetune.inputs.chat_encoder import ChatEncoder


def main(argv: list[str]) -> None:
    """Rate a clip and print the rating."""
    options = _options(argv)
    from finetune.model.saved_model import open_model, read_record

    scale = read_record(options.model)["scale"]  # before the clip is decoded, and the model loaded
    row = clip_row(options.clip, options.text, options.language, scale)
    model, encoder, _ = open_model(options.model, options.device)
    low, high = SCALES[scale]
    result = {"rating": None, "scale": scale, "low": low, "high": high} | rate(model, encoder, row)
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
        return
    text = f'the text "{result["text"]}"' if result["text"] else "no text"
    notes = f" ({', '.join(result['notes'])})" if result["notes"] else ""
    rating = "no number" if result["rating"] is None else f"{result['rating']:+.3f}"
    print(
        f"{rating} on the scale {scale}, {low:g} to {high:g}\n"
        f"shown: {result['frames']} frames, {result['sound_s']:.1f} s of sound, {text}{notes}"
    )


def clip_row(path: Path | None, text: str | None, language: str | None, scale: str) -> Row:
    """The row that an import makes of a media file, or of a transcript alone.

    Raises:
        RunError: If the file has neither video nor audio, or cannot be read.
        UsageError: If the file is missing, an argument is not UTF-8, or there is neither file nor text.
    """
    import pyarrow

    from pipelines.corpora.table import Clip, Corpus
    from pipelines.decoding.source_file import is_missing
    from pipelines.importing import ImportClips, ImportConfig, original, plan
    from pipelines.media import MediaError
    from pipelines.row import features

    if path is None and not text:
        raise UsageError("CLIP: neither a media file nor --text was given; give one of them or both")
    if path is not None and is_missing(path):
        raise UsageError(f"CLIP: {path} is no file; give one with video, audio or both")
    for argument, value in {"CLIP": str(path or ""), "--text": text or ""}.items():
        if not is_utf8(value):
            raise UsageError(f"{argument}: {value!a} has bytes that are not UTF-8; write it in UTF-8")
    clip = Clip(
        id=path.name if path else "text",
        path=path,
        text=text or "",
        label=0.0,
        split="test",
        group="",
        language=language,
        scale=scale,
        corpus="clip",
    )
    if path is None:
        row = original(clip)
    else:
        config = ImportConfig(name="folder", path=str(path))
        corpus = Corpus(name="clip", root=path.parent, clips=(clip,), official_split=False)
        try:
            row = ImportClips(config)([task.payload for task in plan(corpus, config)])[0]
        except MediaError as error:
            raise RunError(f"CLIP: {error}") from error
    # As a store returns it: numbers are float32 there.
    return pyarrow.Table.from_pylist([row], schema=features().arrow_schema).to_pylist()[0]


def rate(model: Any, encoder: ChatEncoder, row: Row) -> dict[str, Any]:
    """A model's rating of a row, on its scale, and what it was shown.

    Returns:
        `rating`, None if a model that answers in writing wrote no number; `frames`, `sound_s` and `text` that
        the model was shown; `notes` of the import.
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
    return {
        "rating": None if math.isnan(rating) else rating,
        "frames": 0 if frames is None else len(frames),
        "sound_s": 0.0 if samples is None else len(samples) / SAMPLING_RATE,
        "text": row["text"] if "text" in encoder.modalities and row["text"] else None,
        "notes": parsed_json(row["generator"] or "{}").get("notes", []),
    }


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="daq-msa predict", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "clip", type=Path, nargs="?", metavar="CLIP", help="a media file; optional with --text"
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of a fine-tuned model")
    parser.add_argument("--text", help="what the speaker says")
    parser.add_argument("--language", help="of the question, such as en or zh (default: en)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


if __name__ == "__main__":
    call(main)
