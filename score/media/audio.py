"""A clip's audio for the signals: pitch, loudness, and a coarse spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pipelines import pitch

SAMPLING_RATE = 16_000
HOP = 160
"""Samples from one analysis frame to the next: 10 ms."""
FRAME_RATE = SAMPLING_RATE / HOP
WINDOW = 400
"""Samples of a window for loudness and spectrum: 25 ms."""
BANDS = 24
"""Mel bands from 60 Hz to 7.6 kHz."""
FEATURES = 9
"""Length of the pooled features."""
STEP = 5
"""Frames of 16 ms over which a change of the pitch is taken: longer than the tracker's jitter, within a
syllable."""
LARGEST_CHANGE = 0.5
"""Octaves over `STEP` frames beyond which a change of the pitch is the tracker's error."""
LEAST_OCTAVES = 0.01
"""Ranges of the pitch that are far below this are none."""
DYNAMICS_DB = 50.0
"""Loudness further below the clip's loudest moment counts as silence."""
_SILENT = 1e-4  # amplitude; below this a clip is silent


@dataclass(frozen=True)
class AudioTrack:
    """Samples, and what all signals derive from them, computed once."""

    samples: np.ndarray
    """float32 mono (samples,) in [-1, 1] at `SAMPLING_RATE`."""
    text: str = ""
    """Transcript from the corpus."""
    language: str | None = None
    """Language of the transcript."""
    extracted: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Features that pre-trained models extracted, by the model's setting."""

    @cached_property
    def energy(self) -> np.ndarray:
        """Loudness in dB below the clip's loudest moment, in [-DYNAMICS_DB, 0], (T,)."""
        frames = _frames(self.samples, WINDOW)
        amplitude = np.sqrt((frames * frames).mean(axis=1))
        level = 20 * np.log10(np.maximum(amplitude, 1e-7))
        return np.maximum(level - level.max(), -DYNAMICS_DB)

    @cached_property
    def silent(self) -> bool:
        """Whether all samples are below the threshold of silence."""
        return bool(np.abs(self.samples).max(initial=0.0) < _SILENT)

    @cached_property
    def pitch(self) -> np.ndarray:
        """log2 of the pitch in Hz every 16 ms; NaN in unvoiced frames."""
        if self.silent:
            return np.full(len(self.samples) // pitch.HOP + 1, np.nan)
        return np.log2(pitch.track(self.samples))

    @cached_property
    def bands(self) -> np.ndarray:
        """Mel spectrum in dB below the clip's loudest band, in [-60, 0], (T, BANDS)."""
        frames = _frames(self.samples, WINDOW) * np.hanning(WINDOW)
        power = np.abs(np.fft.rfft(frames, 512)) ** 2
        level = 10 * np.log10(np.maximum(power @ _mel_filters(), 1e-10))
        return np.maximum(level - level.max(), -60.0)

    @cached_property
    def spectrum(self) -> np.ndarray:
        """Mean spectrum of the loud frames minus its mean, in dB, (BANDS,): the voice, not the words."""
        loud = self.bands[self.energy > -30]
        return loud.mean(axis=0) - loud.mean()

    @cached_property
    def features(self) -> np.ndarray:
        """Pooled features of the prosody, float32 (FEATURES,): how it is said, and not by whom.

        Of the pitch in octaves: mean, range from the 10 % to the 90 % quantile, range between the quartiles,
        mean change over `STEP` frames. Share of voiced frames. Of the loudness in dB: deviation, mean change
        from frame to frame. Loudness peaks per second, duration in seconds. All but the mean and the share
        are logarithms to base 2, since voices differ in them by factors. Ranges are of quantiles, which a
        tracker that jumps by octaves does not move. The spectrum, which differs most from voice to voice, is
        left out.
        """
        return np.concatenate([_melody(self.pitch), self._rhythm()]).astype(np.float32)

    def _rhythm(self) -> np.ndarray:
        smooth = np.convolve(self.energy, np.hanning(17) / np.hanning(17).sum(), "same")
        beats = ((smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:]) & (smooth[1:-1] > -25)).sum()
        duration_s = len(self.samples) / SAMPLING_RATE
        changes = np.abs(np.diff(self.energy)).mean() if len(self.energy) > 1 else 0.0
        return _logarithms([self.energy.std(), changes, max(beats, 1) / duration_s, duration_s], 0.1)

    def energy_at(self, fps: float, length: int) -> np.ndarray:
        """Mean loudness during each of `length` video frames, (n,) with n at most `length`."""
        bounds = np.round(np.arange(length + 1) * FRAME_RATE / fps).astype(int)
        bounds = bounds[bounds <= len(self.energy)]
        sums = np.concatenate([[0.0], np.cumsum(self.energy)])
        return np.diff(sums[bounds]) / np.maximum(np.diff(bounds), 1)


def _melody(pitch: np.ndarray) -> np.ndarray:
    """What `AudioTrack.features` has of the pitch, (5,); as of a monotone if no frame is voiced."""
    voiced = pitch[np.isfinite(pitch)]
    if not len(voiced):
        return np.array([0.0, *_logarithms([0.0, 0.0, 0.0]), 0.0])
    low, lower, upper, high = np.quantile(voiced, (0.1, 0.25, 0.75, 0.9))
    changes = pitch[STEP:] - pitch[:-STEP]
    changes = np.minimum(np.abs(changes[np.isfinite(changes)]), LARGEST_CHANGE)
    change = changes.mean() if len(changes) else 0.0
    share = len(voiced) / len(pitch)
    return np.array([voiced.mean(), *_logarithms([high - low, upper - lower, change]), share])


def _logarithms(values: Sequence[float], least: float = LEAST_OCTAVES) -> np.ndarray:
    """Logarithms to base 2; what is far below `least` counts as `least`."""
    return np.log2(np.asarray(values, dtype=np.float64) + least)


def _frames(samples: np.ndarray, window: int) -> np.ndarray:
    """Overlapping windows centred at 0, HOP, 2 HOP, ..., (T, window)."""
    count = max(1, len(samples) // HOP)
    half = window // 2
    padded = np.pad(samples, (half, half + HOP))
    return np.lib.stride_tricks.sliding_window_view(padded, window)[::HOP][:count].astype(np.float64)


def _mel_filters() -> np.ndarray:
    """Triangular filters of equal width on the mel scale, (257, BANDS)."""
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (60.0, 7600.0))
    centres = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    hertz = np.linspace(0, SAMPLING_RATE / 2, 257)[:, None]
    rising = (hertz - centres[:-2]) / (centres[1:-1] - centres[:-2])
    falling = (centres[2:] - hertz) / (centres[2:] - centres[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))
