"""The chat format of each family: the turn, how clips appear in it, the position ids of its tokens.

A `Chat` is a table entry of small functions: the encoder (`finetune.inputs.chat_encoder`) knows the order of
things, a chat knows what is special about a family. Written after the families' own processors, with which
the tests compare it; nothing here reads rows or loads models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from finetune.inputs import audio_in_video
from finetune.inputs.audio_in_video import Interleaving
from pipelines.errors import UsageError

SAMPLING_RATE = 16_000
# Shorter audio is padded with silence: below this length a spectrogram has no frame.
MIN_AUDIO_S = 0.25


class VideoInput(NamedTuple):
    """The vision tower's input for a clip."""

    patches: Tensor | None
    """(patches, values of a patch), float32."""
    grid: Tensor
    """(3,), int64: patches along time, height and width."""
    fps: float
    """Rate of the frames."""


class AudioInput(NamedTuple):
    """The audio tower's input for a clip."""

    mel: Tensor
    """(mel bins, mel frames), float32; frames behind the first `frames` are silence."""
    frames: int

    @property
    def mask(self) -> Tensor:
        """(mel frames,), int64: 1 where there is audio."""
        return (torch.arange(self.mel.shape[1]) < self.frames).long()


class Shape(NamedTuple):
    """What the position ids of an input depend on."""

    video_id: int | None
    """The id of the video's placeholder."""
    grid: Tensor | None
    patch_s: float
    """Seconds from one patch in time to the next."""
    mel_frames: int | None


Pixels = dict[str, int]
Written = tuple[str, list[int]]
"""Text with each run of placeholders written once, and the lengths of the runs."""


@dataclass(frozen=True, kw_only=True)
class VideoChat:
    """How frames appear in a family's prompt."""

    token: str
    """The placeholder."""
    write: Callable[[VideoInput, int, int], Written]
    """From the video, the vision tower's merge size, and the frames of a patch."""
    size: Callable[[Any, int, int | None], Pixels]
    """The video processor's limits, from the processor, the frames' number, and pixels of one at most."""
    min_frames: int = 1


@dataclass(frozen=True, kw_only=True)
class AudioChat:
    """How audio appears in a family's prompt."""

    token: str
    text: str
    """With the placeholder once."""
    count: Callable[[int], int]
    """The number of tokens for so many mel frames."""
    mel: Callable[[Any, Tensor], AudioInput]
    """The spectrogram, from the feature extractor and samples."""


@dataclass(frozen=True, kw_only=True)
class Chat:
    """The chat format of a family."""

    turn: Callable[[Any], tuple[str, str]]
    """From the tokenizer to the text before and after the user's words."""
    video: VideoChat | None = None
    audio: AudioChat | None = None
    position_ids: Callable[[Any, Tensor, Shape], Tensor]
    """Position ids, (3, L) or (L,), from the model's `get_rope_index`, ids (L,) and their shape."""
    interleaving: Callable[[Any], Interleaving] | None = None
    """From the model's configuration to its way of interleaving; None where audio is never among frames."""


# Turns


def chatml(_: Any) -> tuple[str, str]:
    """Qwen3's: without a system message."""
    return "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"


def chatml_with_system(_: Any) -> tuple[str, str]:
    """Qwen2's and Qwen2.5's: with a system message."""
    begin, end = chatml(_)
    return f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{begin}", end


def template(tokenizer: Any) -> tuple[str, str]:
    """The tokenizer's own chat template; without one, the token that begins its prompts, and a line break."""
    if not tokenizer.chat_template:
        opening = tokenizer.decode(tokenizer("")["input_ids"])
        return opening.removesuffix(tokenizer.eos_token or ""), "\n"
    mark = "USERS-WORDS"
    messages = [{"role": "user", "content": mark}]
    chat = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    before, separator, behind = chat.partition(mark)
    if not separator:
        raise UsageError("finetune.model: its tokenizer's chat template leaves the user's words out")
    return before, behind


# Frames


