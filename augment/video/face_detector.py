"""Face detection by the MTCNN of facenet-pytorch, whose weights come with the package."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.errors import RowError, UsageError

_FRAMES = 8  # of a clip that are searched for a face
_MIN_PROBABILITY = 0.9


class FaceDetector:
    """Holds the detector.

    Raises:
        UsageError: If facenet-pytorch is not installed.
    """

    def __init__(self, device: str) -> None:
        try:
            from facenet_pytorch import MTCNN
        except ImportError as error:
            raise UsageError(
                "augment.video.crop: needs facenet-pytorch, which is not installed;"
                " pip install --no-deps facenet-pytorch, or set crop: none"
            ) from error
        self.detector: Any = MTCNN(select_largest=True, device=device)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Detect the largest face in some of the frames.

        Args:
            frames: uint8 RGB (F, H, W, 3).

        Returns:
            Left, top, right, bottom in pixels, (n, 4), for the frames with a face.

        Raises:
            RowError: If there is none.
        """
        from PIL import Image

        indices = np.unique(np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int))
        boxes, probabilities = self.detector.detect([Image.fromarray(frames[index]) for index in indices])
        faces = [
            box[0]
            for box, probability in zip(boxes, probabilities, strict=True)
            if box is not None and probability[0] is not None and probability[0] >= _MIN_PROBABILITY
        ]
        if not faces:
            raise RowError(
                f"video: no face was found in {len(indices)} frames of {frames.shape[2]} x {frames.shape[1]}"
                " pixels, and crop asks for one; set augment.video.crop: none for such clips"
            )
        return np.stack(faces).astype(np.float64)
