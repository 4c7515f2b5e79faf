"""How each family's towers are called: small functions for the table in `finetune.model.families`.

The output for a clip must depend on that clip alone, in any batch; otherwise it could not be cached.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask

from finetune.inputs.chat_formats import chunked_tokens, pooled_tokens
from finetune.model.parts import AUDIO_TOWER, PROJECTOR, part

Clips = list[Tensor]


def encode_video(model: Any, patches: Tensor, grids: Tensor) -> Clips:
    """The vision tower's output for each clip, (tokens, width)."""
    return list(model.get_video_features(patches, grids).pooler_output)


def encode_video_levels(model: Any, patches: Tensor, grids: Tensor) -> Clips:
    """As `encode_video`, followed by the levels for deeper layers, (tokens, width * (1 + levels))."""
    output = model.get_video_features(patches, grids)
    lengths = [len(clip) for clip in output.pooler_output]
    # Depending on the version of transformers, a level is one tensor or one a clip.
    levels = [level if torch.is_tensor(level) else torch.cat([*level]) for level in output.deepstack_features]
    every = torch.cat([torch.cat([*output.pooler_output]), *levels], dim=-1)
    return list(every.split(lengths))


def encode_audio_packed(model: Any, features: Tensor, mask: Tensor) -> Clips:
    """The output of a tower that packs clips, for each clip, (tokens, width)."""
    output = model.get_audio_features(features, mask).last_hidden_state
    return list(output.split([pooled_tokens(frames) for frames in mask.sum(1).tolist()]))


def encode_audio_chunked(model: Any, features: Tensor, mask: Tensor) -> Clips:
    """The output of Qwen3-Omni's tower for each clip, (tokens, width).

    It cuts audio into chunks of 100 frames and pads the last ones to the longest chunk in the batch, and its
    convolutions see that padding. So a clip shorter than a chunk is encoded alone, the longer ones together:
    each as if it were alone.
    """
    frames = mask.sum(1).tolist()
    long = [index for index, length in enumerate(frames) if length >= 100]
    outputs: dict[int, Tensor] = {}
    for group in [long] * bool(long) + [[index] for index in range(len(frames)) if index not in long]:
        packed = model.get_audio_features(features[group], mask[group]).last_hidden_state
        lengths = [chunked_tokens(frames[index]) for index in group]
        outputs |= dict(zip(group, packed.split(lengths), strict=True))
    return [outputs[index] for index in range(len(frames))]


def encode_audio_padded(model: Any, features: Tensor, mask: Tensor) -> Clips:
    """The output of Qwen2-Audio's tower and projector for each clip, (tokens, width).

    The tower takes spectrograms of one length, and does not mask the silence at their ends by itself.
    """
    tower, projector = part(model, AUDIO_TOWER), part(model, PROJECTOR)
    assert tower is not None
    assert projector is not None
    halved = (mask.sum(1) - 1) // 2 + 1  # frames after the stride of 2
    steps = torch.arange((features.shape[2] - 1) // 2 + 1, device=features.device)
    attended = create_bidirectional_mask(
        config=tower.config,
        inputs_embeds=features.new_zeros(len(features), len(steps), 1, dtype=tower.dtype),
        attention_mask=(steps < halved[:, None]).long(),
    )
    hidden = tower(features, attention_mask=attended).last_hidden_state
    projected = projector(hidden)  # (n, tokens of the longest, width)
    lengths = [pooled_tokens(frames) for frames in mask.sum(1).tolist()]
    return [clip[:length] for clip, length in zip(projected, lengths, strict=True)]
