"""From a row to what a model reads: frames, sound and transcript as one chat turn.

A row is encoded once, on its own. What a row lacks is left out of its prompt, so that a batch may mix
rows with and without a modality. The transcript is the user's text: whatever stands in it, it never
becomes a special token. Where a row has sound or picture, their placeholder tokens are counted before
the row is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch

from finetune.inputs import token_budget
from finetune.inputs.audio_in_video import Interleaving, Tokens
from finetune.inputs.batch import Budget, Encoded, InputError
from finetune.inputs.chat_formats import (
    QWEN2_5_OMNI,
    SAMPLING_RATE,
    AudioChat,
    Chat,
    Picture,
    Shape,
    Sound,
    VideoChat,
)
from finetune.inputs.prompts import answer_format, quoted, rating_question
from finetune.inputs.tokenization import Words
from finetune.settings import ReadoutName
from pipelines import media
from pipelines.row import MODALITIES, Modality

if TYPE_CHECKING:
    from pipelines.row import Row


class Clip(NamedTuple):
    """A row's decoded media."""

    frames: torch.Tensor | None
    """uint8 RGB (F, H, W, 3)."""
    fps: float
    samples: torch.Tensor | None
    """float32 mono at 16 kHz."""


Given = TypeVar("Given")
MAX_THREADS = 8


def side_by_side(decode: Callable[[Given], Clip], media: Sequence[Given]) -> list[Clip]:
    """Decode in threads, in order; decoders release Python's lock.

    Nothing else is done in these threads: torch would open a pool of its own in each, and the pools would
    fight for the cores.

    Raises:
        Exception: The first that decoding raised.
    """
    return [*_threads().map(decode, media)] if len(media) > 1 else [decode(one) for one in media]


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1))


