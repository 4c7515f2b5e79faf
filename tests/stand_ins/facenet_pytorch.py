"""A stand-in for the face detector of facenet-pytorch, whose own requirements do not allow today's torch.

Put `tests/stand_ins` on the path to import it. `MTCNN.detect` answers as the real one does; a face is
what differs from the picture's upper left corner.
"""

from __future__ import annotations

import numpy as np
from PIL import Image


class MTCNN:
    def __init__(self, *, select_largest: bool, device: str) -> None:
        self.settings = (select_largest, device)

    def detect(self, images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        boxes, chances = np.empty(len(images), dtype=object), np.empty(len(images), dtype=object)
        for place, image in enumerate(images):
            picture = np.asarray(image).astype(int)
            rows, columns = np.nonzero(np.abs(picture - picture[0, 0]).max(axis=-1) > 40)
            if len(rows) == 0:
                boxes[place], chances[place] = None, [None]
            else:
                corners = [columns.min(), rows.min(), columns.max(), rows.max()]
                boxes[place], chances[place] = np.array([corners], dtype=np.float32), np.array([0.99])
        return boxes, chances
