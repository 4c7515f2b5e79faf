"""What a clip shows, in words, by an image captioner of transformers."""

from __future__ import annotations

import numpy as np

from pipelines.pretrained import Pretrained

_TOKENS = 24
"""The longest caption, so that with a style's words it stays within the 77 tokens of CLIP."""


class Captioner:
    """Holds a model such as Salesforce/blip-image-captioning-base.

    Raises:
        UsageError: If it cannot be loaded.
    """

    def __init__(self, model: str, revision: str | None, device: str) -> None:
        source = Pretrained(
            setting="augment.video.captioner",
            name=model,
            revision=revision,
            purpose="as an image captioner",
            advice="take one such as Salesforce/blip-image-captioning-base, or null",
        )
        self.processor, self.model = source.load(
            processor="AutoProcessor", model="AutoModelForImageTextToText", device=device
        )

    def __call__(self, frame: np.ndarray) -> str:
        """A caption of a frame, uint8 RGB (H, W, 3), in lower case and without a full stop."""
        from PIL import Image

        given = self.processor(images=Image.fromarray(frame), return_tensors="pt").to(self.model.device)
        made = self.model.generate(**given, max_new_tokens=_TOKENS, do_sample=False)
        return self.processor.batch_decode(made, skip_special_tokens=True)[0].strip().rstrip(".").lower()
