"""Video variants: the frames edited into a style drawn by seed; audio and text stay."""

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
from augment.video.styles import styles_for
from pipelines import media, provenance
from pipelines.device import check_bfloat16, described, has_bfloat16
from pipelines.errors import RowError, UsageError


@dataclass(frozen=True, kw_only=True)
class Source:
    """A decoded clip, with what all its variants share."""

    encoded: bytes
    clip: media.Video
    box: Box  # the part that is edited
    chosen: np.ndarray  # indices of the frames that are edited
    prompt: str  # what they show


class VideoVariants:
    """Holds the loaded models and the last clip; called once per variant."""

    def __init__(self, settings: VideoSettings, device: str) -> None:
        """Load the models.

        Raises:
            UsageError: If a model is of another kind than the settings ask for, or a prompt is too long.
        """
        self.settings = settings
        self.editor = make_editor(settings, device)
        known = styles_for(settings.model)
        self.styles = {name: known[name] for name in settings.styles or known}
        self.detect_faces = self.caption = None
        self._last: Source | None = None
        if settings.crop != "none":
            from augment.video.face_detector import FaceDetector

            self.detect_faces = FaceDetector(device)
        if settings.captioner:
            from augment.video.captioner import Captioner

            self.caption = Captioner(settings.captioner, settings.captioner_revision, device)
        self.weights, self.device = loaded_weights(settings), described(device)  # now that all are loaded
        for name, style in self.styles.items():
            try:
                self.editor.check(style, settings.source_prompt)
            except ValueError as error:
                raise UsageError(f"augment.video.source_prompt: with style {name}: {error}") from error

    def __call__(self, row: dict[str, Any], seed: int, strength: float = 1.0) -> tuple[bytes, dict[str, Any]]:
        """Make a variant.

        Args:
            row: A row with the clip's bytes in `video`.
            seed: Draws the style and everything else that is random.
            strength: Factor on the strength of the edit, in (0, 1].

        Returns:
            An MP4 without audio, and how it was made.

        Raises:
            MediaError: If the clip cannot be read.
            RowError: If the clip has one frame, or a face is needed and there is none.
        """
        rng = np.random.default_rng(seed)
        name = str(rng.choice([*self.styles]))
        source = self._source(row["video"]["bytes"])
        frames = source.box.of(source.clip.frames[source.chosen])
        scale = self.settings.size / max(frames.shape[1:3])
        multiple = self.editor.size_multiple
        height, width = (max(1, round(side * scale / multiple)) * multiple for side in frames.shape[1:3])
        frames = np.stack([*_resized(frames, width, height)])
        edited, drawn = self.editor.edit(frames, source.prompt, self.styles[name], rng, strength)
        made = self._clip(source, edited[shown_frames(source.chosen, len(source.clip.frames))])
        return media.encode_video(made, source.clip.fps), self._details(name, source) | drawn

    def _source(self, encoded: bytes) -> Source:
        """The clip with its box and caption; kept for the next variant of the same clip."""
        if self._last is None or self._last.encoded != encoded:
            settings = self.settings
            clip = media.read_video(encoded, max_side=None if self.detect_faces else settings.size)
            if len(clip.frames) < 2:
                raise RowError(
                    "video: has one frame, wanted a clip of 2 or more; leave it out, or take"
                    " augment.classic for it"
                )
            height, width = clip.frames.shape[1:3]
            box = Box(0, 0, width, height)
            if self.detect_faces:
                box = around_faces(self.detect_faces(clip.frames), width, height)
            chosen = chosen_frames(len(clip.frames), clip.fps, settings.fps)
            middle = box.of(clip.frames[chosen[len(chosen) // 2]][None])[0]
            prompt = self.caption(middle) if self.caption else settings.source_prompt
            self._last = Source(encoded=encoded, clip=clip, box=box, chosen=chosen, prompt=prompt)
        return self._last

    def _clip(self, source: Source, edited: np.ndarray) -> media.VideoStream:
        """The variant's frames, at the source's size, or at the crop's if the crop is kept."""
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

    def _details(self, name: str, source: Source) -> dict[str, Any]:
        values = self.settings.used()
        values.pop("styles")
        if self.detect_faces:
            values["box"] = [*source.box]
        return values | {
            "source_prompt": source.prompt,
            "style": name,
            "prompt": self.styles[name].prompt(source.prompt),
            "weights": self.weights,
            "device": self.device,
            "precision": self.editor.precision,
        }


def loaded_weights(settings: VideoSettings) -> dict[str, dict[str, str]]:
    """What identifies the weights of the models that were loaded, by the setting that names each."""
    model = STABLE_DIFFUSION if settings.model == "embedded" else settings.model
    weights = {"model": provenance.weights(model, settings.revision)}
    if settings.captioner:
        weights["captioner"] = provenance.weights(settings.captioner, settings.captioner_revision)
    if METHODS[settings.method].motion_adapter:
        weights["motion_adapter"] = provenance.weights(settings.video_to_video.motion_adapter)
    return weights


def make_editor(settings: VideoSettings, device: str) -> Editor:
    """The editor of the settings, with its model loaded.

    Raises:
        UsageError: If the model does not fit the method, or the device lacks the precision.
    """
    precision = _precision(settings, device)
    if settings.model == "embedded":
        settings = replace(settings, model=str(STABLE_DIFFUSION), styles=())
    module, name = METHODS[settings.method].editor.split(":")
    return getattr(import_module(module), name)(settings, device, precision)


def _precision(settings: VideoSettings, device: str) -> str:
    """The precision of the networks.

    Raises:
        UsageError: If the device does not compute in the one that the settings ask for.
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
    """Each frame, resized."""
    from PIL import Image

    for frame in frames:
        if frame.shape[:2] == (height, width):
            yield frame
        else:
            yield np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
