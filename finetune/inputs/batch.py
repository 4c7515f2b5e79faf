"""A model's inputs: the tensors of one row, and rows collated into a batch.

Rows in a batch may lack audio or video. `finetune.inputs.chat_encoder` makes a row into an input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from pipelines.errors import RunError
from pipelines.row import Row

NO_ANSWER = -100
"""Fills the columns where a row has no answer; cross-entropy ignores it."""


class InputError(RunError):
    """A row that cannot be made into an input. The message names its id."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much of a clip the model is shown."""

    video_fps: float
    """Frames a second; fewer where `max_frames` would be passed."""
    max_frames: int
    """Frames of a clip at most."""
    max_audio_s: float
    """Seconds of audio at most; later audio is cut off."""
    max_tokens: int | None = None
    """Tokens of a row at most: a longer row loses frames, then the end of its audio, never its text."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One row as a model's input."""

    input_ids: Tensor
    """(L,), int64."""
    position_ids: Tensor
    """(3, L): time, height, width, int64, or float32 where a family has fractions; (L,), int64, where
    they are consecutive."""
    pixel_values_videos: Tensor | None = None
    """(patches, values of a patch), float32."""
    video_grid_thw: Tensor | None = None
    """(3,), int64: patches along time, height and width."""
    input_features: Tensor | None = None
    """(mel bins, mel frames), float32."""
    feature_attention_mask: Tensor | None = None
    """(mel frames,), int64: 1 where there is audio, 0 in the silence after it."""
    video_embeds: Tensor | None = None
    """Instead of patches and their grid, a frozen vision tower's output, (tokens, channels)."""
    audio_embeds: Tensor | None = None
    """Instead of a spectrogram and its mask, a frozen audio tower's output, (tokens, width)."""
    answer: Tensor | None = None
    """The ids at the end that are the expected answer, (A,), int64."""

    def answered(self, ids: Sequence[int]) -> Encoded:
        """The row with an answer after its prompt."""
        answer = torch.tensor(ids, dtype=torch.int64)
        before = self.position_ids
        behind = before.amax() + 1 + torch.arange(len(ids), dtype=before.dtype)
        return replace(
            self,
            input_ids=torch.cat([self.input_ids, answer]),
            position_ids=torch.cat([before, behind.expand(*before.shape[:-1], -1)], dim=-1),
            answer=answer,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(value.nbytes for value in vars(self).values() if value is not None)


class RowEncoder(Protocol):
    """Makes rows into inputs: a `ChatEncoder`, or a `FrozenTowers` around one."""

    processor: Any
    """The model's; it has a `tokenizer`."""

    def __call__(self, row: Row) -> Encoded: ...

    def many(self, rows: Sequence[Row]) -> list[Encoded]: ...


def collate(rows: Sequence[Encoded], pad_id: int) -> dict[str, Tensor]:
    """Collate rows, padded on the left so that each one's last token is the last column.

    Args:
        rows: Encoded rows, B of them; any of them may lack audio or video.
        pad_id: The id that fills shorter rows.

    Returns:
        input_ids and attention_mask (B, L), position_ids (3, B, L) or (B, L); for the rows with video,
        pixel_values_videos (all patches, values) and video_grid_thw (n, 3); for the rows with audio,
        input_features (n, mel bins, mel frames) and feature_attention_mask (n, mel frames). For rows with
        cached tower outputs, video_embeds and audio_embeds instead, each (all tokens, channels). For rows
        with answers, answers (B, A): `NO_ANSWER` and then a row's own ids, so that they end where input_ids
        do.
    """
    length = max(len(row.input_ids) for row in rows)
    batch = {
        "input_ids": torch.stack([_left_pad(row.input_ids, length, pad_id) for row in rows]),
        "attention_mask": torch.stack([_left_pad(torch.ones_like(row.input_ids), length, 0) for row in rows]),
        "position_ids": torch.stack([_left_pad(row.position_ids, length, 1) for row in rows], dim=-2),
    }
    for name, join in JOINS.items():
        present = [value for row in rows if (value := getattr(row, name)) is not None]
        if present:
            batch[name] = join(present)
    answers = [row.answer for row in rows if row.answer is not None]
    if answers:
        assert len(answers) == len(rows), "all rows of a batch have an answer, or none has"
        length = max(len(answer) for answer in answers)
        batch["answers"] = torch.stack([_left_pad(answer, length, NO_ANSWER) for answer in answers])
    return batch


def _left_pad(values: Tensor, length: int, fill: int) -> Tensor:
    return torch.nn.functional.pad(values, (length - values.shape[-1], 0), value=fill)


def padded(values: Sequence[Tensor]) -> Tensor:
    """Tensors (..., T) of several lengths as one, (n, ..., longest T), the shorter ones padded with zeros."""
    length = max(one.shape[-1] for one in values)
    return torch.stack([torch.nn.functional.pad(one, (0, length - one.shape[-1])) for one in values])


# How values that not every row has are collated.
JOINS: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "pixel_values_videos": torch.cat,
    "video_grid_thw": torch.stack,
    "input_features": padded,
    "feature_attention_mask": padded,
    "video_embeds": torch.cat,
    "audio_embeds": torch.cat,
}
