"""Sound and frames of a clip in turn, by time, as the omni models were trained on videos with sound.

An omni model's prompt has a clip's sound either behind all of its frames, between marks of its own, or
among them. Then both pairs of marks stand around the whole, and which token comes next is a matter of time:

    turn      Qwen2.5-Omni: the chunk of some seconds that a token lies in
              Qwen3-Omni: the time of a token itself
    order     tokens of earlier turns first; in one turn the picture's before the sound's

A token's time is its place on the model's axis of time, counted from the clip's beginning: so many places a
second, and one token of sound at each. Both families' processors and `get_rope_index` do this where they are
asked to, each version under another name; the tests hold what is here to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import torch

AUDIO_IN_VIDEO = "audio_in_video"
"""In a model's configuration: whether it was trained this way. What says nothing was."""

Turns = Callable[[torch.Tensor], torch.Tensor]


class Tokens(NamedTuple):
    """A clip's tokens as far as their order depends on them."""

    grid: tuple[int, int, int]
    """Tokens of the picture along time, height and width."""
    step_s: float
    """Seconds from one token of the picture to the next in time."""
    sounds: int
    """Tokens of the sound."""


@dataclass(frozen=True, kw_only=True)
class Interleaving:
    """How a family has a clip's sound among its frames."""

    begin: str
    """The marks before a clip: the picture's, then the sound's."""
    end: str
    """The marks behind it: the sound's, then the picture's."""
    mark_step: int
    """Places from the first of two marks to the second."""
    places_per_s: float
    turns: Turns
    """The turns of tokens, in their order, from their times in places, both (tokens,)."""
    dtype: torch.dtype
    """Of places: whole numbers, rounded down, or fractions."""

    def runs(self, tokens: Tokens) -> list[tuple[bool, int]]:
        """The order of a clip's tokens: runs of one kind, whether it is sound, and how many there are."""
        steps, height, width = tokens.grid
        heard = self._order(tokens) >= steps * height * width
        return [(is_sound, len(list(run))) for is_sound, run in groupby(heard.tolist())]

    def places(self, tokens: Tokens, before: int, length: int) -> torch.Tensor:
        """Time, height and width of all tokens of a prompt, (3, length).

        Args:
            tokens: The clip's.
            before: Tokens before the first of its marks.
            length: Tokens of the prompt.
        """
        marks = self._line(2) * self.mark_step
        clip = torch.cat([self._picture(tokens), self._line(tokens.sounds)], dim=1)[:, self._order(tokens)]
        clip = clip + before + 1 + self.mark_step
        # Behind the last token, though one of the other kind before it may be at a later place.
        after = clip[:, -1:].amax() + 1
        behind = self._line(length - before - clip.shape[1] - 4) + after + 1 + self.mark_step
        return torch.cat([self._line(before), marks + before, clip, marks + after, behind], dim=1)

    def _order(self, tokens: Tokens) -> torch.Tensor:
        """Indices into the picture's tokens and then the sound's, in the order of the prompt."""
        steps, height, width = tokens.grid
        seen = torch.arange(steps, dtype=torch.float64) * tokens.step_s * self.places_per_s
        seen = seen.repeat_interleave(height * width)
        heard = torch.arange(tokens.sounds, dtype=torch.float64)
        return torch.argsort(torch.cat([self.turns(seen), self.turns(heard)]), stable=True)

    def _picture(self, tokens: Tokens) -> torch.Tensor:
        """Places of the picture's tokens from 0 on, (3, tokens)."""
        steps, height, width = tokens.grid
        # In float32, as the models count: another precision rounds another way.
        times = torch.arange(steps) * torch.tensor(tokens.step_s) * self.places_per_s
        axes = (times, torch.arange(height), torch.arange(width))
        return torch.stack(torch.meshgrid(*(axis.to(self.dtype) for axis in axes), indexing="ij")).flatten(1)

    def _line(self, count: int) -> torch.Tensor:
        """Places one after the other from 0 on, (3, count)."""
        return torch.arange(count, dtype=self.dtype).expand(3, -1)


def chunks(places: int) -> Turns:
    """A token's turn is the chunk of so many places that it lies in.

    No chunk is passed over: where a step is longer than a chunk, a token that lies further on opens the
    next one all the same.
    """

    def turns(times: torch.Tensor) -> torch.Tensor:
        chunk, found = 0, []
        for time in times.tolist():
            chunk += time >= (chunk + 1) * places
            found.append(chunk)
        return torch.tensor(found)

    return turns


def qwen2_5_omni(config: Any) -> Interleaving:
    """As a model of Qwen2.5-Omni is configured: by chunks, both marks of a pair in one place."""
    return Interleaving(
        begin="<|vision_bos|><|audio_bos|>",
        end="<|audio_eos|><|vision_eos|>",
        mark_step=0,
        places_per_s=config.position_id_per_seconds,
        turns=chunks(int(config.position_id_per_seconds * config.seconds_per_chunk)),
        dtype=torch.int64,
    )


def qwen3_omni(config: Any) -> Interleaving:
    """As a model of Qwen3-Omni is configured: token by token, fractions of a place."""
    return Interleaving(
        begin="<|vision_start|><|audio_start|>",
        end="<|audio_end|><|vision_end|>",
        mark_step=1,
        places_per_s=config.position_id_per_seconds,
        turns=lambda times: times,
        dtype=torch.float32,
    )
