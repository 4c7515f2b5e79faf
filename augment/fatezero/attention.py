"""Attention and normalisation of a UNet while it inverts or edits a clip.

A batch consists of streams [source, uncond, cond] of F frames each, some of which may be missing. The edit
takes the source's attention from inside the batch, so that no attention map is ever stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from augment.fatezero.prompts import WordPlan

# Attention with more queries is never taken from the source, as at FateZero's 64 x 64 level.
MAX_BORROWED_QUERIES = 32**2
WIDEST_FUSED_HEAD = 256  # the limit of flash attention on GPUs


@dataclass(kw_only=True)
class Control:
    """The state that the UNet's layers read in each pass."""

    keys: torch.Tensor
    """Frames that each frame's self-attention attends to, (F, K)."""
    key_frame_min_channels: int  # in narrower blocks each frame attends to itself only
    words: WordPlan | None = None  # set while the last stream's cross-attention follows the first's
    borrow_self: bool = False  # whether the last stream takes the first's self-attention
    latent_shape: tuple[int, int]  # height and width
    attended: torch.Tensor | None = None
    """Attention to the blended words at each position, (F, 1, h, w); None borrows everywhere."""
    threshold: float = 0.0
    """Share of a frame's strongest attention above which a position keeps its own self-attention."""
    blended: list[int] = field(default_factory=list)  # token positions whose attention is recorded
    recorded: list[torch.Tensor] = field(default_factory=list)
    """The recorded attention of each of the coarsest layers, (F, 1, h, w)."""

    @cached_property
    def key_frames(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The frames that any frame attends to, (U,), and `keys` as indices into them."""
        return self.keys.unique(return_inverse=True)

    @property
    def frames(self) -> int:
        """The number of frames, F."""
        return len(self.keys)

    def shape_of(self, queries: int) -> tuple[int, int]:
        """Height and width of the level that has this number of queries."""
        height, width = self.latent_shape
        while height * width > queries:
            height, width = (height + 1) // 2, (width + 1) // 2
        return height, width

    def mask(self, queries: int) -> torch.Tensor | None:
        """Where a level keeps its own self-attention, 0 or 1, (1, F, 1, N, 1)."""
        if self.attended is None:
            return None
        wide = F.max_pool2d(self.attended, 3, stride=1, padding=1)
        sized = F.interpolate(wide, self.shape_of(queries)).flatten(1)  # (F, N)
        return (sized > self.threshold * sized.amax(dim=1, keepdim=True))[None, :, None, :, None]


def key_table(key_frames: tuple[str | int, ...], frames: int) -> torch.Tensor:
    """The frames that each frame attends to, (F, K).

    Args:
        key_frames: "first", "mid" (frame (F - 1) // 2), "last", or an offset from the frame itself,
            clamped to the clip.
        frames: F.

    Raises:
        ValueError: If a name is unknown or there is none.
    """
    fixed = {"first": 0, "mid": (frames - 1) // 2, "last": frames - 1}
    columns = []
    for key in key_frames:
        if isinstance(key, str) and key not in fixed:
            raise ValueError(f"key_frames: {key!r} is unknown; take first, mid, last or an offset")
        own = torch.arange(frames)
        columns.append(torch.full_like(own, fixed[key]) if isinstance(key, str) else own + key)
    if not columns:
        raise ValueError("key_frames: is empty; name at least one")
    return torch.stack(columns, dim=1).clamp(0, frames - 1)


@dataclass
class SelfAttention:
    """Self-attention over key frames, with the source's queries and keys where they are borrowed."""

    control: Control

    @torch.compiler.disable  # its behaviour depends on the control, and its kernels are fused already
    def __call__(self, attn: Any, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        control = self.control
        states = hidden_states.unflatten(0, (-1, control.frames))  # (S, F, N, C)
        query = _heads(attn, attn.to_q(states))
        if states.shape[-1] < control.key_frame_min_channels:
            key, value = attn.to_k(states), attn.to_v(states)
        else:
            used, table = control.key_frames
            attended = states[:, used]
            # (S, U, N, C) -> (S, F, K, N, C) -> (S, F, K N, C)
            key, value = (project(attended)[:, table].flatten(2, 3) for project in (attn.to_k, attn.to_v))
        key, value = _heads(attn, key), _heads(attn, value)
        if control.borrow_self and states.shape[2] <= MAX_BORROWED_QUERIES:
            mixed = self._borrow(query, key, value)
        else:
            mixed = _attend(query, key, value)
        return _out(attn, mixed)

    def _borrow(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """The source's attention applied to the edit's values too; other streams keep their own."""
        source, borrowed = attend_both(query[:1], key[:1], value[:1], value[-1:])
        mask = self.control.mask(query.shape[-2])
        if mask is None:
            middle = [_attend(query[1:-1], key[1:-1], value[1:-1])] if len(query) > 2 else []
            return torch.cat([source, *middle, borrowed])
        own = _attend(query[1:], key[1:], value[1:])
        return torch.cat([source, own[:-1], torch.where(mask, own[-1:], borrowed)])


@dataclass
class CrossAttention:
    """Cross-attention whose last stream follows the first's where words align."""

    control: Control
    recorded: bool  # whether attention to blended words is recorded

    @torch.compiler.disable
    def __call__(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, *_: Any, **__: Any
    ) -> torch.Tensor:
        control = self.control
        text = encoder_hidden_states
        projected = (attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text))
        query, key, value = (_heads(attn, part.unflatten(0, (-1, control.frames))) for part in projected)
        if self.recorded and control.blended:
            control.recorded.append(self._record(query[0], key[0]))
        if control.words is None or query.shape[-2] > MAX_BORROWED_QUERIES:
            return _out(attn, _attend(query, key, value))
        plan = control.words
        last = _attend(query[:1], key[:1], plan.from_source @ value[-1:])
        if plan.any_own:
            last = last + _attend(query[-1:], key[-1:], plan.own[:, None] * value[-1:])
        return _out(attn, torch.cat([_attend(query[:-1], key[:-1], value[:-1]), last]))

    def _record(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Attention to the blended words, mean over heads, (F, 1, h, w)."""
        maps = (query @ key.mT * query.shape[-1] ** -0.5).float().softmax(dim=-1)
        share = maps[..., self.control.blended].sum(dim=-1).mean(dim=1)
        return share.unflatten(1, self.control.shape_of(query.shape[-2]))[:, None]


class ClipGroupNorm(torch.nn.GroupNorm):
    """Group normalisation with statistics over all frames of a clip; shares the parameters of `other`."""

    def __init__(self, other: torch.nn.GroupNorm, frames: int) -> None:
        super().__init__(other.num_groups, other.num_channels, other.eps, affine=False)
        self.weight, self.bias, self.frames = other.weight, other.bias, frames

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        # (S F, C, h, w) -> (S, C, F, h, w), which torch normalises over F too; the copies are cheap.
        clips = states.unflatten(0, (-1, self.frames)).transpose(1, 2)
        return super().forward(clips).transpose(1, 2).flatten(0, 1)


@contextmanager
def controlled(unet: Any, control: Control) -> Iterator[None]:
    """Let a control steer a UNet's layers; restores the UNet afterwards."""
    processors = unet.attn_processors
    norms = _clip_norms(unet)
    coarsest = _coarsest_level(unet)
    try:
        unet.set_attn_processor(
            {
                name: SelfAttention(control)
                if ".attn1." in name
                else CrossAttention(control, name.startswith(coarsest))
                for name in processors
            }
        )
        for parent, name, norm in norms:
            setattr(parent, name, ClipGroupNorm(norm, control.frames))
        yield
    finally:
        unet.set_attn_processor(processors)
        for parent, name, norm in norms:
            setattr(parent, name, norm)


def _clip_norms(unet: Any) -> list[tuple[torch.nn.Module, str, torch.nn.GroupNorm]]:
    """Normalisations in residual blocks and before the last convolution: parent, attribute, module."""
    from diffusers.models.resnet import ResnetBlock2D

    blocks = [module for module in unet.modules() if isinstance(module, ResnetBlock2D)]
    owners = [*((block, name) for block in blocks for name in ("norm1", "norm2")), (unet, "conv_norm_out")]
    return [(parent, name, getattr(parent, name)) for parent, name in owners]


def _coarsest_level(unet: Any) -> tuple[str, str]:
    """Name prefixes of the coarsest level with cross-attention, without the middle block.

    In Stable Diffusion 1.x these are the 16 x 16 maps of 64 x 64 latents.
    """
    level = max(i for i, block in enumerate(unet.down_blocks) if getattr(block, "has_cross_attention", False))
    return f"down_blocks.{level}.", f"up_blocks.{len(unet.up_blocks) - 1 - level}."


def _heads(attn: Any, states: torch.Tensor) -> torch.Tensor:
    """(S, F, N, C) -> (S, F, heads, N, d)"""
    return states.unflatten(-1, (attn.heads, -1)).transpose(-2, -3)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    """Fused attention, (S, F, heads, N, d)."""
    shape = query.shape[:2]
    query, key, value = (states.flatten(0, 1) for states in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, scale=scale).unflatten(0, shape)


def attend_both(
    query: torch.Tensor, key: torch.Tensor, one: torch.Tensor, other: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same attention applied to two values, with the softmax computed once. Our own construction.

    Fused kernels need values as wide as the keys. The two values are concatenated, and queries and keys
    padded with zeros, which change no product.

    Args:
        query: (S, F, heads, N, d).
        key: (S, F, heads, M, d), as are `one` and `other`.

    Returns:
        The results for `one` and `other`, (S, F, heads, N, d).
    """
    width = query.shape[-1]
    if 2 * width > WIDEST_FUSED_HEAD:
        return _attend(query, key, one), _attend(query, key, other)
    query, key = (F.pad(states, (0, width)) for states in (query, key))
    mixed = _attend(query, key, torch.cat([one, other], dim=-1), scale=width**-0.5)
    return mixed[..., :width], mixed[..., width:]


def _out(attn: Any, mixed: torch.Tensor) -> torch.Tensor:
    """(S, F, heads, N, d) -> (S F, N, C), projected."""
    return attn.to_out[0](mixed.transpose(-2, -3).flatten(-2).flatten(0, 1))
