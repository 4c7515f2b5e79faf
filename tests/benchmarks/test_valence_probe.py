"""The probes read the mood of puppets that they never saw, through other looks and voices."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.valence_probe import FaceProbe, VoiceProbe
from pipelines.puppets import face, script, voice


def darker(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (0.1 + 0.5 * frames[..., [1, 2, 0]] ** rng.uniform(0.6, 1.6)).astype(np.float32)


@pytest.fixture(scope="module")
def faces() -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(1)
    valences = rng.uniform(-1, 1, 24)
    mouth = np.abs(np.sin(np.arange(8)))
    looks = [face.random_look(rng, "test") for _ in valences]
    shown = [
        face.draw_clip(look, valence=float(valence), mouth=mouth, rng=rng)
        for look, valence in zip(looks, valences, strict=True)
    ]
    return shown, valences


def test_the_valence_of_unseen_faces_is_read(faces: tuple[list[np.ndarray], np.ndarray]) -> None:
    shown, valences = faces
    probe = FaceProbe(images=1200)
    assert np.corrcoef([probe(frames) for frames in shown], valences)[0, 1] > 0.85


def test_a_style_that_it_knows_does_not_hide_the_valence(faces: tuple[list[np.ndarray], np.ndarray]) -> None:
    shown, valences = faces
    probe, rng = FaceProbe([darker], images=1200), np.random.default_rng(2)
    styled = [np.round(255 * darker(frames / 255, rng)).astype(np.uint8) for frames in shown]
    assert np.corrcoef([probe(frames) for frames in styled], valences)[0, 1] > 0.85


def test_how_far_a_voice_moved_is_read_whatever_its_loudness() -> None:
    probe, rng = VoiceProbe(sentences=60), np.random.default_rng(3)
    moved, read = [], []
    for _ in range(10):
        who, text = voice.random_voice(rng, "test"), script.sentence(0.0, rng, "test")
        first, second = rng.uniform(-1, 1, 2)
        takes = [voice.speak(text, who, valence=float(each), rng=rng) for each in (first, second)]
        assert probe(0.5 * takes[0]) == pytest.approx(probe(takes[0]), abs=0.15)
        moved.append(second - first)
        read.append(probe(takes[1]) - probe(takes[0]))
    assert np.corrcoef(moved, read)[0, 1] > 0.8


def test_silence_has_a_reading() -> None:
    assert np.isfinite(VoiceProbe(sentences=8)(np.zeros(16000, dtype=np.float32)))
