"""Video variants: a clip's picture edited into a style drawn by seed, its sound and words untouched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

from augment.checkpoints import STABLE_DIFFUSION
from augment.video.editor import Editor
from augment.video.framing import Box, around_faces, chosen_frames, pasted, shown_frames
from augment.video.methods import METHODS
from augment.video.settings import VideoSettings
from augment.video.styles import Style, styles_for
from pipelines import media
from pipelines.device import check_bfloat16, has_bfloat16
from pipelines.errors import RowError, UsageError


@dataclass(frozen=True, kw_only=True)
class Source:
    """A clip with what all of its variants share."""

    encoded: bytes
    clip: media.Video
    box: Box
    """The part that is edited."""
    chosen: np.ndarray
    """Indices of the frames that are edited."""
    prompt: str
    """What they show."""


class VideoVariants:
    """Holds the loaded models, and the clip that it saw last; called once a variant."""

    def __init__(self, settings: VideoSettings, device: str) -> None:
        """Load the models.

        Raises:
            UsageError: If one is of another kind than the settings want, or a prompt is too long.
        """
        self.settings = settings
        self.editor = make_editor(settings, device)
        known = styles_for(settings.model)
        self.styles = {name: known[name] for name in settings.styles or known}
        self.find_faces = self.caption = None
        self._seen: Source | None = None
        if settings.crop != "none":
            from augment.video.face_detector import FaceFinder

            self.find_faces = FaceFinder(device)
        if settings.captioner:
            from augment.video.captioner import Captioner

            self.caption = Captioner(settings.captioner, settings.captioner_revision, device)
        self._check_prompts()

    def __call__(
        self, row: dict[str, Any], number: int, seed: int, strength: float = 1.0
    ) -> tuple[bytes, dict[str, Any]]:
        """Make a variant.

        Args:
            row: With a clip's bytes in `video`.
            number: Which of the clip's variants; told apart by its seed.
            seed: Draws the style and what the method leaves to chance.
            strength: Factor on how far the edit goes, in (0, 1].

        Returns:
            An MP4 without sound, and what made it.

        Raises:
            MediaError: If the clip cannot be read.
            RowError: If the clip has one frame, or a face is wanted and there is none.
        """
        rng = np.random.default_rng(seed)
        name = str(rng.choice([*self.styles]))
        source = self._opened(row["video"]["bytes"])
        part = source.box.of(source.clip.frames[source.chosen])
        edited, drawn = self.edit(part, source.prompt, self.styles[name], rng, strength)
        made = self._clip(source, edited[shown_frames(source.chosen, len(source.clip.frames))])
        return media.encode_video(made, source.clip.fps), self._details(name, source) | drawn

    def edit(
        self,
        frames: np.ndarray,
        source_prompt: str,
        style: Style,
        rng: np.random.Generator,
        strength: float = 1.0,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Edit frames of any number and size.

        Args:
            frames: uint8 RGB (F, H, W, 3).
            source_prompt: What they show.
            style: Its words, windows and weights.
            rng: Draws what the method leaves to chance.
            strength: Factor on how far the edit goes, in (0, 1].

        Returns:
            uint8 RGB, F frames of the size that the model works at, and what was drawn.
        """
        width, height = self._working_size(frames.shape[2], frames.shape[1])
        resized = np.stack([*_resized(frames, width, height)])
        return self.editor.edit(resized, source_prompt, style, rng, strength)

    def _opened(self, encoded: bytes) -> Source:
        """The clip with its box and caption, which the next variant of the same clip finds made."""
        if self._seen is None or self._seen.encoded != encoded:
            settings = self.settings
            clip = media.read_video(encoded, max_side=None if self.find_faces else settings.size)
            if len(clip.frames) < 2:
                raise RowError(
                    "video: has one frame, wanted a clip of 2 or more; leave it out, or take"
                    " augment.classic for it"
                )
            box = self._box(clip.frames)
            chosen = chosen_frames(len(clip.frames), clip.fps, settings.fps)
            middle = box.of(clip.frames[chosen[len(chosen) // 2]][None])[0]
            prompt = self.caption(middle) if self.caption else settings.source_prompt
            self._seen = Source(encoded=encoded, clip=clip, box=box, chosen=chosen, prompt=prompt)
        return self._seen

    def _box(self, frames: np.ndarray) -> Box:
        height, width = frames.shape[1:3]
        if self.find_faces is None:
            return Box(0, 0, width, height)
        return around_faces(self.find_faces(frames), width, height)

    def _clip(self, source: Source, edited: np.ndarray) -> media.VideoStream:
        """The variant's frames: of the source's size, or of the crop's where that is kept."""
        clip, box = source.clip, source.box
        if self.settings.crop == "keep":
            width, height = box.width, box.height
        else:
            info = media.probe(source.encoded)
            width, height = info.width, info.height
        frames: Iterator[np.ndarray]
        if self.settings.crop == "paste":
            parts = _resized(edited, box.width, box.height)
            frames = (pasted(frame, part, box) for frame, part in zip(clip.frames, parts, strict=True))
        else:
            frames = _resized(edited, width, height)
        return media.VideoStream(frames=frames, fps=clip.fps, length=len(edited), width=width, height=height)

    def _check_prompts(self) -> None:
        for name, style in self.styles.items():
            try:
                self.editor.check(style, self.settings.source_prompt)
            except ValueError as error:
                raise UsageError(f"augment.video.source_prompt: with style {name}: {error}") from error

    def _working_size(self, width: int, height: int) -> tuple[int, int]:
        """The size to edit at: in proportion, sides multiples of what the model takes."""
        unit = self.editor.unit
        scale = self.settings.size / max(width, height)
        sides = (max(1, round(side * scale / unit)) * unit for side in (width, height))
        return next(sides), next(sides)

    def _details(self, name: str, source: Source) -> dict[str, Any]:
        values = self.settings.used()
        values.pop("styles")
        if self.find_faces:
            values["box"] = [*source.box]
        prompts = {
            "source_prompt": source.prompt,
            "style": name,
            "prompt": self.styles[name].prompt(source.prompt),
        }
        return values | prompts | {"precision": self.editor.precision}


def make_editor(settings: VideoSettings, device: str) -> Editor:
    """The settings' method with its model loaded.

    Raises:
        UsageError: If the model is not one of the method's, or the device lacks the precision.
    """
    precision = _precision(settings, device)
    if settings.model == "embedded":
        settings = replace(settings, model=str(STABLE_DIFFUSION), styles=())
    module, name = METHODS[settings.method].editor.split(":")
    return getattr(import_module(module), name)(settings, device, precision)


def _precision(settings: VideoSettings, device: str) -> str:
    """What the networks are in.

    Raises:
        UsageError: If the device does not compute in what was asked for.
    """
    if settings.precision == "bfloat16":
        check_bfloat16("augment.video.precision: got bfloat16", device, "auto, float16 or float32")
    if settings.precision != "auto":
        return settings.precision
    if not device.startswith("cuda"):
        return "float32"
    if METHODS[settings.method].gpu_precision == "float16":
        return "float16"
    if has_bfloat16(device):
        return "bfloat16"
    print(f"augment: {device} does not compute in bfloat16; {settings.method} is in float32", flush=True)
    return "float32"


def _resized(frames: np.ndarray, width: int, height: int) -> Iterator[np.ndarray]:
    """Each frame at a size."""
    from PIL import Image

    for frame in frames:
        if frame.shape[:2] == (height, width):
            yield frame
        else:
            yield np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
