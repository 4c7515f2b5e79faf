"""FateZero as published: the inversion stores every attention map, and the edit reads them.

`augment.fatezero.pipeline` is measured and checked against it: with the same networks and settings, both
make the same frames. Maps are explicit, as in diffusers' plain attention, and stay on the device; the
published code keeps them in main memory. DDIM is diffusers' scheduler. The autoencoder, the prompts, the
choice of key frames, and normalisation over the clip are shared with `augment.fatezero.pipeline`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from augment.fatezero.attention import MAX_BORROWED_QUERIES, Control, controlled, key_table
from augment.fatezero.prompts import align, token_ids, word_positions

if TYPE_CHECKING:
    from augment.fatezero import FateZeroPipeline

Maps = dict[str, torch.Tensor]
"""Maps by layer, (F heads, N, M): N queries over M keys."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """How the cross-attention maps of source and edit are merged."""

    source_of: torch.Tensor
    """The source's column for each column of the edit, (tokens,); -1 keeps the edit's own."""
    weights: torch.Tensor
    """Factors of the merged columns, (tokens,)."""

    def merge(self, source: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Maps of the edit, (F heads, N, tokens), from the source's and its own."""
        taken = source[..., self.source_of.clamp(min=0)]
        return torch.where(self.source_of >= 0, taken, own) * self.weights


