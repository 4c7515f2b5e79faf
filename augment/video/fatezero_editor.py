"""Video editing by FateZero, in windows that share a key frame.

Each window starts with the clip's middle frame, to which all its frames attend, so that all windows have
the same style. The inversions of the last clip are held, so that another style of it needs no inversion.
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
from augment.video.editor import as_bytes, load, unet_size_multiple, windows
from augment.video.settings import VideoSettings
from augment.video.styles import Style
from pipelines.atomic import replacing
from pipelines.provenance import folder_digest


class FateZeroEditor:
    """Holds the loaded pipeline.

    Raises:
        UsageError: If the model is not Stable Diffusion 1.x.
    """

    def __init__(self, settings: VideoSettings, device: str, precision: str) -> None:
        self.settings, self.precision = settings, precision
        self.pipeline = load(settings, FateZeroPipeline.from_pretrained, device, precision)
        self.size_multiple = unet_size_multiple(self.pipeline)
        if settings.compile:
            # Not the whole network: its attention layers behave differently in each phase of an edit, and
            # would be recompiled for each.
            self.pipeline.unet.compile_repeated_blocks()
        own = settings.fatezero
        self.options = {
            "num_inference_steps": settings.steps,
            "key_frames": ("first", 0) if own.own_frame else ("first",),
            "key_frame_min_channels": own.key_frame_min_channels,
        }
        self.folder = None if own.latents == "none" else Path(own.latents)
        self._held: dict[str, torch.Tensor] = {}
        self._weights = ""
        if self.folder:
            model = Path(settings.model)
            name = f"{settings.model}@{settings.revision}"
            self._weights = folder_digest(model) if model.is_dir() else name

    def check(self, style: Style, source_prompt: str) -> None:
        """Raise `ValueError` if a style's prompt has more tokens than the model takes."""
        plan_words(self.pipeline.tokenizer, source_prompt, style.prompt(source_prompt), style.reweight)

    def edit(
        self,
        frames: np.ndarray,
        source_prompt: str,
        style: Style,
        rng: np.random.Generator,
        strength: float = 1.0,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Edit frames, as described in `augment.video.editor.Editor`; the guidance scale is drawn."""
        factor = 1 + self.settings.fatezero.guidance_spread * rng.uniform(-1, 1)
        if strength < 1:
            style = style.weaker(strength)
        drawn = asdict(style) | {"guidance_scale": max(1.0, round(factor * style.guidance_scale, 3))}
        del drawn["words"]
        return self.edit_with(frames, source_prompt, style, drawn["guidance_scale"]), drawn

    def edit_with(
        self, frames: np.ndarray, source_prompt: str, style: Style, guidance_scale: float
    ) -> np.ndarray:
        """Edit frames with a given guidance scale, at least 1."""
        key_frame = frames[(len(frames) - 1) // 2]
        edited, held = [], {}
        for window in windows(frames, self.settings.window - 1):
            window = np.concatenate([key_frame[None], window])
            key = self._key(window, source_prompt)
            held[key] = latents = self._latents(key, window, source_prompt)
            made = self.pipeline(
                window,
                source_prompt,
                style.prompt(source_prompt),
                guidance_scale=guidance_scale,
                cross_replace=style.cross_replace,
                self_replace=style.self_replace,
                reweight=style.reweight,
                inversion=Inversion(latents=[*latents.to(self.pipeline.unet.device)], attended=[]),
                **self.options,
            ).frames[1:]
            edited.append(as_bytes(made))
        self._held = held
        return np.concatenate(edited)

    def _latents(self, key: str, frames: np.ndarray, source_prompt: str) -> torch.Tensor:
        """A window's inversion, (T + 1, F, C, h, w), on the CPU: held, read from disk, or computed now."""
        if key in self._held:
            return self._held[key]
        file = self.folder / f"{key}.safetensors" if self.folder else None
        if file and file.is_file():
            return load_file(file)["latents"]
        inversion = self.pipeline.invert(frames, source_prompt, **self.options)
        latents = torch.stack(inversion.latents).cpu().contiguous()
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as temporary:
                save_file({"latents": latents}, temporary)
        return latents

    def _key(self, frames: np.ndarray, source_prompt: str) -> str:
        """A digest of everything that an inversion depends on."""
        inputs = [frames.shape, source_prompt, self.options, self._weights, self.precision]
        digest = hashlib.sha256(json.dumps(inputs).encode())
        digest.update(np.ascontiguousarray(frames).tobytes())
        return digest.hexdigest()