def whole_clip(begin: str, token: str, end: str) -> Callable[[VideoInput, int, int], Written]:
    """All frames in one pair of special tokens."""

    def write(video: VideoInput, merge: int, _: int) -> Written:
        return f"{begin}{token}{end}", [int(video.grid.prod()) // merge**2]

    return write


def frame_by_frame(begin: str, token: str, end: str) -> Callable[[VideoInput, int, int], Written]:
    """Each patch in time in its own pair of special tokens, preceded by its time in seconds.

    This is what the checkpoints were trained with. The processor of transformers 5.23 leaves another pair
    around all frames, because it replaces the placeholder and not the special tokens around it.
    """

    def write(video: VideoInput, merge: int, patch: int) -> Written:
        steps, *side = video.grid.tolist()
        # The middle between a patch's first and last frame, in the order of the processor's divisions:
        # another order rounds differently.
        first = [step * patch for step in range(steps)]
        times = [(one / video.fps + (one + patch - 1) / video.fps) / 2 for one in first]
        text = "".join(f"<{time:.1f} seconds>{begin}{token}{end}" for time in times)
        return text, [side[0] * side[1] // merge**2] * steps

    return write


def frame_limits(processor: Any, _: int, max_pixels: int | None) -> Pixels:
    """Limits of one frame: the family's, the video processor's, the user's, whichever is tightest.

    The family's are in the class of the omni processors; the video processor of a checkpoint has the limits
    of still images.
    """
    own = processor.video_processor.size
    family = getattr(processor, "videos_kwargs", {}).get("size", own)
    longest = min(own["longest_edge"], family["longest_edge"], max_pixels or own["longest_edge"])
    return {"shortest_edge": min(family["shortest_edge"], longest), "longest_edge": longest}


def clip_limits(processor: Any, frames: int, max_pixels: int | None) -> Pixels:
    """Limits of all frames of a clip together."""
    own = processor.video_processor.size
    patch = processor.video_processor.temporal_patch_size
    longest = own["longest_edge"]
    if max_pixels is not None:
        longest = min(longest, max_pixels * -(-frames // patch) * patch)
    return {"shortest_edge": min(own["shortest_edge"], longest), "longest_edge": longest}


# Audio


def own_length(extractor: Any, samples: Tensor) -> AudioInput:
    """The log-mel spectrogram, as long as the audio."""
    length = max(len(samples), int(MIN_AUDIO_S * SAMPLING_RATE))
    length = -(-length // extractor.hop_length) * extractor.hop_length
    padded = torch.nn.functional.pad(samples, (0, length - len(samples)))
    mel = _features(extractor, padded, padding="longest", truncation=False)["input_features"][0]
    return AudioInput(mel, mel.shape[1])


def fixed_length(extractor: Any, samples: Tensor) -> AudioInput:
    """The log-mel spectrogram of the length that the tower requires; later audio is cut off."""
    short = int(MIN_AUDIO_S * SAMPLING_RATE) - len(samples)
    padded = torch.nn.functional.pad(samples, (0, max(0, short)))
    made = _features(extractor, padded, padding="max_length", truncation=True, return_attention_mask=True)
    return AudioInput(made["input_features"][0], int(made["attention_mask"].sum()))


def _features(extractor: Any, samples: Tensor, **settings: Any) -> Any:
    return extractor(samples.numpy(), sampling_rate=SAMPLING_RATE, return_tensors="pt", **settings)


def pooled_tokens(mel_frames: int) -> int:
    """Tokens of a spectrogram after a stride of 2 and pooling by 2."""
    return ((mel_frames - 1) // 2 + 1 - 2) // 2 + 1


def chunked_tokens(mel_frames: int) -> int:
    """Tokens of a spectrogram after three strides of 2 over each chunk of 100 frames: 13 a chunk."""
    chunks, rest = divmod(mel_frames, 100)
    for _ in range(3):
        rest = (rest + 1) // 2
    return 13 * chunks + rest


# Position ids


def omni_position_ids(rope_index: Any, ids: Tensor, shape: Shape) -> Tensor:
    """Time, height and width by the omni models' rule, in which audio advances time."""
    position_ids, _ = rope_index(
        ids[None],
        video_grid_thw=None if shape.grid is None else shape.grid[None],
        attention_mask=torch.ones_like(ids)[None],
        audio_seqlens=None if shape.mel_frames is None else torch.tensor([shape.mel_frames]),
        second_per_grids=None if shape.grid is None else torch.tensor([shape.patch_s]),
    )
    return position_ids[:, 0]  # (3, 1, L) -> (3, L)


def vision_position_ids(rope_index: Any, ids: Tensor, shape: Shape) -> Tensor:
    """Time, height and width by the rule of the vision models."""
    position_ids, _ = rope_index(
        ids[None],
        mm_token_type_ids=2 * torch.eq(ids, shape.video_id or 0).int()[None],  # 0 is text, 2 is video
        video_grid_thw=None if shape.grid is None else shape.grid[None],
        second_per_grid_ts=None if shape.grid is None else torch.tensor([shape.patch_s]),
        attention_mask=torch.ones_like(ids)[None],
    )
    return position_ids[:, 0]  # (3, 1, L) -> (3, L)


def counted_position_ids(_: Any, ids: Tensor, __: Shape) -> Tensor:
    """Consecutive position ids."""
    return torch.arange(len(ids))


# Families


def _video(begin: str, token: str, end: str) -> VideoChat:
    return VideoChat(token=token, write=whole_clip(begin, token, end), size=frame_limits)


QWEN2_5_OMNI = Chat(
    turn=chatml_with_system,
    video=_video("<|vision_bos|>", "<|VIDEO|>", "<|vision_eos|>"),
    audio=AudioChat(
        token="<|AUDIO|>",
        text="<|audio_bos|><|AUDIO|><|audio_eos|>",
        count=pooled_tokens,
        mel=own_length,
    ),
    position_ids=omni_position_ids,
    interleaving=audio_in_video.qwen2_5_omni,
)
QWEN3_OMNI = Chat(
    turn=chatml,
    video=_video("<|vision_start|>", "<|video_pad|>", "<|vision_end|>"),
    audio=AudioChat(
        token="<|audio_pad|>",
        text="<|audio_start|><|audio_pad|><|audio_end|>",
        count=chunked_tokens,
        mel=own_length,
    ),
    position_ids=omni_position_ids,
    interleaving=audio_in_video.qwen3_omni,
)
QWEN2_5_VL = Chat(
    turn=chatml_with_system,
    video=_video("<|vision_start|>", "<|video_pad|>", "<|vision_end|>"),
    position_ids=vision_position_ids,
)
QWEN3_VL = Chat(
    turn=chatml,
    video=VideoChat(
        token="<|video_pad|>",
        write=frame_by_frame("<|vision_start|>", "<|video_pad|>", "<|vision_end|>"),
        size=clip_limits,
        min_frames=2,  # the video processor refuses a single one
    ),
    position_ids=vision_position_ids,
)
QWEN2_AUDIO = Chat(
    turn=chatml_with_system,
    audio=AudioChat(
        token="<|AUDIO|>",
        text="Audio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\n",
        count=pooled_tokens,
        mel=fixed_length,
    ),
    position_ids=counted_position_ids,
)
TEXT = Chat(turn=template, position_ids=counted_position_ids)
