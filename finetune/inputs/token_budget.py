"""How a row is brought under `max_tokens`: fewer frames, then less sound, never less text.

Frames are taken at a lower rate over the whole clip and keep their size, down to two. Sound then loses
its end, down to a quarter of a second. What is too long even then is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from finetune.inputs.batch import Budget, Encoded, InputError
from finetune.inputs.chat_formats import MIN_SOUND_S, SAMPLING_RATE, Picture

if TYPE_CHECKING:
    from finetune.inputs.chat_encoder import ChatEncoder, Clip
    from pipelines.row import Row

MIN_FRAMES = 2


def excess(budget: Budget, encoded: Encoded) -> int:
    """Tokens above the budget; 0 or less where it holds."""
    return 0 if budget.max_tokens is None else len(encoded.input_ids) - budget.max_tokens


def fitted(encoder: ChatEncoder, row: Row, clip: Clip, encoded: Encoded) -> Encoded:
    """A row that is too long, shown by less of its clip.

    Args:
        encoder: What encoded it.
        row: The row.
        clip: Its decoded media.
        encoded: What was made of them.

    Raises:
        InputError: If it is too long all the same.
    """
    size = _frame_pixels(encoder, encoded)
    while excess(encoder.budget, encoded) > 0 and clip.frames is not None and len(clip.frames) > MIN_FRAMES:
        count = _fewer_frames(encoder, len(clip.frames), encoded)
        fewer = encoder.decoded(row, count)
        clip = clip._replace(frames=fewer.frames, fps=fewer.fps)
        encoded = encoder.encode_clip(row, clip, size)
    if excess(encoder.budget, encoded) > 0 and clip.samples is not None:
        clip = clip._replace(samples=_less_sound(encoder, clip.samples, encoded))
        encoded = encoder.encode_clip(row, clip, size)
    if excess(encoder.budget, encoded) > 0:
        raise InputError(
            f"{row['id']}: {len(encoded.input_ids)} tokens with the fewest frames and the least sound,"
            f" finetune.max_tokens is {encoder.budget.max_tokens}; raise it, or leave the row out"
        )
    return encoded


def _frame_pixels(encoder: ChatEncoder, encoded: Encoded) -> int | None:
    """Of a frame as it was shown: a family that limits the whole clip would make fewer frames larger."""
    if encoded.video_grid_thw is None:
        return None
    return int(encoded.video_grid_thw[1:].prod()) * encoder.processor.video_processor.patch_size**2


def _fewer_frames(encoder: ChatEncoder, frames: int, encoded: Encoded) -> int:
    """How many frames there is room for, fewer than there are, at least `MIN_FRAMES`."""
    assert encoded.video_grid_thw is not None
    written, counts = encoder.shown(Picture(None, encoded.video_grid_thw, 1.0), None)
    tokens = len(encoder.repeated(encoder.words.own(written), counts))
    steps = int(encoded.video_grid_thw[0])
    dropped = -(-excess(encoder.budget, encoded) * steps // tokens)
    room = (steps - dropped) * encoder.processor.video_processor.temporal_patch_size
    return max(MIN_FRAMES, min(frames - 1, room))


def _less_sound(encoder: ChatEncoder, samples: torch.Tensor, encoded: Encoded) -> torch.Tensor:
    """The beginning of a sound that there is room for, at least `MIN_SOUND_S`."""
    assert encoded.feature_attention_mask is not None
    hop, count = encoder.processor.feature_extractor.hop_length, encoder.audio_chat.count
    frames = int(encoded.feature_attention_mask.sum())
    room = count(frames) - excess(encoder.budget, encoded)
    least = int(MIN_SOUND_S * SAMPLING_RATE) // hop
    kept = next((fewer for fewer in range(frames, least, -1) if count(fewer) <= room), least)
    return samples[: kept * hop]
