"""A model's forward pass in two: what the towers make of clips, and what the language model makes of that.

`read(see(…), hear(…))` is the model's own forward pass below its head. Between the two lies what can be
kept where the towers are frozen. `model` is the model of transformers that a `PeftModel` wraps, its
adapter inside.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from finetune.model.families import known_family
from finetune.model.parts import AUDIO_TOWER, PROJECTOR, VISION_TOWER, part


def see(model: Any, pixel_values_videos: torch.Tensor, video_grid_thw: torch.Tensor) -> list[torch.Tensor]:
    """What the vision tower makes of clips.

    Args:
        model: The model.
        pixel_values_videos: All clips' patches, (patches, values of a patch).
        video_grid_thw: (n, 3): patches along time, height and width.

    Returns:
        One tensor a clip, (tokens, channels), in the order of the placeholders. Channels are the language
        model's width, times 1 + the levels that a family passes on to deeper layers.
    """
    ask = known_family(model).see
    assert ask is not None, "this family sees nothing"
    with _gradients(part(model, VISION_TOWER)):
        return ask(model, pixel_values_videos, video_grid_thw)


def hear(
    model: Any, input_features: torch.Tensor, feature_attention_mask: torch.Tensor
) -> list[torch.Tensor]:
    """What the audio tower makes of clips.

    Args:
        model: The model.
        input_features: (n, mel bins, mel frames).
        feature_attention_mask: (n, mel frames), 1 where there is sound.

    Returns:
        One tensor a clip, (tokens, width): the rows that stand in for its placeholders.
    """
    ask = known_family(model).hear
    assert ask is not None, "this family hears nothing"
    with _gradients(part(model, AUDIO_TOWER), part(model, PROJECTOR)):
        return ask(model, input_features, feature_attention_mask)


def read(
    model: Any,
    input_ids: torch.Tensor,
    position_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    seen: Sequence[torch.Tensor] = (),
    heard: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """What the language model makes of tokens and clips, without its head: no vocabulary of logits.

    Args:
        model: The model.
        input_ids: (B, L).
        position_ids: (3, B, L) or (B, L).
        attention_mask: (B, L).
        seen: Of `see`, of the rows that have a picture, in their order.
        heard: Of `hear`, of the rows that have sound, in their order.

    Returns:
        The last hidden state, (B, L, width).
    """
    embedded = model.get_input_embeddings()(input_ids)  # (B, L, width)
    more: dict[str, Any] = {}
    if heard:
        embedded = _filled(embedded, input_ids == model.config.audio_token_id, torch.cat(list(heard)))
    if seen:
        place = input_ids == model.config.video_token_id
        first, *deeper = torch.cat(list(seen)).split(embedded.shape[-1], dim=-1)
        embedded = _filled(embedded, place, first)
        if deeper:
            more = {"visual_pos_masks": place, "deepstack_visual_embeds": deeper}
    decoder = known_family(model).decoder(model)
    # Language models without places for tokens, such as BLOOM, take none.
    if "position_ids" in inspect.signature(decoder.forward).parameters:
        more["position_ids"] = position_ids
    return decoder(
        inputs_embeds=embedded, attention_mask=attention_mask, use_cache=False, **more
    ).last_hidden_state


def last_hidden_state(model: Any, **inputs: torch.Tensor) -> torch.Tensor:
    """Both halves at once, from the output of `finetune.inputs.batch.collate`, (B, L, width).

    A tower that a batch has nothing for takes no part. Where it is trained, other ranks may have something
    for it: `ddp_find_unused_parameters` then lets the gradients be gathered. A clip made up and multiplied
    by 0 would do as well, and would need one for each family, and its time.
    """
    inputs = asked_once(model, **inputs)
    text = (inputs["input_ids"], inputs["position_ids"], inputs["attention_mask"])
    seen, heard = ([inputs[name]] if name in inputs else [] for name in ("seen", "heard"))
    return read(model, *text, seen, heard)


def asked_once(model: Any, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """A batch with what was `seen` and `heard` in place of patches and spectrograms, if it has any."""
    left = dict(inputs)
    if "pixel_values_videos" in left:
        assert "seen" not in left, "a batch has its pictures as patches or as what was seen, not both"
        left["seen"] = torch.cat(see(model, left.pop("pixel_values_videos"), left.pop("video_grid_thw")))
    if "input_features" in left:
        assert "heard" not in left, "a batch has its sounds as spectrograms or as what was heard, not both"
        left["heard"] = torch.cat(hear(model, left.pop("input_features"), left.pop("feature_attention_mask")))
    return left


def _gradients(*towers: Any) -> Any:
    """Gradients where they are wanted and a tower is trained; else nothing is kept for them."""
    trained = any(value.requires_grad for tower in towers if tower for value in tower.parameters())
    return torch.set_grad_enabled(trained and torch.is_grad_enabled())


def _filled(embedded: torch.Tensor, place: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
    """Embeddings with the clips' rows in their places, (B, L)."""
    assert int(place.sum()) == len(clips), f"{len(clips)} rows for {int(place.sum())} placeholders"
    return embedded.masked_scatter(place.unsqueeze(-1), clips.to(embedded.device, embedded.dtype))
