"""Image models: embeddings of frames, and facial expressions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.errors import UsageError
from score.media.video import Pixels
from score.models.faces import FACE_FPS, FaceFinder, crop
from score.models.settings import named

EMBEDDED_FPS = 2.0
"""Frames per second that are embedded; the content of a video changes slowly."""
BATCH = 16
"""Frames per batch."""
MARGIN = 0.1
"""Share of a face's box that is added on each side before its expression is classified."""


@dataclass(frozen=True)
class ImageEmbedder:
    """CLIP, SigLIP, or another model of images and text."""

    processor: Any
    model: Any

    def __call__(self, pixels: Pixels) -> np.ndarray:
        """A vector of length 1 for each frame at `EMBEDDED_FPS`, (n, d)."""
        frames = list(pixels.at(EMBEDDED_FPS))
        vectors = _run(self.processor, self.model.get_image_features, frames, self.model.device)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


@dataclass(frozen=True)
class ExpressionReader:
    """A classifier of expressions, with a face detector for its input."""

    processor: Any
    model: Any
    faces: FaceFinder | None
    """If None, whole frames are classified."""

    def __call__(self, pixels: Pixels) -> np.ndarray:
        """Class probabilities of each frame at `FACE_FPS`, (n, classes); NaN without a face."""
        import torch

        frames = list(pixels.at(FACE_FPS))
        if self.faces is not None:
            boxes = self.faces.of(pixels).boxes
            frames = [
                None if np.isnan(box).any() else crop(frame, box, MARGIN)
                for frame, box in zip(frames, boxes, strict=True)
            ]
        there = [index for index, frame in enumerate(frames) if frame is not None]
        probabilities = np.full((len(frames), self.model.config.num_labels), np.nan, dtype=np.float32)
        if there:
            faces = [frames[index] for index in there]
            logits = _run(self.processor, self.model, faces, self.model.device)
            probabilities[there] = torch.from_numpy(logits).softmax(-1).numpy()
        return probabilities


def load_image(name: str, device: str) -> ImageEmbedder:
    """Load a model that embeds images.

    Raises:
        UsageError: If it cannot be loaded, or does not embed images.
    """
    processor, model = named("image", name).load(
        processor="AutoImageProcessor", model="AutoModel", device=device
    )
    if not hasattr(model, "get_image_features"):
        raise UsageError(
            f"score.models.image: {name!r} is a {type(model).__name__}, which has no image embedding;"
            " choose CLIP, SigLIP or another model of images and text"
        )
    return ImageEmbedder(processor, model)


def load_expression(name: str, device: str, faces: FaceFinder | None) -> ExpressionReader:
    """Load a classifier of images.

    Raises:
        UsageError: If it cannot be loaded, or is not a classifier.
    """
    classes = {"processor": "AutoImageProcessor", "model": "AutoModelForImageClassification"}
    return ExpressionReader(*named("expression", name).load(**classes, device=device), faces)


def _run(processor: Any, call: Any, frames: list[np.ndarray], device: Any) -> np.ndarray:
    """A model's embeddings or logits for uint8 RGB frames (H, W, 3), computed in batches, (n, d)."""
    import torch

    outputs = []
    with torch.inference_mode():
        for start in range(0, len(frames), BATCH):
            images = [torch.from_numpy(frame).permute(2, 0, 1) for frame in frames[start : start + BATCH]]
            inputs = processor(images=images, return_tensors="pt", input_data_format="channels_first")
            output = call(pixel_values=inputs["pixel_values"].to(device))
            if not isinstance(output, torch.Tensor):
                output = output.logits if "logits" in output else output.pooler_output
            outputs.append(output.float().cpu().numpy())
    return np.concatenate(outputs)
