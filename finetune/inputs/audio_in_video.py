"""Audio tokens interleaved with frames by time, as the omni models were trained on videos with audio.

In an omni model's prompt a clip's audio comes either after all of its frames, between its own special tokens,
or among the frames. Then both pairs of special tokens are around the whole clip, and time decides the order:

    turn      Qwen2.5-Omni: the chunk of some seconds that a token lies in
              Qwen3-Omni: the time of the token itself
    order     tokens of earlier turns first; within a turn video before audio

A token's time is its position on the model's time axis, counted from the clip's beginning: so many
positions a second, and one audio token at each. Both families' processors and `get_rope_index` can do this,
each version under another name; the tests compare this module with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

AUDIO_IN_VIDEO = "audio_in_video"
"""In a model's configuration: whether it was trained this way. A model without the key was."""

Turns = Callable[[Tensor], Tensor]


class Tokens(NamedTuple):
    """A clip's tokens, as far as their order depends on them."""

    grid: tuple[int, int, int]
    """Video tokens along time, height and width."""
    step_s: float
    """Seconds from one video token to the next in time."""
    audio: int
    """Audio tokens."""


@dataclass(frozen=True, kw_only=True)
class Interleaving:
    """How a family interleaves a clip's audio with its frames."""

    begin: str
    """The special tokens before a clip: the video's, then the audio's."""
    end: str
    """The special tokens behind it: the audio's, then the video's."""
    mark_step: int
    """Positions from the first of two such tokens to the second."""
    positions_per_s: float
    turns: Turns
    """The turns of tokens, from their times in positions, both (tokens,)."""
    dtype: torch.dtype
    """Of position ids: whole numbers, rounded down, or fractions."""

    def runs(self, tokens: Tokens) -> list[tuple[bool, int]]:
        """The order of a clip's tokens as runs of one kind: whether it is audio, and its length."""
        steps, height, width = tokens.grid
        is_audio = self._order(tokens) >= steps * height * width
        return [(kind, len(list(run))) for kind, run in groupby(is_audio.tolist())]

    def position_ids(self, tokens: Tokens, before: int, length: int) -> Tensor:
        """Time, height and width of all tokens of a prompt, (3, length).

        Args:
            tokens: The clip's.
            before: Tokens before the first of its marks.
            length: Tokens of the prompt.
        """
        marks = self._line(2) * self.mark_step
        clip = torch.cat([self._video(tokens), self._line(tokens.audio)], dim=1)[:, self._order(tokens)]
        clip = clip + before + 1 + self.mark_step
        # After the last token, though an earlier one of the other kind may have a later position.
        after = clip[:, -1:].amax() + 1
        behind = self._line(length - before - clip.shape[1] - 4) + after + 1 + self.mark_step
        return torch.cat([self._line(before), marks + before, clip, marks + after, behind], dim=1)

    def _order(self, tokens: Tokens) -> Tensor:
        """Indices into the video tokens followed by the audio tokens, in the order of the prompt."""
        steps, height, width = tokens.grid
        video = torch.arange(steps, dtype=torch.float64) * tokens.step_s * self.positions_per_s
        video = video.repeat_interleave(height * width)
        audio = torch.arange(tokens.audio, dtype=torch.float64)
        return torch.argsort(torch.cat([self.turns(video), self.turns(audio)]), stable=True)

    def _video(self, tokens: Tokens) -> Tensor:
        """Positions of the video tokens from 0 on, (3, tokens)."""
        steps, height, width = tokens.grid
        # In float32, like the models: another precision rounds differently.
        times = torch.arange(steps) * torch.tensor(tokens.step_s) * self.positions_per_s
        axes = (times, torch.arange(height), torch.arange(width))
        return torch.stack(torch.meshgrid(*(axis.to(self.dtype) for axis in axes), indexing="ij")).flatten(1)

    def _line(self, count: int) -> Tensor:
        """Consecutive positions from 0 on, (3, count)."""
        return torch.arange(count, dtype=self.dtype).expand(3, -1)


def chunks(positions: int) -> Turns:
    """A token's turn is the chunk of so many positions that it lies in.

    No chunk is skipped: where a step is longer than a chunk, a token further on still opens the next one.
    """

    def turns(times: Tensor) -> Tensor:
        chunk, result = 0, []
        for time in times.tolist():
            chunk += time >= (chunk + 1) * positions
            result.append(chunk)
        return torch.tensor(result)

    return turns


def qwen2_5_omni(config: Any) -> Interleaving:
    """For a configuration of Qwen2.5-Omni: by chunks, both special tokens of a pair at one position."""
    return Interleaving(
        begin="<|vision_bos|><|audio_bos|>",
        end="<|audio_eos|><|vision_eos|>",
        mark_step=0,
        positions_per_s=config.position_id_per_seconds,
        turns=chunks(int(config.position_id_per_seconds * config.seconds_per_chunk)),
        dtype=torch.int64,
    )


def qwen3_omni(config: Any) -> Interleaving:
    """For a configuration of Qwen3-Omni: token by token, with fractional positions."""
    return Interleaving(
        begin="<|vision_start|><|audio_start|>",
        end="<|audio_end|><|vision_end|>",
        mark_step=1,
        positions_per_s=config.position_id_per_seconds,
        turns=lambda times: times,
        dtype=torch.float32,
    )
