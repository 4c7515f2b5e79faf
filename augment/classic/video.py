"""Classic video variants, the baseline for diffusion: crop, colours, blur and JPEG by torchvision.

Each change is drawn once and is the same in all frames, so that the video is as steady as its source. Frames
are read, changed and encoded one by one: torchvision takes sixty times a frame's own bytes to change it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from augment.classic.settings import ClassicSettings
from pipelines import media


def make_variant(
    settings: ClassicSettings, row: dict[str, Any], seed: int, strength: float = 1.0
) -> tuple[bytes, dict[str, Any]]:
    """Make a video variant; as `augment.classic.audio.make_variant`, from the clip's bytes in `video`.

    Returns:
        An MP4 without audio, with the source's frames, rate and size, and how it was made.

    Raises:
        MediaError: If the clip cannot be read.
    """
    clip = media.open_clip(row["video"]["bytes"]).video()
    changes = draw_changes(settings, np.random.default_rng(seed), strength)
    frames = (changed(frame[None], **changes)[0] for frame in clip.frames)
    return media.encode_video(replace(clip, frames=frames), clip.fps), {"method": "classic", **changes}


def draw_changes(settings: ClassicSettings, rng: np.random.Generator, strength: float) -> dict[str, Any]:
    """Draw the arguments of `changed`."""
    settings = settings.weaker(strength)
    colours = {
        name: round(float(1 + rng.uniform(-1, 1) * settings.colour), 4)
        for name in ("brightness", "contrast", "saturation")
    }
    share = rng.uniform(0, settings.crop)
    return {
        "crop": [round(float(share * part), 4) for part in (rng.uniform(), rng.uniform(), 1)],
        **colours,
        "hue": round(float(rng.uniform(-1, 1) * settings.colour / 10), 4),
        "blur": round(float(rng.uniform(0, settings.blur)), 4),
        "jpeg": int(rng.integers(settings.jpeg, 101)),
    }


def changed(
    frames: np.ndarray,
    *,
    crop: list[float],
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    blur: float,
    jpeg: int,
) -> np.ndarray:
    """Crop frames and resize them back, change their colours, blur and compress them, each by itself.

    Args:
        frames: uint8 RGB (F, H, W, 3).
        crop: Shares of each side: cut away on the left, at the top, and in total.
        brightness, contrast, saturation: Factors; 1 changes nothing.
        hue: Share of the colour circle, in [-0.5, 0.5].
        blur: Standard deviation in hundredths of the shorter side; below a tenth of a pixel there is none.
        jpeg: Quality, 1 to 100.
    """
    import torch
    from torchvision.transforms.v2 import functional as change

    height, width = frames.shape[1:3]
    left, top, cut = crop
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    kept = [max(1, round((1 - cut) * side)) for side in (height, width)]
    corner = [round(top * height), round(left * width)]
    images = change.resized_crop(images, *corner, *kept, [height, width], antialias=True)
    images = change.adjust_brightness(images, brightness)
    images = change.adjust_contrast(images, contrast)
    images = change.adjust_saturation(images, saturation)
    images = change.adjust_hue(images, hue)
    deviation = blur / 100 * min(height, width)
    if deviation >= 0.1:
        images = change.gaussian_blur(images, [2 * int(3 * deviation) + 1] * 2, [deviation] * 2)
    images = torch.stack([change.jpeg(image, jpeg) for image in images])
    return images.permute(0, 2, 3, 1).numpy()
