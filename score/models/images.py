"""What image models see in a clip's frames: embeddings, and the expression of the face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.errors import UsageError
from score.media.video import Pixels
from score.models.faces import SEEN_FPS, FaceFinder, crop
from score.models.hub import named

EMBEDDED_FPS = 2.0
"""Frames a second that are embedded: what a picture shows changes slowly."""
BATCH = 16
"""Frames that go through a model at once."""
MARGIN = 0.1
"""Share of a face's box that is added on each side before its expression is looked at."""


@dataclass(frozen=True)
class ImageEmbedder:
    """CLIP, SigLIP, or another model of images and words."""

    processor: Any
    model: Any

    def __call__(self, pixels: Pixels) -> np.ndarray:
        """A vector of length 1 for each frame at `EMBEDDED_FPS`, (n, d)."""
        found = self.model.get_image_features
        vectors = _through(self.processor, found, list(pixels.at(EMBEDDED_FPS)), self.model.device)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


@dataclass(frozen=True)
class ExpressionReader:
    """A classifier of expressions, and what finds the face for it."""

    processor: Any
    model: Any
    faces: FaceFinder | None
    """Without one the whole picture is classified."""

    def __call__(self, pixels: Pixels) -> np.ndarray:
        """Class probabilities of each frame at `SEEN_FPS`, (n, classes); NaN where it has no face."""
        import torch

        frames = list(pixels.at(SEEN_FPS))
        if self.faces is not None:
            boxes = self.faces.of(pixels).boxes
            frames = [
                None if np.isnan(box).any() else crop(frame, box, MARGIN)
                for frame, box in zip(frames, boxes, strict=True)
            ]
        there = [index for index, frame in enumerate(frames) if frame is not None]
        found = np.full((len(frames), self.model.config.num_labels), np.nan, dtype=np.float32)
        if there:
            shown = [frames[index] for index in there]
            logits = _through(self.processor, self.model, shown, self.model.device)
            found[there] = torch.from_numpy(logits).softmax(-1).numpy()
        return found


def load_image(name: str, device: str) -> ImageEmbedder:
    """Load a model that embeds images.

    Raises:
        UsageError: If it cannot be had, or does not embed images.
    """
    processor, model = named("image", name).load(
        processor="AutoImageProcessor", model="AutoModel", device=device
    )
    if not hasattr(model, "get_image_features"):
        raise UsageError(
            f"score.models.image: {name!r} is a {type(model).__name__}, which has no image embedding;"
            " takes CLIP, SigLIP or another model of images and words"
        )
    return ImageEmbedder(processor, model)


def load_expression(name: str, device: str, faces: FaceFinder | None) -> ExpressionReader:
    """Load a classifier of images.

    Raises:
        UsageError: If it cannot be had, or is no classifier.
    """
    classes = {"processor": "AutoImageProcessor", "model": "AutoModelForImageClassification"}
    return ExpressionReader(*named("expression", name).load(**classes, device=device), faces)


def _through(processor: Any, call: Any, frames: list[np.ndarray], device: Any) -> np.ndarray:
    """What a model makes of uint8 RGB frames (H, W, 3), in batches: (n, d), an embedding or logits each."""
    import torch

    found = []
    with torch.inference_mode():
        for start in range(0, len(frames), BATCH):
            images = [torch.from_numpy(frame).permute(2, 0, 1) for frame in frames[start : start + BATCH]]
            inputs = processor(images=images, return_tensors="pt", input_data_format="channels_first")
            made = call(pixel_values=inputs["pixel_values"].to(device))
            if not isinstance(made, torch.Tensor):
                made = made.logits if "logits" in made else made.pooler_output
            found.append(made.float().cpu().numpy())
    return np.concatenate(found)
