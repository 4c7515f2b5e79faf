"""Frames edited by FateZero, in windows that share a key frame.

Each window is led by the clip's middle frame, to which all frames attend, so that the style is the
same in all windows. The inversions of the clip that was edited last are held, so that its next style
inverts nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from augment.fatezero.pipeline import FateZeroPipeline, Inversion
from augment.fatezero.prompts import plan_words
from augment.video.editor import as_bytes, load, unet_unit, windows
from augment.video.settings import VideoSettings
from augment.video.styles import Style
from pipelines.atomic import replacing
from pipelines.provenance import folder_digest


class FateZeroEditor:
    """Holds the loaded pipeline.

    Raises:
        UsageError: If the model is no Stable Diffusion 1.x.
    """

    def __init__(self, settings: VideoSettings, device: str, precision: str) -> None:
        self.settings, self.precision = settings, precision
        self.pipeline = load(settings, FateZeroPipeline.from_pretrained, device, precision)
        self.unit = unet_unit(self.pipeline)
        if settings.compile:
            # Not the whole network: its layers do another thing in each part of an edit, and each of
            # them would be compiled anew.
            self.pipeline.unet.compile_repeated_blocks()
        own = settings.fatezero
        self.how = {
            "num_inference_steps": settings.steps,
            "key_frames": ("first", 0) if own.own_frame else ("first",),
            "key_frame_min_channels": own.key_frame_min_channels,
        }
        self.kept = None if own.latents == "none" else Path(own.latents)
        self._held: dict[str, torch.Tensor] = {}
        self._weights = self._digest() if self.kept else ""

    def check(self, style: Style, source_prompt: str) -> None:
        """Raise `ValueError` if the words of a style are more than the model takes."""
        plan_words(self.pipeline.tokenizer, source_prompt, style.prompt(source_prompt), style.reweight)

    def edit(
        self,
        frames: np.ndarray,
        source_prompt: str,
        style: Style,
        rng: np.random.Generator,
        strength: float = 1.0,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Edit frames, as `augment.video.editor.Editor` says; the guidance is drawn."""
        factor = 1 + self.settings.fatezero.guidance_spread * rng.uniform(-1, 1)
        if strength < 1:
            style = style.weaker(strength)
        drawn = asdict(style) | {"guidance_scale": max(1.0, round(factor * style.guidance_scale, 3))}
        del drawn["words"]
        return self.edit_with(frames, source_prompt, style, drawn["guidance_scale"]), drawn

    def edit_with(
        self, frames: np.ndarray, source_prompt: str, style: Style, guidance_scale: float
    ) -> np.ndarray:
        """Edit frames with a guidance of at least 1."""
        key = frames[(len(frames) - 1) // 2]
        edited, held = [], {}
        for window in windows(frames, self.settings.window - 1):
            led = np.concatenate([key[None], window])
            told = self._key(led, source_prompt)
            held[told] = latents = self._latents(told, led, source_prompt)
            made = self.pipeline(
                led,
                source_prompt,
                style.prompt(source_prompt),
                guidance_scale=guidance_scale,
                cross_replace=style.cross_replace,
                self_replace=style.self_replace,
                reweight=style.reweight,
                inversion=Inversion(latents=[*latents.to(self.pipeline.unet.device)], attended=[]),
                **self.how,
            ).frames[1:]
            edited.append(as_bytes(made))
        self._held = held
        return np.concatenate(edited)

    def _latents(self, key: str, frames: np.ndarray, source_prompt: str) -> torch.Tensor:
        """A window's inversion, (T + 1, F, C, h, w), on the CPU: held, kept on disk, or made now."""
        if key in self._held:
            return self._held[key]
        file = self.kept / f"{key}.safetensors" if self.kept else None
        if file and file.is_file():
            return load_file(file)["latents"]
        inversion = self.pipeline.invert(frames, source_prompt, **self.how)
        latents = torch.stack(inversion.latents).cpu().contiguous()
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as temporary:
                save_file({"latents": latents}, temporary)
        return latents

    def _key(self, frames: np.ndarray, source_prompt: str) -> str:
        told = [frames.shape, source_prompt, self.how, self._weights, self.precision]
        digest = hashlib.sha256(json.dumps(told).encode())
        digest.update(np.ascontiguousarray(frames).tobytes())
        return digest.hexdigest()

    def _digest(self) -> str:
        """The weights' content, of a folder; of a Hub id the name and the revision."""
        model = Path(self.settings.model)
        named = f"{self.settings.model}@{self.settings.revision}"
        return folder_digest(model) if model.is_dir() else named
