"""Classic variants: crop, colours, blur and JPEG by torchvision, to compare diffusion with.

Each is drawn once a variant and the same in all frames, so that the picture stands as still as its source.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from augment.classic.settings import ClassicSettings
from pipelines import media


class ClassicVariants:
    """Needs no model; called once a variant."""

    def __init__(self, settings: ClassicSettings) -> None:
        self.settings = settings

    def __call__(
        self, row: dict[str, Any], number: int, seed: int, strength: float = 1.0
    ) -> tuple[bytes, dict[str, Any]]:
        """Make a variant.

        Args:
            row: With a clip's bytes in `video`.
            number: Which of the clip's variants; told apart by its seed.
            seed: Draws what is done.
            strength: Factor on how much of it there may be, in (0, 1].

        Returns:
            An MP4 without sound of the source's frames, rate and size, and what made it.

        Raises:
            MediaError: If the clip cannot be read.
        """
        clip = media.read_video(row["video"]["bytes"])
        drawn = self._drawn(np.random.default_rng(seed), strength)
        frames = changed(clip.frames, **drawn)
        return media.encode_video(frames, clip.fps), {"method": "classic", **drawn}

    def _drawn(self, rng: np.random.Generator, strength: float = 1.0) -> dict[str, Any]:
        settings = self.settings.weaker(strength)
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
    """Frames cropped and sized again, in other colours, blurred, and compressed.

    Args:
        frames: uint8 RGB (F, H, W, 3).
        crop: Shares of each side: cut away at the left, at the top, and in all.
        brightness, contrast, saturation: Factors; 1 changes nothing.
        hue: Share of the colour circle, in [-0.5, 0.5].
        blur: Deviation in hundredths of the shorter side; below a tenth of a pixel none.
        jpeg: Quality, 1 to 100.
    """
    import torch
    from torchvision.transforms.v2 import functional as change

    height, width = frames.shape[1:3]
    left, top, cut = crop
    pictures = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    kept = [max(1, round((1 - cut) * side)) for side in (height, width)]
    place = [round(top * height), round(left * width)]
    pictures = change.resized_crop(pictures, *place, *kept, [height, width], antialias=True)
    pictures = change.adjust_brightness(pictures, brightness)
    pictures = change.adjust_contrast(pictures, contrast)
    pictures = change.adjust_saturation(pictures, saturation)
    pictures = change.adjust_hue(pictures, hue)
    deviation = blur / 100 * min(height, width)
    if deviation >= 0.1:
        pictures = change.gaussian_blur(pictures, [2 * int(3 * deviation) + 1] * 2, [deviation] * 2)
    pictures = torch.stack([change.jpeg(picture, jpeg) for picture in pictures])
    return pictures.permute(0, 2, 3, 1).numpy()
