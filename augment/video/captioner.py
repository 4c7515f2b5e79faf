"""Captions of clips, by an image captioner from transformers."""

from __future__ import annotations

import numpy as np

from pipelines.pretrained import Pretrained

_TOKENS = 24  # of a caption, so that with a style's words it stays within CLIP's 77 tokens


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

        inputs = self.processor(images=Image.fromarray(frame), return_tensors="pt").to(self.model.device)
        tokens = self.model.generate(**inputs, max_new_tokens=_TOKENS, do_sample=False)
        return self.processor.batch_decode(tokens, skip_special_tokens=True)[0].strip().rstrip(".").lower()
