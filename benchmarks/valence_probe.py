"""Probes that estimate the valence of any puppet's face or voice, to evaluate other models with.

Both are ridge regressions on puppets of the speaker pool `studio`, whose valence is known and who are in
no corpus. They share no clips with the scorer or any trained model. Both the voice's probe and the scorer's
predictor look at the range of the pitch, by which a puppet's mood is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pipelines import pitch
from pipelines.puppets import face, script, voice
from pipelines.ridge import Decomposed

FACE = (slice(14, 58), slice(12, 52))
"""Rows and columns of the face in a 64 px frame."""
FRAME_S, LOUD_DB = 0.01, -30.0
"""Length of a loudness frame, and the level relative to the loudest one above which it is speech."""

Style = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Maps frames (..., H, W, 3), float32 in [0, 1], to frames in another style."""


class FaceProbe:
    """Estimates valence from the brightness of a face's pixels."""

    def __init__(
        self, styles: Sequence[Style] = (), *, images: int = 3000, ridge: float = 30.0, seed: int = 3
    ) -> None:
        """`styles` are applied to the training frames, each as often as none, to make the probe robust."""
        rng = np.random.default_rng(seed)
        features, valences = [], []
        for _ in range(images):
            look, valence = face.random_look(rng, "studio"), rng.uniform(-1, 1)
            shift = np.clip(rng.normal(0, 0.8, 2), -2, 2)
            frame = face.draw_face(look, valence=valence, mouth=rng.uniform(), head=(shift[0], shift[1]))
            style = [None, *styles][rng.integers(1 + len(styles))]
            image = frame.astype(np.float32) / 255
            features.append(_brightness((style(image, rng) if style else image)[None])[0])
            valences.append(valence)
        self._weights, self._intercept = Decomposed(np.stack(features), np.array(valences)).fit(ridge)

    def __call__(self, frames: np.ndarray) -> float:
        """Mean estimate over frames, uint8 RGB (F, 64, 64, 3); about in [-1, 1]."""
        return float((_brightness(frames.astype(np.float32) / 255) @ self._weights + self._intercept).mean())


class VoiceProbe:
    """Estimates valence from pitch height, pitch range and pace.

    Loudness, which depends on valence too, is left out, because any gain changes it.
    """

    def __init__(self, *, sentences: int = 400, ridge: float = 1.0, seed: int = 4) -> None:
        rng = np.random.default_rng(seed)
        features, valences = [], rng.uniform(-1, 1, sentences)
        for valence in valences:
            text = script.sentence(rng.uniform(-1, 1), rng, "studio")
            who = voice.random_voice(rng, "studio")
            features.append(_prosody(voice.speak(text, who, valence=float(valence), rng=rng)))
        x = np.stack(features)
        self._mean, self._scale = x.mean(axis=0), x.std(axis=0)
        self._weights, self._intercept = Decomposed(self._standardised(x), valences).fit(ridge)

    def __call__(self, samples: np.ndarray) -> float:
        """Estimate for mono audio at 16 kHz, float32 (samples,); about in [-1, 1]."""
        return float(self._standardised(_prosody(samples)) @ self._weights + self._intercept)

    def _standardised(self, prosody: np.ndarray) -> np.ndarray:
        return np.clip((prosody - self._mean) / self._scale, -3, 3)


def _brightness(frames: np.ndarray) -> np.ndarray:
    """Standardised brightness of each face at half resolution, (F, features)."""
    grey = frames[:, *FACE].mean(axis=-1)
    small = grey[:, ::2, ::2] + grey[:, 1::2, ::2] + grey[:, ::2, 1::2] + grey[:, 1::2, 1::2]
    small = small.reshape(len(small), -1)
    return (small - small.mean(axis=1, keepdims=True)) / (small.std(axis=1, keepdims=True) + 1e-6)


def _prosody(samples: np.ndarray) -> np.ndarray:
    """Median pitch in octaves, log2 of its range in octaves, syllables per second of speech, (3,)."""
    level = np.sqrt((samples.astype(np.float64) ** 2).mean())
    # The pitch tracker depends on the level.
    samples = (samples * (voice.LOUDNESS / max(level, 1e-4))).astype(np.float32)
    octaves = np.log2(pitch.track(samples))
    octaves = octaves[np.isfinite(octaves)]
    low, middle, high = np.quantile(octaves, (0.1, 0.5, 0.9)) if len(octaves) else (0.0,) * 3
    length = round(FRAME_S * pitch.SAMPLING_RATE)
    pieces = samples[: len(samples) // length * length].reshape(-1, length).astype(np.float64)
    level = 10 * np.log10((pieces**2).mean(axis=1) + 1e-10)
    smooth = np.convolve(level, np.hanning(15) / np.hanning(15).sum(), "same")
    loud = level > level.max() + LOUD_DB
    peaks = (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:]) & loud[1:-1]
    return np.array([middle, np.log2(high - low + 0.05), peaks.sum() / (loud.sum() * FRAME_S + 0.1)])
