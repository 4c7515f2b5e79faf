"""What is derived from a picture, against pictures whose values are known."""

from __future__ import annotations

import numpy as np

from score.media.video import VideoTrack, pooled, resized
from tests.score.clips import face


def test_pooled_is_the_mean_of_each_cell() -> None:
    images = np.random.default_rng(0).uniform(size=(2, 12, 16)).astype(np.float32)
    expected = images.reshape(2, 4, 3, 4, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(pooled(images, 4), expected, atol=1e-6)


def test_pooled_takes_more_cells_than_pixels() -> None:
    images = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    found = pooled(images, 8)
    assert found.shape == (1, 8, 8)
    assert found[0, 0, 0] == 0
    assert found[0, -1, -1] == 5


def test_resizing_there_and_back_keeps_the_means() -> None:
    frames = face(0, np.linspace(0, 1, 5))
    back = resized(resized(VideoTrack(frames, 10), 24, 36), *frames.shape[1:3])
    assert abs(back.luma.mean() - VideoTrack(frames, 10).luma.mean()) < 0.01


def test_normalised_brightness_ignores_contrast() -> None:
    frames = face(0, np.linspace(0, 1, 5))
    paler = (60 + 0.5 * frames).astype(np.uint8)
    difference = VideoTrack(paler, 10).normalised - VideoTrack(frames, 10).normalised
    assert np.abs(difference).max() < 0.05


def test_features_see_the_smile_and_not_the_contrast() -> None:
    mouth = np.full(12, 0.3)
    calm, smiling = (VideoTrack(face(1, mouth, smile=smile), 10).features for smile in (0.0, 1.0))
    paler = VideoTrack((60 + 0.5 * face(1, mouth)).astype(np.uint8), 10).features
    smile = np.linalg.norm(smiling - calm)
    assert np.linalg.norm(paler - calm) < 0.1 * smile
