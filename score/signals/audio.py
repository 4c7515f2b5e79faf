"""Audio: is it said as the source says it, whoever says it? No source is silent."""

from __future__ import annotations

import numpy as np

from score.media.audio import Sound
from score.similarity import concordance, pearson

MIN_VOICED = 6
"""Frames of 16 ms with a pitch that the source must have."""
FARTHEST = 2.0
"""Standard deviations of the source's contour that a frame is off by at most: trackers miss by octaves."""
NEAR_PEAK = 0.97
"""Of the loudest sample; where a sound was cut off, many samples are above this."""
FEW = 1e-3
"""Share of samples near the peak that says nothing: speech that is whole has about 1e-4."""
QUIET, LOUD = 0.1, 0.95
"""Quantiles over time between which a band rises and falls."""


def pitch(variant: Sound, source: Sound) -> float:
    """Concordance of the pitch contours in octaves, times the share of voiced frames kept, in [-1, 1].

    The contours are laid over each other by the median of their distance, and a frame that is farther
    off than `FARTHEST` counts as that far. A voice that is higher by a constant factor scores 1, a
    monotone about 0. NaN where the source has fewer than `MIN_VOICED` voiced frames; 0 where the variant
    has lost them.
    """
    length = min(len(variant.pitch), len(source.pitch))
    a, b = variant.pitch[:length], source.pitch[:length]
    voiced = np.isfinite(b)
    both = voiced & np.isfinite(a)
    if voiced.sum() < MIN_VOICED:
        return float("nan")
    if both.sum() < MIN_VOICED:
        return 0.0
    return concordance(_near(a[both], b[both]), b[both]) * float(both.sum() / voiced.sum())


def energy(variant: Sound, source: Sound) -> float:
    """Concordance of the loudness contours in dB, in [-1, 1]; 1 is kept, a constant gain does not count."""
    length = min(len(variant.energy), len(source.energy))
    return concordance(variant.energy[:length], source.energy[:length])


def articulation(variant: Sound, source: Sound) -> float:
    """Correlation of the mel spectra in dB, each band's mean over time removed, in [-1, 1]; 1 is kept.

    The same sounds are said at the same time. What a voice or a microphone adds to every frame does not
    count.
    """
    length = min(len(variant.bands), len(source.bands))
    a, b = (sound.bands[:length] - sound.bands[:length].mean(axis=0) for sound in (variant, source))
    return pearson(a, b)


def clarity(variant: Sound, source: Sound) -> float:
    """The worse of two losses beside the source, in dB, in (-inf, 0]; 0 is kept.

    *Flat peaks*: by how much more of the samples lie near the loudest one, as in sound that was cut
    off. *Depth*: by how much less each mel band rises and falls, in the mean over the bands, where
    one that does more makes up for no other. Noise fills what is between the sounds, a missing band
    does nothing at all. A gain, a moved pitch or another timbre touch neither by much.

    References:
        Depth is akin to Steeneken and Houtgast 1980, "A physical method for measuring speech-transmission
        quality", who ask for it by modulation frequency; both formulas are ours.
    """
    peaks = 10 * np.log10((_near_peak(source) + FEW) / (_near_peak(variant) + FEW))
    depth = np.minimum(_depth(variant) - _depth(source), 0.0).mean()
    return float(min(peaks, depth, 0.0))


def novelty(variant: Sound, source: Sound) -> float:
    """Root mean square difference of the voices' mean spectra, in dB; 0 is the same voice.

    NaN where the variant is silent. No part of a quality.
    """
    if variant.silent:
        return float("nan")
    return float(np.sqrt(((variant.spectrum - source.spectrum) ** 2).mean()))


def _near(contour: np.ndarray, source: np.ndarray) -> np.ndarray:
    """A contour laid over its source's, (n,), with its outliers brought near."""
    off = contour - source
    farthest = FARTHEST * source.std()
    return source + np.clip(off - np.median(off), -farthest, farthest)


def _near_peak(sound: Sound) -> float:
    """Share of the samples near the loudest; 0 in silence."""
    amplitude = np.abs(sound.samples)
    return 0.0 if sound.silent else float((amplitude > NEAR_PEAK * amplitude.max()).mean())


def _depth(sound: Sound) -> np.ndarray:
    """How far each band rises and falls, in dB, (BANDS,)."""
    quiet, loud = np.quantile(sound.bands, (QUIET, LOUD), axis=0)
    return loud - quiet
