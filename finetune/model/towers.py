"""A model's forward pass in two halves: from clips to embeddings, and from embeddings to hidden states.

`decode(encode_video(…), encode_audio(…))` is the model's own forward pass below its head. Where the towers
are frozen, the embeddings in between can be cached. `model` is the transformers model inside a `PeftModel`,
with its adapter.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from finetune.model.families import known_family
from finetune.model.parts import AUDIO_TOWER, PROJECTOR, VISION_TOWER, part


def encode_video(model: Any, pixel_values_videos: Tensor, video_grid_thw: Tensor) -> list[Tensor]:
    """The vision tower's embeddings of clips.

    Args:
        model: The model.
        pixel_values_videos: All clips' patches, (patches, values of a patch).
        video_grid_thw: (n, 3): patches along time, height and width.

    Returns:
        One tensor a clip, (tokens, channels), in the order of the placeholders. Channels are the language
        model's width, times 1 + the levels that a family passes on to deeper layers.
    """
    encode = known_family(model).encode_video
    assert encode is not None, "this family has no vision tower"
    with _gradients(part(model, VISION_TOWER)):
        return encode(model, pixel_values_videos, video_grid_thw)


def encode_audio(model: Any, input_features: Tensor, feature_attention_mask: Tensor) -> list[Tensor]:
    """The audio tower's embeddings of clips.

    Args:
        model: The model.
        input_features: (n, mel bins, mel frames).
        feature_attention_mask: (n, mel frames), 1 where there is audio.

    Returns:
        One tensor a clip, (tokens, width): the embeddings that replace its placeholders.
    """
    encode = known_family(model).encode_audio
    assert encode is not None, "this family has no audio tower"
    with _gradients(part(model, AUDIO_TOWER), part(model, PROJECTOR)):
        return encode(model, input_features, feature_attention_mask)


def decode(
    model: Any,
    input_ids: Tensor,
    position_ids: Tensor,
    attention_mask: Tensor,
    video_embeds: Sequence[Tensor] = (),
    audio_embeds: Sequence[Tensor] = (),
) -> Tensor:
    """The language model's hidden states, without its head: no logits over the vocabulary.

    Args:
        model: The model.
        input_ids: (B, L).
        position_ids: (3, B, L) or (B, L).
        attention_mask: (B, L).
        video_embeds: From `encode_video`, for the rows with video, in their order.
        audio_embeds: From `encode_audio`, for the rows with audio, in their order.

    Returns:
        The last hidden state, (B, L, width).
    """
    embeds = model.get_input_embeddings()(input_ids)  # (B, L, width)
    more: dict[str, Any] = {}
    if audio_embeds:
        embeds = _filled(embeds, input_ids == model.config.audio_token_id, torch.cat(list(audio_embeds)))
    if video_embeds:
        mask = input_ids == model.config.video_token_id
        first, *deeper = torch.cat(list(video_embeds)).split(embeds.shape[-1], dim=-1)
        embeds = _filled(embeds, mask, first)
        if deeper:
            more = {"visual_pos_masks": mask, "deepstack_visual_embeds": deeper}
    decoder = known_family(model).decoder(model)
    # Language models without position ids, such as BLOOM, take none.
    if "position_ids" in inspect.signature(decoder.forward).parameters:
        more["position_ids"] = position_ids
    return decoder(
        inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False, **more
    ).last_hidden_state


def last_hidden_state(model: Any, **inputs: Tensor) -> Tensor:
    """Both halves at once, from the output of `finetune.inputs.batch.collate`, (B, L, width).

    A tower is skipped if the batch has nothing for it. Where it is trained, other ranks may have something
    for it; `ddp_find_unused_parameters` then lets the gradients be gathered.
    """
    inputs = encode_media(model, **inputs)
    text = (inputs["input_ids"], inputs["position_ids"], inputs["attention_mask"])
    video, audio = ([inputs[name]] if name in inputs else [] for name in ("video_embeds", "audio_embeds"))
    return decode(model, *text, video, audio)


def encode_media(model: Any, **inputs: Tensor) -> dict[str, Tensor]:
    """A batch with `video_embeds` and `audio_embeds` in place of patches and spectrograms, if it has any."""
    batch = dict(inputs)
    if "pixel_values_videos" in batch:
        assert "video_embeds" not in batch, "a batch has either patches or video_embeds"
        patches, grids = batch.pop("pixel_values_videos"), batch.pop("video_grid_thw")
        batch["video_embeds"] = torch.cat(encode_video(model, patches, grids))
    if "input_features" in batch:
        assert "audio_embeds" not in batch, "a batch has either spectrograms or audio_embeds"
        mels, masks = batch.pop("input_features"), batch.pop("feature_attention_mask")
        batch["audio_embeds"] = torch.cat(encode_audio(model, mels, masks))
    return batch


def _gradients(*towers: Any) -> Any:
    """Gradients where they are enabled and a tower is trained; otherwise nothing is kept for them."""
    trained = any(value.requires_grad for tower in towers if tower for value in tower.parameters())
    return torch.set_grad_enabled(trained and torch.is_grad_enabled())


def _filled(embeds: Tensor, mask: Tensor, clips: Tensor) -> Tensor:
    """Embeddings (B, L, width) with the clips' where `mask`, (B, L), is set."""
    assert int(mask.sum()) == len(clips), f"{len(clips)} rows for {int(mask.sum())} placeholders"
    return embeds.masked_scatter(mask.unsqueeze(-1), clips.to(embeds.device, embeds.dtype))
