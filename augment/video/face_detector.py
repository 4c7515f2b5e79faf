"""Where the face is: MTCNN of facenet-pytorch, whose weights come with the package."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.errors import RowError, UsageError

_LOOKED_AT = 8
"""Frames of a clip in which the face is looked for."""
_SURE = 0.9
"""Probability from which a face counts."""


class FaceFinder:
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
        """The largest face of some of the frames.

        Args:
            frames: uint8 RGB (F, H, W, 3).

        Returns:
            Left, top, right, bottom in pixels, (n, 4), of the frames that have one.

        Raises:
            RowError: If none has.
        """
        from PIL import Image

        places = np.unique(np.linspace(0, len(frames) - 1, _LOOKED_AT).round().astype(int))
        boxes, chances = self.detector.detect([Image.fromarray(frames[place]) for place in places])
        found = [
            box[0]
            for box, chance in zip(boxes, chances, strict=True)
            if box is not None and chance[0] is not None and chance[0] >= _SURE
        ]
        if not found:
            raise RowError(
                f"video: no face was found in {len(places)} frames of {frames.shape[2]} x {frames.shape[1]}"
                " pixels, and crop asks for one; set augment.video.crop: none for such clips"
            )
        return np.stack(found).astype(np.float64)
