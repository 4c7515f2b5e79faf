"""From a row to a model's inputs: frames, audio and transcript as one chat turn.

A row is encoded on its own. What it lacks is left out of its prompt, so a batch may mix rows with and without
a modality. The transcript is untrusted text: nothing in it ever becomes a special token. The placeholder
tokens of video and audio are counted before the row is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from finetune.inputs import token_budget
from finetune.inputs.audio_in_video import Interleaving, Tokens
from finetune.inputs.batch import Budget, Encoded, InputError
from finetune.inputs.chat_formats import (
    QWEN2_5_OMNI,
    SAMPLING_RATE,
    AudioChat,
    AudioInput,
    Chat,
    Shape,
    VideoChat,
    VideoInput,
)
from finetune.inputs.question import answer_format, quoted, rating_question
from finetune.inputs.tokenization import PromptTokenizer
from finetune.settings import HeadName
from pipelines import media
from pipelines.row import MODALITIES, Modality, Row
from pipelines.running.machine_faults import memory_is_short

Source = TypeVar("Source")
MAX_THREADS = 8
THREAD_BYTES = 256 * 2**20
"""Address space that a thread is given: its stack, its heap and its decoder, with as much to spare."""


class Clip(NamedTuple):
    """A row's decoded media."""

    frames: Tensor | None
    """uint8 RGB (F, H, W, 3)."""
    fps: float
    samples: Tensor | None
    """float32 mono at 16 kHz."""


def decode_in_threads(decode: Callable[[Source], Clip], sources: Sequence[Source]) -> list[Clip]:
    """Decode clips in threads, in order; decoders release Python's lock.

    Nothing else is done in these threads: torch would open a pool of its own in each, and the pools would
    compete for the cores. Where memory is short for them, clips are decoded one after the other: the C
    library aborts the process if a thread gets no memory for its own variables, and no error could be told.

    Raises:
        Exception: The first that decoding raised.
    """
    threads = min(MAX_THREADS, os.cpu_count() or 1)
    if len(sources) > 1 and not memory_is_short(threads * THREAD_BYTES):
        return [*_pool(threads).map(decode, sources)]
    return [decode(one) for one in sources]


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


