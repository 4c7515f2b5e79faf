"""How each family's towers are asked: small functions for the table in `finetune.model.families`.

What a tower makes of a clip depends on that clip alone, in any batch: else nothing could be kept of it.
"""

from __future__ import annotations

from typing import Any

import torch

from finetune.model.parts import AUDIO_TOWER, PROJECTOR, part

Clips = list[torch.Tensor]


def see(model: Any, patches: torch.Tensor, grids: torch.Tensor) -> Clips:
    """The vision tower's output for each clip, (tokens, width)."""
    return list(model.get_video_features(patches, grids).pooler_output)


def see_levels(model: Any, patches: torch.Tensor, grids: torch.Tensor) -> Clips:
    """As `see`, behind it what deeper layers of the language model get, (tokens, width * (1 + levels))."""
    found = model.get_video_features(patches, grids)
    lengths = [len(clip) for clip in found.pooler_output]
    # Versions of transformers give a level as one tensor or as one a clip.
    levels = [level if torch.is_tensor(level) else torch.cat([*level]) for level in found.deepstack_features]
    every = torch.cat([torch.cat([*found.pooler_output]), *levels], dim=-1)
    return list(every.split(lengths))


def hear_together(model: Any, features: torch.Tensor, mask: torch.Tensor) -> Clips:
    """The output of a tower that packs clips, for each clip, (tokens, width)."""
    from finetune.inputs.chat_formats import pooled_tokens

    found = model.get_audio_features(features, mask).last_hidden_state
    return list(found.split([pooled_tokens(frames) for frames in mask.sum(1).tolist()]))


def hear_short_apart(model: Any, features: torch.Tensor, mask: torch.Tensor) -> Clips:
    """The output of Qwen3-Omni's tower for each clip, (tokens, width).

    It cuts sound into chunks of 100 frames and fills the last ones up to the longest chunk in the batch,
    and its convolutions see that filling. So a clip shorter than a chunk is heard alone, the longer ones
    together: each as if it were alone.
    """
    from finetune.inputs.chat_formats import chunked_tokens

    frames = mask.sum(1).tolist()
    long = [index for index, length in enumerate(frames) if length >= 100]
    found: dict[int, torch.Tensor] = {}
    for group in [long] * bool(long) + [[index] for index in range(len(frames)) if index not in long]:
        packed = model.get_audio_features(features[group], mask[group]).last_hidden_state
        lengths = [chunked_tokens(frames[index]) for index in group]
        found |= dict(zip(group, packed.split(lengths), strict=True))
    return [found[index] for index in range(len(frames))]


def hear_padded(model: Any, features: torch.Tensor, mask: torch.Tensor) -> Clips:
    """The output of Qwen2-Audio's tower and projector for each clip, (tokens, width).

    The tower takes spectrograms of one length, and does not hide the silence at their ends by itself.
    """
    from transformers.masking_utils import create_bidirectional_mask

    from finetune.inputs.chat_formats import pooled_tokens

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
    heard = tower(features, attention_mask=attended).last_hidden_state
    projected = projector(heard)  # (n, tokens of the longest, width)
    lengths = [pooled_tokens(frames) for frames in mask.sum(1).tolist()]
    return [clip[:length] for clip, length in zip(projected, lengths, strict=True)]


def base_model(model: Any) -> Any:
    """Of a model that is nothing but a language model."""
    return model.base_model
