"""Rows for the families that can be fine-tuned, and what the families' own processors make of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune.inputs.batch import Budget
from finetune.inputs.question import rating_question
from finetune.model.loading import BaseModel, load_base
from pipelines import media
from pipelines.row import Row
from pipelines.row import media as in_row
from tests import tiny
from tests.tiny_families import BUILDERS

FPS = 10.0
BUDGET = Budget(video_fps=FPS, max_frames=20, max_audio_s=4)
MULTIMODAL = [name for name in BUILDERS if name not in ("qwen2", "qwen3", "llama")]
SHOWN = [
    ("text", "audio", "video"),
    ("text", "video"),
    ("text", "audio"),
    ("audio", "video"),
    ("video",),
    ("audio",),
    ("text",),
]
TEXT = "what a story that was"


def load(directory: Path) -> BaseModel:
    return load_base(str(directory), None, dtype=torch.float32, max_pixels=None)


def clip(seconds: float, number: int = 0) -> Row:
    """A row of so many seconds; its sound ends in silence, which a processor's padding goes on with."""
    rng = np.random.default_rng(number)
    frames = rng.integers(0, 256, size=(round(FPS * seconds), 32, 32, 3), dtype=np.uint8)
    samples = rng.normal(0, 0.1, round(16_000 * seconds)).astype(np.float32)
    samples[-1600:] = 0
    media_of_row = {
        "video": in_row(media.encode_video(frames, FPS)),
        "audio": in_row(media.encode_audio(samples)),
    }
    return tiny.row(number, duration_s=seconds, text=TEXT, **media_of_row)


def without(row: Row, shown: tuple[str, ...]) -> Row:
    return row | {name: None for name in ("text", "audio", "video") if name not in shown}


def combinations(base: BaseModel) -> list[tuple[str, ...]]:
    """What rows for a family may have."""
    return [shown for shown in SHOWN if set(shown) <= set(base.family.modalities)]


def every(names: Sequence[str] = tuple(BUILDERS)) -> Any:
    """A test for each family."""
    return pytest.mark.parametrize("name", names)


def by_processor(base: BaseModel, row: Row, shown: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """A row through the processor and its chat template; only the frames' rate is ours."""
    processor = base.processor
    content: list[dict[str, str]] = []
    content += [{"type": "video"}] * ("video" in shown) + [{"type": "audio"}] * ("audio" in shown)
    said = f"The speaker says: {TEXT}\n" if "text" in shown else ""
    content += [{"type": "text", "text": said + rating_question("mosi", "en")}]
    system = {"role": "system", "content": [{"type": "text", "text": "You are a helpful assistant."}]}
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if base.family.chat.turn.__name__ == "chatml_with_system":
        messages.insert(0, system)
    given: dict[str, Any] = {"text": [_prompt(processor, messages)], "return_tensors": "pt"}
    if "video" in shown:
        frames = torch.from_numpy(media.read_video(row["video"]["bytes"], fps=FPS).frames)
        given["videos"] = [frames.permute(0, 3, 1, 2)]
        given["videos_kwargs"] = _frame_settings(base, len(frames))
    if "audio" in shown:
        given["audio"] = [media.read_audio(row["audio"]["bytes"], sampling_rate=16_000)]
        given["audio_kwargs"] = {"sampling_rate": 16_000}
    return dict(processor(**given))


def _prompt(processor: Any, messages: list[dict[str, Any]]) -> str:
    if type(processor).__name__ == "Qwen2_5OmniProcessor":
        from tests.tiny_families import OMNI_CHAT

        names = {"vision_start": "vision_bos", "video_pad": "VIDEO", "vision_end": "vision_eos"}
        names |= {"audio_start": "audio_bos", "audio_pad": "AUDIO", "audio_end": "audio_eos"}
        chat = re.sub(r"(?<=<\|)\w+(?=\|>)", lambda found: names.get(found[0], found[0]), OMNI_CHAT)
        return processor.apply_chat_template(messages, chat_template=chat, add_generation_prompt=True)
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    if type(processor).__name__ == "Qwen3VLProcessor":
        # It writes marks around each frame and leaves the template's around them all, which its checkpoints
        # have not seen: given the placeholder alone, it writes what they have.
        prompt = prompt.replace("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>")
    return prompt


def _frame_settings(base: BaseModel, frames: int) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "do_sample_frames": False,
        "cap_pixels_per_frame": False,
        "size": base.family.chat.video.size(base.processor, frames, None),  # type: ignore[union-attr]
    }
    if "Omni" in type(base.processor).__name__:
        return settings | {"fps": FPS}
    told = {"fps": FPS, "total_num_frames": frames, "frames_indices": list(range(frames))}
    return settings | {"video_metadata": [told | {"duration": frames / FPS}]}
