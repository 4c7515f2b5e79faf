"""From a row to what an omni model reads: frames, sound and transcript as one chat turn.

A row is encoded once, on its own, and rows are put together into a batch afterwards. What a row
lacks is left out of its prompt, so that a batch may mix rows with and without a modality. The
transcript is the user's text: whatever stands in it, it never becomes a special token. Where a
row has sound or picture, their placeholder tokens are counted before the row is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from finetune.settings import MODALITIES, Modality
from pipelines import media
from pipelines.errors import RunError
from pipelines.sample import SCALES

if TYPE_CHECKING:
    from pipelines.sample import Row

SAMPLING_RATE = 16_000
# Sound shorter than this is followed by silence: below it a spectrogram has no frame to show.
MIN_SOUND_S = 0.25

# The wording of the task by language and scale, after the prompts that the field uses for
# rating utterances. Ours where no published prompt fits.
TRANSCRIPT = {"en": "The speaker says: {}\n", "zh": "说话人说：{}\n"}
RATING = {
    "en": "Rate the sentiment of the speaker in this clip from {low:g} (strongly negative)"
    " to {high:g} (strongly positive).",
    "zh": "请为片段中说话人的情感打分，从 {low:g}（非常消极）到 {high:g}（非常积极）。",
}
SARCASM = {"en": "Is the speaker in this clip sarcastic, 0 (no) or 1 (yes)?"}


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
    """Seconds of sound at most; later sound is cut off."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One row as the model reads it."""

    input_ids: torch.Tensor
    """(L,), int64."""
    position_ids: torch.Tensor
    """(3, L), int64: time, height, width."""
    pixel_values_videos: torch.Tensor | None = None
    """(patches, values of a patch), float32."""
    video_grid_thw: torch.Tensor | None = None
    """(3,), int64: patches along time, height and width."""
    input_features: torch.Tensor | None = None
    """(mel bins, mel frames), float32."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(value.nbytes for value in vars(self).values() if value is not None)


Positions = Callable[..., tuple[torch.Tensor, torch.Tensor]]


class OmniEncoder:
    """Makes rows into inputs of the Qwen2.5-Omni thinker.

    Args:
        processor: The model's `Qwen2_5OmniProcessor`.
        positions: The model's `get_rope_index`.
        budget: How much of a clip is shown.
        modalities: What a row is shown by; others are left out even where a row has them.
    """

    def __init__(
        self,
        processor: Any,
        positions: Positions,
        budget: Budget,
        modalities: Sequence[Modality] = MODALITIES,
    ) -> None:
        self.processor = processor
        self.positions = positions
        self.budget = budget
        self.modalities = frozenset(modalities)

    def __call__(self, row: Row) -> Encoded:
        """Encode a row.

        Raises:
            InputError: If the row has none of the modalities, or its media cannot be read.
        """
        try:
            frames, fps = self._frames(row)
            samples = self._samples(row)
        except media.MediaError as error:
            raise InputError(f"{row['id']}: {error}") from error
        text = row["text"] if "text" in self.modalities else None
        if frames is None and samples is None and not text:
            raise InputError(f"{row['id']}: has none of {', '.join(sorted(self.modalities))}; leave it out")
        question = rating_question(row["scale"], row["language"])
        return self.encode(frames, fps, samples, quoted(text, row["language"]), question, name=row["id"])

    def encode(
        self,
        frames: torch.Tensor | None,
        fps: float,
        samples: torch.Tensor | None,
        text: tuple[str, str, str],
        question: str,
        *,
        name: str,
    ) -> Encoded:
        """Encode decoded media and texts as a chat that asks for the assistant's answer.

        Args:
            frames: uint8 RGB (F, H, W, 3), or None.
            fps: Their rate.
            samples: float32 mono at 16 kHz, or None.
            text: What stands before the transcript, the transcript, what stands behind it.
            question: The task.
            name: Of the row, for messages.
        """
        return self.assemble(self._vision(frames), self.mel(samples), fps, text, question, name=name)

    def assemble(
        self,
        vision: Any,
        mel: torch.Tensor | None,
        fps: float,
        text: tuple[str, str, str],
        question: str,
        *,
        name: str,
    ) -> Encoded:
        """As `encode`, from the video processor's output for one clip and a spectrogram."""
        ids, counts = self._chat(vision, mel, text, question)
        self._assert_placeholders(ids, counts, name)
        grid = vision["video_grid_thw"][0] if vision else None
        return Encoded(
            input_ids=ids,
            position_ids=self._position_ids(ids, grid, mel, fps),
            pixel_values_videos=vision["pixel_values_videos"] if vision else None,
            video_grid_thw=grid,
            input_features=mel,
        )

    def _frames(self, row: Row) -> tuple[torch.Tensor | None, float]:
        if "video" not in self.modalities or row["video"] is None:
            return None, 0.0
        data = row["video"]["bytes"]
        duration_s = row["duration_s"] or media.probe(data).duration_s
        fps = min(self.budget.video_fps, self.budget.max_frames / duration_s)
        frames = media.read_video(data, fps=fps).frames[: self.budget.max_frames]
        return torch.from_numpy(frames), fps

    def _samples(self, row: Row) -> torch.Tensor | None:
        if "audio" not in self.modalities or row["audio"] is None:
            return None
        samples = media.read_audio(row["audio"]["bytes"], sampling_rate=SAMPLING_RATE)
        return torch.from_numpy(samples[: int(self.budget.max_audio_s * SAMPLING_RATE)])

    def _vision(self, frames: torch.Tensor | None) -> Any:
        if frames is None:
            return None
        return self.processor.video_processor(
            videos=[frames.permute(0, 3, 1, 2)],  # (F, 3, H, W)
            do_sample_frames=False,
            cap_pixels_per_frame=False,
            return_tensors="pt",
        )

    def mel(self, samples: torch.Tensor | None) -> torch.Tensor | None:
        """The log-mel spectrogram of a sound's own length, (mel bins, mel frames)."""
        if samples is None:
            return None
        extractor = self.processor.feature_extractor
        length = max(len(samples), int(MIN_SOUND_S * SAMPLING_RATE))
        length = -(-length // extractor.hop_length) * extractor.hop_length
        padded = torch.nn.functional.pad(samples, (0, length - len(samples)))
        features = extractor(
            padded.numpy(),
            sampling_rate=SAMPLING_RATE,
            padding="longest",
            truncation=False,
            return_tensors="pt",
        )
        return features["input_features"][0]

    def _chat(
        self, vision: Any, mel: torch.Tensor | None, text: tuple[str, str, str], question: str
    ) -> tuple[torch.Tensor, dict[str, int]]:
        processor, own = self.processor, self._own
        counts = {processor.video_token: 0, processor.audio_token: 0}
        ids = own("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
        if vision is not None:
            counts[processor.video_token] = self._video_tokens(vision["video_grid_thw"][0])
            ids += self._placeholders(processor.vision_bos_token, processor.video_token, counts)
            ids += own(processor.vision_eos_token)
        if mel is not None:
            counts[processor.audio_token] = audio_tokens(mel.shape[1])
            ids += self._placeholders(processor.audio_bos_token, processor.audio_token, counts)
            ids += own(processor.audio_eos_token)
        before, transcript, behind = text
        ids += own(before) + self._foreign(transcript) + own(behind)
        ids += own(f"{question}<|im_end|>\n<|im_start|>assistant\n")
        return torch.tensor(ids), counts

    def _placeholders(self, begin: str, token: str, counts: dict[str, int]) -> list[int]:
        return self._own(begin) + self._own(token) * counts[token]

    def _video_tokens(self, grid: torch.Tensor) -> int:
        return int(grid.prod()) // self.processor.video_processor.merge_size**2

    def _own(self, text: str) -> list[int]:
        """Ids of our own text, special tokens among it."""
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    def _foreign(self, text: str) -> list[int]:
        """Ids of a user's text, in which nothing is a special token."""
        if not text:
            return []
        ids = self.processor.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert not set(ids) & set(self.processor.tokenizer.all_special_ids), f"a special token in {text!r}"
        return ids

    def _assert_placeholders(self, ids: torch.Tensor, counts: dict[str, int], name: str) -> None:
        for token, count in counts.items():
            found = int((ids == self.processor.tokenizer.convert_tokens_to_ids(token)).sum())
            assert found == count, f"{name}: {found} {token} in the input, wanted {count}"

    def _position_ids(
        self, ids: torch.Tensor, grid: torch.Tensor | None, mel: torch.Tensor | None, fps: float
    ) -> torch.Tensor:
        patch = self.processor.video_processor.temporal_patch_size
        positions, _ = self.positions(
            ids[None],
            video_grid_thw=None if grid is None else grid[None],
            attention_mask=torch.ones_like(ids)[None],
            audio_seqlens=None if mel is None else torch.tensor([mel.shape[1]]),
            second_per_grids=None if grid is None else torch.tensor([patch / fps]),
        )
        return positions[:, 0]  # (3, 1, L) -> (3, L)


def rating_question(scale: str, language: str) -> str:
    """The task in words, for a corpus' scale and language; English where there is no wording."""
    if scale == "binary":
        return SARCASM.get(language, SARCASM["en"])
    low, high = SCALES[scale]
    return RATING.get(language, RATING["en"]).format(low=low, high=high)


def quoted(text: str | None, language: str) -> tuple[str, str, str]:
    """A transcript between the words that introduce it; three empty strings without one."""
    if not text:
        return "", "", ""
    before, behind = TRANSCRIPT.get(language, TRANSCRIPT["en"]).split("{}")
    space = before[len(before.rstrip()) :]  # tokens of words hold the space before them
    return before.rstrip(), space + text, behind


def audio_tokens(mel_frames: int) -> int:
    """Tokens that the audio tower makes of a spectrogram: a stride of 2, then pooling by 2."""
    return ((mel_frames - 1) // 2 + 1 - 2) // 2 + 1


def collate(rows: Sequence[Encoded], pad_id: int) -> dict[str, torch.Tensor]:
    """Put rows together, padded on the left so that each one's last token is the last column.

    Args:
        rows: Encoded rows, B of them; any of them may lack sound or picture.
        pad_id: The id that fills shorter rows.

    Returns:
        input_ids and attention_mask (B, L), position_ids (3, B, L); of the rows that have a
        picture, pixel_values_videos (all patches, values) and video_grid_thw (n, 3); of those
        that have sound, input_features (n, mel bins, mel frames) and feature_attention_mask
        (n, mel frames).
    """
    length = max(len(row.input_ids) for row in rows)
    batch = {
        "input_ids": torch.stack([_left_pad(row.input_ids, length, pad_id) for row in rows]),
        "attention_mask": torch.stack([_left_pad(torch.ones_like(row.input_ids), length, 0) for row in rows]),
        "position_ids": torch.stack([_left_pad(row.position_ids, length, 1) for row in rows], dim=1),
    }
    patches = [row.pixel_values_videos for row in rows if row.pixel_values_videos is not None]
    if patches:
        batch["pixel_values_videos"] = torch.cat(patches)
        batch["video_grid_thw"] = torch.stack(
            [row.video_grid_thw for row in rows if row.video_grid_thw is not None]
        )
    sounds = [row.input_features for row in rows if row.input_features is not None]
    if sounds:
        frames = max(mel.shape[1] for mel in sounds)
        batch["input_features"] = torch.stack([_right_pad(mel, frames) for mel in sounds])
        ones = [torch.ones(mel.shape[1], dtype=torch.long) for mel in sounds]
        batch["feature_attention_mask"] = torch.stack([_right_pad(one, frames) for one in ones])
    return batch


def _left_pad(values: torch.Tensor, length: int, fill: int) -> torch.Tensor:
    return torch.nn.functional.pad(values, (length - values.shape[-1], 0), value=fill)


def _right_pad(values: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(values, (0, length - values.shape[-1]))