class ChatEncoder:
    """Makes rows into a model's inputs.

    Args:
        processor: The model's processor.
        rope_index: The model's `get_rope_index`; None for a family that counts its places.
        budget: How much of a clip is shown.
        modalities: What a row is shown by; others are left out even where a row has them.
        chat: How the model's family is spoken to.
        max_pixels: Of a frame, at most; None for the family's own limit.
        readout: How the rating is read, which the question says.
        interleaving: How the sound of a clip stands among its frames; None for behind them all.
    """

    def __init__(
        self,
        processor: Any,
        rope_index: Any,
        budget: Budget,
        modalities: Sequence[Modality] = MODALITIES,
        chat: Chat = QWEN2_5_OMNI,
        max_pixels: int | None = None,
        readout: ReadoutName = "regression",
        interleaving: Interleaving | None = None,
    ) -> None:
        self.processor, self.rope_index, self.budget = processor, rope_index, budget
        self.interleaving = interleaving
        self.chat, self.max_pixels, self.readout = chat, max_pixels, readout
        self.modalities = frozenset(modalities)
        self.words = Words(processor.tokenizer)
        self.opening, self.closing = chat.turn(processor.tokenizer)

    def __call__(self, row: Row) -> Encoded:
        """Encode a row.

        Raises:
            InputError: If the row has none of the modalities, its media cannot be read, or its text
                passes the token budget.
        """
        return self.many([row])[0]

    def many(self, rows: Sequence[Row]) -> list[Encoded]:
        """Encode rows; their clips are decoded side by side."""
        clips = side_by_side(self.decoded, rows)
        return [self._fitting(row, clip) for row, clip in zip(rows, clips, strict=True)]

    def _fitting(self, row: Row, clip: Clip) -> Encoded:
        encoded = self.encode_clip(row, clip, self.max_pixels)
        if token_budget.excess(self.budget, encoded) > 0:
            return token_budget.fitted(self, row, clip, encoded)
        return encoded

    def decoded(self, row: Row, max_frames: int | None = None) -> Clip:
        """A row's media as far as they are shown; frames at most `max_frames`, or the budget's.

        Raises:
            InputError: If they cannot be read.
        """
        try:
            frames, fps = self._frames(row, max_frames or self.budget.max_frames)
            return Clip(frames, fps, self._samples(row))
        except media.MediaError as error:
            raise InputError(f"{row['id']}: {error}") from error

    def encode_clip(self, row: Row, clip: Clip, max_pixels: int | None) -> Encoded:
        """Encode a row whose media are decoded, frames of so many pixels at most."""
        picture = None if clip.frames is None else self.picture(clip.frames, clip.fps, max_pixels)
        sound = None if clip.samples is None else self.sound(clip.samples)
        return self.asked(row, picture, sound)

    def asked(self, row: Row, picture: Picture | None, sound: Sound | None) -> Encoded:
        """The question about a row, with its text and what the towers take of its clip.

        Raises:
            InputError: If there is neither text nor clip.
        """
        if picture is None and sound is None and not self._text(row):
            raise InputError(f"{row['id']}: has none of {', '.join(sorted(self.modalities))}; leave it out")
        quote = quoted(self._text(row), row["language"])
        question = rating_question(row["scale"], row["language"], row["corpus"])
        question += answer_format(self.readout, row["scale"], row["language"])
        return self.assemble(picture, sound, quote, question, name=row["id"])

    def assemble(
        self,
        picture: Picture | None,
        sound: Sound | None,
        text: tuple[str, str, str],
        question: str,
        *,
        name: str,
    ) -> Encoded:
        """Encode what the towers take, and texts, as a chat that asks for the assistant's answer.

        Args:
            picture: As `picture` makes it, or None.
            sound: As `sound` makes it, or None.
            text: What stands before the transcript, the transcript, what stands behind it.
            question: The task.
            name: Of the row, for messages.
        """
        shown, counts = self.shown(picture, sound)
        before, transcript, behind = text
        ids = self.repeated(self.words.own(self.opening + shown), counts)
        ids += self.words.own(before) + self.words.foreign(transcript) + self.words.own(behind)
        ids += self.words.own(f"{question}{self.closing}")
        self._assert_placeholders(ids, counts, name)
        input_ids = torch.tensor(ids)
        return Encoded(
            input_ids=input_ids,
            position_ids=self._places(input_ids, picture, sound),
            pixel_values_videos=None if picture is None else picture.patches,
            video_grid_thw=None if picture is None else picture.grid,
            input_features=None if sound is None else sound.mel,
            feature_attention_mask=None if sound is None else sound.mask,
        )

    def picture(self, frames: torch.Tensor, fps: float, max_pixels: int | None = None) -> Picture:
        """What the vision tower takes of frames, uint8 (F, H, W, 3), at a rate."""
        lacking = max(0, self.video_chat.min_frames - len(frames))
        frames = torch.cat([frames, frames[-1:].expand(lacking, -1, -1, -1)])
        made = self.processor.video_processor(
            videos=[frames.permute(0, 3, 1, 2)],  # (F, 3, H, W)
            do_sample_frames=False,
            cap_pixels_per_frame=False,
            size=self.video_chat.size(self.processor, len(frames), max_pixels),
            return_tensors="pt",
        )
        return Picture(made["pixel_values_videos"], made["video_grid_thw"][0], fps)

    def sound(self, samples: torch.Tensor) -> Sound:
        """What the audio tower takes of samples, float32 mono at 16 kHz."""
        return self.audio_chat.mel(self.processor.feature_extractor, samples)

    @property
    def video_chat(self) -> VideoChat:
        """How the family is shown frames."""
        assert self.chat.video is not None, "this family sees nothing"
        return self.chat.video

    @property
    def audio_chat(self) -> AudioChat:
        """How the family is given sound."""
        assert self.chat.audio is not None, "this family hears nothing"
        return self.chat.audio

    def shown(self, picture: Picture | None, sound: Sound | None) -> tuple[str, dict[str, list[int]]]:
        """What stands for the clip, each run of a placeholder written once, and how long each must be."""
        if picture is not None and sound is not None and self.interleaving is not None:
            return self._in_turn(picture, sound, self.interleaving)
        text, counts = "", {}
        if picture is not None:
            processor, chat = self.processor.video_processor, self.video_chat
            text, counts[chat.token] = chat.write(
                picture, processor.merge_size, processor.temporal_patch_size
            )
        if sound is not None:
            text += self.audio_chat.text
            counts[self.audio_chat.token] = [self.audio_chat.count(sound.frames)]
        return text, counts

    def _in_turn(
        self, picture: Picture, sound: Sound, interleaving: Interleaving
    ) -> tuple[str, dict[str, list[int]]]:
        """As `shown`, of a clip whose sound stands among its frames."""
        runs = interleaving.runs(self._tokens(picture, sound))
        tokens = {False: self.video_chat.token, True: self.audio_chat.token}
        text = "".join(tokens[is_sound] for is_sound, _ in runs)
        counts = {tokens[kind]: [n for is_sound, n in runs if is_sound == kind] for kind in tokens}
        return f"{interleaving.begin}{text}{interleaving.end}", counts

    def _tokens(self, picture: Picture, sound: Sound) -> Tokens:
        steps, height, width = picture.grid.tolist()
        merge = self.processor.video_processor.merge_size
        return Tokens(
            grid=(steps, height // merge, width // merge),
            step_s=self._patch_s(picture),
            sounds=self.audio_chat.count(sound.frames),
        )

    def _patch_s(self, picture: Picture) -> float:
        """Seconds from one patch in time to the next."""
        return self.processor.video_processor.temporal_patch_size / picture.fps

    def repeated(self, ids: list[int], counts: dict[str, list[int]]) -> list[int]:
        """Ids with each placeholder as often as it must stand."""
        left = {self.words.id(token): iter(times) for token, times in counts.items()}
        return [one for found in ids for one in [found] * (next(left[found]) if found in left else 1)]

    def _text(self, row: Row) -> str | None:
        return row["text"] if "text" in self.modalities else None

    def _frames(self, row: Row, max_frames: int) -> tuple[torch.Tensor | None, float]:
        if "video" not in self.modalities or row["video"] is None:
            return None, 0.0
        data = row["video"]["bytes"]
        duration_s = row["duration_s"] or media.probe(data).duration_s
        fps = min(self.budget.video_fps, max_frames / duration_s)
        frames = media.read_video(data, fps=fps).frames[:max_frames]
        return torch.from_numpy(frames), fps

    def _samples(self, row: Row) -> torch.Tensor | None:
        if "audio" not in self.modalities or row["audio"] is None:
            return None
        samples = media.read_audio(row["audio"]["bytes"], sampling_rate=SAMPLING_RATE)
        return torch.from_numpy(samples[: int(self.budget.max_audio_s * SAMPLING_RATE)])

    def _assert_placeholders(self, ids: list[int], counts: dict[str, list[int]], name: str) -> None:
        for chat in (self.chat.video, self.chat.audio):
            if chat is not None:
                found, wanted = ids.count(self.words.id(chat.token)), sum(counts.get(chat.token, []))
                assert found == wanted, f"{name}: {found} {chat.token} in the input, wanted {wanted}"

    def _places(self, ids: torch.Tensor, picture: Picture | None, sound: Sound | None) -> torch.Tensor:
        if picture is not None and sound is not None and self.interleaving is not None:
            before = ids.tolist().index(self.words.own(self.interleaving.begin)[0])
            return self.interleaving.places(self._tokens(picture, sound), before, len(ids))
        shape = Shape(
            video_id=self.words.id(self.chat.video.token) if self.chat.video else None,
            grid=None if picture is None else picture.grid,
            patch_s=0.0 if picture is None else self._patch_s(picture),
            mel_frames=None if sound is None else sound.frames,
        )
        return self.chat.place(self.rope_index, ids, shape)