@dataclass(kw_only=True)
class Store:
    """The maps of an inversion, and the state that layers read during each pass."""

    control: Control
    """Key frames and sizes."""
    steps: list[Maps] = field(default_factory=list)
    """In the order of the inversion."""
    inverting: bool = True
    """If true, maps are stored; else they are replaced."""
    fetched: Maps = field(default_factory=dict)
    """The source's maps of an edit's step."""
    columns: Columns | None = None
    """Set while cross-attention follows the source."""
    borrow_self: bool = False
    """Whether self-attention is taken from the source."""
    attended: torch.Tensor | None = None
    """Attention on the blended words at this step, (F, 1, h, w); None borrows everywhere."""
    threshold: float = 0.0
    """Share of a frame's strongest attention above which a position keeps its own self-attention."""

    @property
    def bytes(self) -> int:
        """Bytes of all maps."""
        return sum(maps.nbytes for step in self.steps for maps in step.values())

    def visit(self, name: str, maps: torch.Tensor) -> None:
        """Store a layer's maps, or replace those of the last stream in place.

        Args:
            name: The layer.
            maps: (S F heads, N, M).
        """
        if maps.shape[1] > MAX_BORROWED_QUERIES:
            return
        if self.inverting:
            self.steps[-1][name] = maps
        elif ".attn1." in name and self.borrow_self:
            source = self.fetched[name]
            own, mask = maps[-len(source) :], self._mask(source)
            maps[-len(source) :] = source if mask is None else torch.where(mask, own, source)
        elif ".attn2." in name and self.columns is not None:
            source = self.fetched[name]
            maps[-len(source) :] = self.columns.merge(source, maps[-len(source) :])

    def record(self, blended: list[int], step: Maps) -> torch.Tensor:
        """Attention on the words at these positions in the coarsest layers of a step, (F, 1, h, w)."""
        paths = ("down_blocks.", "up_blocks.")
        outer = [maps for name, maps in step.items() if ".attn2." in name and name.startswith(paths)]
        queries = min(maps.shape[1] for maps in outer)
        # (F heads, N, tokens) -> (F, heads, N)
        shares = [
            maps[..., blended].sum(dim=-1).unflatten(0, (self.control.frames, -1))
            for maps in outer
            if maps.shape[1] == queries
        ]
        mean = torch.stack([share.mean(dim=1) for share in shares]).mean(dim=0)
        return mean.unflatten(1, self.control.shape_of(queries))[:, None]

    def _mask(self, maps: torch.Tensor) -> torch.Tensor | None:
        """Where a layer keeps its own self-attention, 0 or 1, (F heads, N, 1)."""
        if self.attended is None:
            return None
        wide = F.max_pool2d(self.attended, 3, stride=1, padding=1)
        sized = F.interpolate(wide, self.control.shape_of(maps.shape[1])).flatten(1)  # (F, N)
        mask = sized / sized.amax(dim=1, keepdim=True) > self.threshold
        return mask.repeat_interleave(len(maps) // len(mask), dim=0)[..., None]


class MapAttention:
    """Attention with explicit maps, which go through a store."""

    def __init__(self, name: str, store: Store) -> None:
        self.name, self.store = name, store

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> torch.Tensor:
        control = self.store.control
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        key, value = attn.to_k(context), attn.to_v(context)
        if encoder_hidden_states is None and context.shape[-1] >= control.key_frame_min_channels:
            # (S F, N, C) -> (S, F, N, C) -> (S, F, K, N, C) -> (S F, K N, C)
            key, value = (
                part.unflatten(0, (-1, control.frames))[:, control.keys].flatten(2, 3).flatten(0, 1)
                for part in (key, value)
            )
        query, key, value = (attn.head_to_batch_dim(part) for part in (attn.to_q(hidden_states), key, value))
        maps = attn.get_attention_scores(query, key)  # (S F heads, N, M)
        self.store.visit(self.name, maps)
        return attn.to_out[0](attn.batch_to_head_dim(maps @ value))


class ReferenceFateZero:
    """Edits clips with the networks of a pipeline."""

    def __init__(self, pipeline: FateZeroPipeline) -> None:
        self.pipeline = pipeline
        self.stored_bytes = 0
        """Bytes of the maps that the last edit stored."""

    @torch.no_grad()
    def __call__(
        self,
        frames: np.ndarray,
        source_prompt: str,
        prompt: str,
        *,
        num_inference_steps: int,
        guidance_scale: float,
        cross_replace: float,
        self_replace: float,
        reweight: dict[str, float],
        key_frames: Sequence[str | int],
        key_frame_min_channels: int,
        blend_words: Sequence[str] | None = None,
        blend_threshold: float | None = 0.3,
    ) -> np.ndarray:
        """Edit a clip; arguments and frames, (F, H, W, 3), as of `FateZeroPipeline` with one prompt."""
        pipeline, steps = self.pipeline, num_inference_steps
        latents = pipeline._encode(frames, None)
        store = Store(
            control=Control(
                keys=key_table(tuple(key_frames), len(frames)).to(latents.device),
                key_frame_min_channels=key_frame_min_channels,
                latent_shape=(latents.shape[-2], latents.shape[-1]),
            ),
            threshold=blend_threshold or 0.0,
        )
        blended = [
            p for word in blend_words or () for p in word_positions(pipeline.tokenizer, source_prompt, word)
        ]
        columns = merged_columns(pipeline.tokenizer, source_prompt, prompt, reweight, latents.device)
        pipeline.scheduler.set_timesteps(steps, device=latents.device)
        words = pipeline._embed(["", source_prompt, prompt])
        # For its normalisation over the clip; it also restores the UNet's processors.
        with controlled(pipeline.unet, store.control):
            pipeline.unet.set_attn_processor(
                {name: MapAttention(name, store) for name in pipeline.unet.attn_processors}
            )
            latents = self._invert(store, latents, words[1:2])
            self.stored_bytes = store.bytes
            for i, timestep in enumerate(pipeline.scheduler.timesteps):
                store.fetched = store.steps[steps - 1 - i]
                store.columns = columns if i < int(cross_replace * (steps + 1)) else None
                store.borrow_self = i < int(steps * self_replace)
                store.attended = store.record(blended, store.fetched) if blended else None
                latents = self._step(store, latents, words[[0, 2]], timestep, guidance_scale)
        return pipeline._decode(latents).numpy()

    def _invert(self, store: Store, latents: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Invert latents to the noisiest step, storing the maps of every step."""
        scheduler = self.pipeline.scheduler
        alphas = [float(scheduler.final_alpha_cumprod)]
        alphas += [float(scheduler.alphas_cumprod[int(timestep)]) for timestep in scheduler.timesteps.flip(0)]
        for i, timestep in enumerate(scheduler.timesteps.flip(0)):
            store.steps.append({})
            noise = self._noise(store, latents, timestep, words)
            clean = (latents - (1 - alphas[i]) ** 0.5 * noise) / alphas[i] ** 0.5
            latents = alphas[i + 1] ** 0.5 * clean + (1 - alphas[i + 1]) ** 0.5 * noise
        store.inverting = False
        return latents

    def _step(
        self,
        store: Store,
        latents: torch.Tensor,
        words: torch.Tensor,
        timestep: torch.Tensor,
        guidance_scale: float,
    ) -> torch.Tensor:
        """Latents one step cleaner; `words` are of [uncond, cond]."""
        if guidance_scale == 1:
            noise = self._noise(store, latents, timestep, words[1:])
        else:
            uncond, cond = self._noise(store, latents.repeat(2, 1, 1, 1), timestep, words).chunk(2)
            noise = uncond + guidance_scale * (cond - uncond)
        return self.pipeline.scheduler.step(noise, timestep, latents).prev_sample

    def _noise(
        self, store: Store, latents: torch.Tensor, timestep: torch.Tensor, words: torch.Tensor
    ) -> torch.Tensor:
        words = words.repeat_interleave(store.control.frames, dim=0)
        return self.pipeline.unet(latents.to(words), timestep, encoder_hidden_states=words).sample.float()


def merged_columns(
    tokenizer: Any, source_prompt: str, prompt: str, reweight: dict[str, float], device: torch.device
) -> Columns:
    """Align two prompts, and set the factors of the second one's words."""
    target = token_ids(tokenizer, prompt)
    source_of = align(token_ids(tokenizer, source_prompt), target)
    source_of += range(len(target), tokenizer.model_max_length)
    weights = torch.ones(len(source_of))
    for word, factor in reweight.items():
        weights[word_positions(tokenizer, prompt, word)] *= factor
    return Columns(source_of=torch.tensor(source_of, device=device), weights=weights.to(device))