class ChatEncoder:
    """Makes rows into a model's inputs.

    Args:
        processor: The model's processor.
        rope_index: The model's `get_rope_index`; None for a family with consecutive position ids.
        budget: How much of a clip is shown.
        modalities: What a row is shown by; others are left out even where a row has them.
        chat: The chat format of the model's family.
        max_pixels: Of a frame, at most; None for the family's own limit.
        head: How the rating is read, which the question says.
        interleaving: How the audio of a clip is interleaved with its frames; None to put it behind them.
    """

    def __init__(
        self,
        processor: Any,
        rope_index: Any,
        budget: Budget,
        modalities: Sequence[Modality] = MODALITIES,
        chat: Chat = QWEN2_5_OMNI,
        max_pixels: int | None = None,
        head: HeadName = "regression",
        interleaving: Interleaving | None = None,
    ) -> None:
        self.processor, self.rope_index, self.budget = processor, rope_index, budget
        self.interleaving = interleaving
        self.chat, self.max_pixels, self.head = chat, max_pixels, head
        self.modalities = frozenset(modalities)
        self.tokenizer = PromptTokenizer(processor.tokenizer)
        self.opening, self.closing = chat.turn(processor.tokenizer)

    def __call__(self, row: Row) -> Encoded:
        """Encode a row.

        Raises:
            InputError: If the row has none of the modalities, its media cannot be read, or its text
                exceeds the token budget.
        """
        return self.many([row])[0]

    def many(self, rows: Sequence[Row]) -> list[Encoded]:
        """Encode rows; their clips are decoded in parallel."""
        encoded_rows = []
        for row, clip in zip(rows, decode_in_threads(self.decoded, rows), strict=True):
            encoded = self.encode_clip(row, clip, self.max_pixels)
            if token_budget.excess(self.budget, encoded) > 0:
                encoded = token_budget.fitted(self, row, clip, encoded)
            encoded_rows.append(encoded)
        return encoded_rows

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
        """Encode a row with its decoded media, frames of at most so many pixels."""
        video = None if clip.frames is None else self.video_input(clip.frames, clip.fps, max_pixels)
        audio = None if clip.samples is None else self.audio_input(clip.samples)
        return self.encode_inputs(row, video, audio)

    def encode_inputs(self, row: Row, video: VideoInput | None, audio: AudioInput | None) -> Encoded:
        """The question about a row, with its text and the towers' inputs for its clip.

        Raises:
            InputError: If there is neither text nor clip.
        """
        text = row["text"] if "text" in self.modalities else None
        if video is None and audio is None and not text:
            raise InputError(f"{row['id']}: has none of {', '.join(sorted(self.modalities))}; leave it out")
        question = rating_question(row["scale"], row["language"], row["corpus"])
        question += answer_format(self.head, row["scale"], row["language"])
        return self.assemble(video, audio, quoted(text, row["language"]), question, name=row["id"])

    def assemble(
        self,
        video: VideoInput | None,
        audio: AudioInput | None,
        text: tuple[str, str, str],
        question: str,
        *,
        name: str,
    ) -> Encoded:
        """Encode the towers' inputs and texts as a chat that asks for the assistant's answer.

        Args:
            video: From `video_input`, or None.
            audio: From `audio_input`, or None.
            text: What comes before the transcript, the transcript, what comes after it.
            question: The task.
            name: Of the row, for messages.
        """
        shown, counts = self.shown(video, audio)
        before, transcript, behind = text
        tokens = self.tokenizer
        ids = self.repeated(tokens.template(self.opening + shown), counts)
        ids += tokens.template(before) + tokens.user_text(transcript) + tokens.template(behind)
        ids += tokens.template(f"{question}{self.closing}")
        for chat in (self.chat.video, self.chat.audio):
            if chat is not None:
                count, expected = ids.count(tokens.id(chat.token)), sum(counts.get(chat.token, []))
                assert count == expected, f"{name}: {count} {chat.token} in the input, expected {expected}"
        input_ids = torch.tensor(ids)
        return Encoded(
            input_ids=input_ids,
            position_ids=self._position_ids(input_ids, video, audio),
            pixel_values_videos=None if video is None else video.patches,
            video_grid_thw=None if video is None else video.grid,
            input_features=None if audio is None else audio.mel,
            feature_attention_mask=None if audio is None else audio.mask,
        )

    def video_input(self, frames: Tensor, fps: float, max_pixels: int | None = None) -> VideoInput:
        """The vision tower's input from frames, uint8 (F, H, W, 3), at a rate."""
        lacking = max(0, self.video_chat.min_frames - len(frames))
        frames = torch.cat([frames, frames[-1:].expand(lacking, -1, -1, -1)])
        processed = self.processor.video_processor(
            videos=[frames.permute(0, 3, 1, 2)],  # (F, 3, H, W)
            do_sample_frames=False,
            cap_pixels_per_frame=False,
            size=self.video_chat.size(self.processor, len(frames), max_pixels),
            return_tensors="pt",
        )
        return VideoInput(processed["pixel_values_videos"], processed["video_grid_thw"][0], fps)

    def audio_input(self, samples: Tensor) -> AudioInput:
        """The audio tower's input from samples, float32 mono at 16 kHz."""
        return self.audio_chat.mel(self.processor.feature_extractor, samples)

    @property
    def video_chat(self) -> VideoChat:
        """How frames appear in the family's prompt."""
        assert self.chat.video is not None, "this family has no vision tower"
        return self.chat.video

    @property
    def audio_chat(self) -> AudioChat:
        """How audio appears in the family's prompt."""
        assert self.chat.audio is not None, "this family has no audio tower"
        return self.chat.audio

    def shown(self, video: VideoInput | None, audio: AudioInput | None) -> tuple[str, dict[str, list[int]]]:
        """The clip in the prompt, each run of a placeholder written once, and the lengths of the runs."""
        if video is not None and audio is not None and self.interleaving is not None:
            return self._interleaved(video, audio, self.interleaving)
        text, counts = "", {}
        if video is not None:
            processor, chat = self.processor.video_processor, self.video_chat
            text, counts[chat.token] = chat.write(video, processor.merge_size, processor.temporal_patch_size)
        if audio is not None:
            text += self.audio_chat.text
            counts[self.audio_chat.token] = [self.audio_chat.count(audio.frames)]
        return text, counts

    def _interleaved(
        self, video: VideoInput, audio: AudioInput, interleaving: Interleaving
    ) -> tuple[str, dict[str, list[int]]]:
        runs = interleaving.runs(self._tokens(video, audio))
        tokens = {False: self.video_chat.token, True: self.audio_chat.token}
        text = "".join(tokens[is_audio] for is_audio, _ in runs)
        counts = {tokens[kind]: [n for is_audio, n in runs if is_audio == kind] for kind in tokens}
        return f"{interleaving.begin}{text}{interleaving.end}", counts

    def _tokens(self, video: VideoInput, audio: AudioInput) -> Tokens:
        steps, height, width = video.grid.tolist()
        merge = self.processor.video_processor.merge_size
        return Tokens(
            grid=(steps, height // merge, width // merge),
            step_s=self._patch_s(video),
            audio=self.audio_chat.count(audio.frames),
        )

    def _patch_s(self, video: VideoInput) -> float:
        """Seconds from one patch in time to the next."""
        return self.processor.video_processor.temporal_patch_size / video.fps

    def repeated(self, ids: list[int], counts: dict[str, list[int]]) -> list[int]:
        """Ids with each placeholder repeated as often as `counts` says."""
        left = {self.tokenizer.id(token): iter(times) for token, times in counts.items()}
        return [copy for one in ids for copy in [one] * (next(left[one]) if one in left else 1)]

    def _frames(self, row: Row, max_frames: int) -> tuple[Tensor | None, float]:
        if "video" not in self.modalities or row["video"] is None:
            return None, 0.0
        data = row["video"]["bytes"]
        duration_s = row["duration_s"] or media.probe(data).duration_s
        fps = min(self.budget.video_fps, max_frames / duration_s)
        frames = media.read_video(data, fps=fps).frames[:max_frames]
        return torch.from_numpy(frames), fps

    def _samples(self, row: Row) -> Tensor | None:
        if "audio" not in self.modalities or row["audio"] is None:
            return None
        samples = media.read_audio(row["audio"]["bytes"], sampling_rate=SAMPLING_RATE)
        return torch.from_numpy(samples[: int(self.budget.max_audio_s * SAMPLING_RATE)])

    def _position_ids(self, ids: Tensor, video: VideoInput | None, audio: AudioInput | None) -> Tensor:
        if video is not None and audio is not None and self.interleaving is not None:
            before = ids.tolist().index(self.tokenizer.template(self.interleaving.begin)[0])
            return self.interleaving.position_ids(self._tokens(video, audio), before, len(ids))
        shape = Shape(
            video_id=self.tokenizer.id(self.chat.video.token) if self.chat.video else None,
            grid=None if video is None else video.grid,
            patch_s=0.0 if video is None else self._patch_s(video),
            mel_frames=None if audio is None else audio.frames,
        )
        return self.chat.position_ids(self.rope_index, ids, shape)
