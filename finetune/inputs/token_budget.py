"""Shortens a row to `max_tokens`: fewer frames, then less audio, never less text.

Frames are taken at a lower rate over the whole clip and keep their size, down to two frames. Then audio loses
its end, down to a quarter of a second. A row that is still too long is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from finetune.inputs.batch import Budget, Encoded, InputError
from finetune.inputs.chat_formats import MIN_AUDIO_S, SAMPLING_RATE, VideoInput

if TYPE_CHECKING:
    from finetune.inputs.chat_encoder import ChatEncoder, Clip
    from pipelines.row import Row

MIN_FRAMES = 2


def excess(budget: Budget, encoded: Encoded) -> int:
    """Tokens above the budget; 0 or less where the row fits."""
    return 0 if budget.max_tokens is None else len(encoded.input_ids) - budget.max_tokens


def fitted(encoder: ChatEncoder, row: Row, clip: Clip, encoded: Encoded) -> Encoded:
    """The input of a row, too long as `encoded`, with less of its clip.

    Raises:
        InputError: If it is still too long.
    """
    size = None
    if encoded.video_grid_thw is not None:
        # Keep the pixels of a frame: a family that limits the whole clip would make fewer frames larger.
        patch_px = encoder.processor.video_processor.patch_size
        size = int(encoded.video_grid_thw[1:].prod()) * patch_px**2
    while excess(encoder.budget, encoded) > 0 and clip.frames is not None and len(clip.frames) > MIN_FRAMES:
        count = _fewer_frames(encoder, len(clip.frames), encoded)
        fewer = encoder.decoded(row, count)
        clip = clip._replace(frames=fewer.frames, fps=fewer.fps)
        encoded = encoder.encode_clip(row, clip, size)
    if excess(encoder.budget, encoded) > 0 and clip.samples is not None:
        clip = clip._replace(samples=_less_audio(encoder, clip.samples, encoded))
        encoded = encoder.encode_clip(row, clip, size)
    if excess(encoder.budget, encoded) > 0:
        raise InputError(
            f"{row['id']}: {len(encoded.input_ids)} tokens with the fewest frames and the least audio,"
            f" finetune.max_tokens is {encoder.budget.max_tokens}; raise it, or leave the row out"
        )
    return encoded


def _fewer_frames(encoder: ChatEncoder, frames: int, encoded: Encoded) -> int:
    """How many frames there is room for: fewer than now, at least `MIN_FRAMES`."""
    assert encoded.video_grid_thw is not None
    text, counts = encoder.shown(VideoInput(None, encoded.video_grid_thw, 1.0), None)
    tokens = len(encoder.repeated(encoder.tokenizer.template(text), counts))
    steps = int(encoded.video_grid_thw[0])
    dropped = -(-excess(encoder.budget, encoded) * steps // tokens)
    room = (steps - dropped) * encoder.processor.video_processor.temporal_patch_size
    return max(MIN_FRAMES, min(frames - 1, room))


def _less_audio(encoder: ChatEncoder, samples: torch.Tensor, encoded: Encoded) -> torch.Tensor:
    """The beginning of the audio that there is room for, at least `MIN_AUDIO_S`."""
    assert encoded.feature_attention_mask is not None
    hop, count = encoder.processor.feature_extractor.hop_length, encoder.audio_chat.count
    frames = int(encoded.feature_attention_mask.sum())
    room = count(frames) - excess(encoder.budget, encoded)
    least = int(MIN_AUDIO_S * SAMPLING_RATE) // hop
    kept = next((fewer for fewer in range(frames, least, -1) if count(fewer) <= room), least)
    return samples[: kept * hop]
