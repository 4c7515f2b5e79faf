"""Signals of the audio: are the words said as in the source, whatever the voice? No source is silent."""

from __future__ import annotations

import numpy as np

from score.media.audio import AudioTrack
from score.media.similarity import concordance, pearson, smoothed

MIN_VOICED = 6
"""Fewest voiced frames of 16 ms in the source."""
FARTHEST = 2.0
"""Largest error of a frame, in deviations of the source's contour: pitch trackers jump by octaves."""
NEAR_PEAK = 0.97
"""Share of the peak amplitude; clipped audio has many samples above it."""
FEW = 1e-3
"""Share of samples near the peak that is not noticeable: unclipped speech has about 1e-4."""
MOMENT = 10
"""Frames of 10 ms over which a change of the loudness is averaged."""
LOST_DB = 20.0
"""A change of the loudness that is larger counts as this: the moment is lost either way."""
FLOOR_DB = -40.0
"""Loudness below this, relative to the clip's loudest moment, is silence."""
QUIET, LOUD = 0.1, 0.95
"""Quantiles over time that define the range of a band."""


def pitch(variant: AudioTrack, source: AudioTrack) -> float:
    """Concordance of the pitch contours in octaves, times the share of voiced frames kept, in [-1, 1].

    The contours are aligned by the median of their difference, and the error of a frame is clipped to
    `FARTHEST`. A voice that is higher by a constant factor scores 1, a monotone about 0. NaN if the
    source has fewer than `MIN_VOICED` voiced frames; 0 if the variant has lost them.
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


def energy(variant: AudioTrack, source: AudioTrack) -> float:
    """Concordance of the loudness contours in dB, in [-1, 1]; 1 if unchanged but for a constant gain."""
    length = min(len(variant.energy), len(source.energy))
    return concordance(variant.energy[:length], source.energy[:length])


def articulation(variant: AudioTrack, source: AudioTrack) -> float:
    """Correlation of the mel spectra in dB, each minus its mean over time, in [-1, 1]; 1 if unchanged.

    It is high if the same sounds are said at the same time; what a voice or a microphone adds to every
    frame does not count.
    """
    length = min(len(variant.bands), len(source.bands))
    a, b = (track.bands[:length] - track.bands[:length].mean(axis=0) for track in (variant, source))
    return pearson(a, b)


def dropouts(variant: AudioTrack, source: AudioTrack) -> float:
    """Minus the largest change of the loudness over `MOMENT` frames, in [-`LOST_DB`, 0] dB; 0 if unchanged.

    The change is the mean absolute one, of loudness above `FLOOR_DB`, relative to the median change, and at
    most `LOST_DB`. Lost packets, holes, echoes and other words show in their worst moment and hardly in a
    mean over the clip. Formula ours.
    """
    length = min(len(variant.energy), len(source.energy))
    a, b = (np.maximum(track.energy[:length], FLOOR_DB) for track in (variant, source))
    change = np.minimum(np.abs(a - b - np.median(a - b)), LOST_DB)
    return -float(smoothed(change, MOMENT).max())


def clarity(variant: AudioTrack, source: AudioTrack) -> float:
    """The worse of two losses relative to the source, in dB, in (-inf, 0]; 0 if unchanged.

    *Flat peaks*: the increase of the share of samples near the peak, as in clipped audio. *Depth*: the
    loss of range over time of each mel band, averaged over the bands; a larger range of one band does not
    make up for another. Noise fills the gaps between sounds, and a missing band has no range at all. A
    gain, a shifted pitch or another timbre change either only a little.

    References:
        Depth is akin to Steeneken and Houtgast 1980, "A physical method for measuring speech-transmission
        quality", who compute it by modulation frequency; both formulas are ours.
    """
    peaks = 10 * np.log10((_near_peak(source) + FEW) / (_near_peak(variant) + FEW))
    depth = np.minimum(_depth(variant) - _depth(source), 0.0).mean()
    return float(min(peaks, depth, 0.0))


def novelty(variant: AudioTrack, source: AudioTrack) -> float:
    """Root mean square difference of the mean spectra, in dB; 0 for the same voice.

    NaN if the variant is silent. Not part of a quality.
    """
    if variant.silent:
        return float("nan")
    return float(np.sqrt(((variant.spectrum - source.spectrum) ** 2).mean()))


def _near(contour: np.ndarray, source: np.ndarray) -> np.ndarray:
    """A contour aligned with its source's, with its errors clipped, (n,)."""
    off = contour - source
    farthest = FARTHEST * source.std()
    return source + np.clip(off - np.median(off), -farthest, farthest)


def _near_peak(audio: AudioTrack) -> float:
    """Share of the samples near the peak; 0 in silence."""
    amplitude = np.abs(audio.samples)
    return 0.0 if audio.silent else float((amplitude > NEAR_PEAK * amplitude.max()).mean())


def _depth(audio: AudioTrack) -> np.ndarray:
    """Range of each band over time, in dB, (BANDS,)."""
    quiet, loud = np.quantile(audio.bands, (QUIET, LOUD), axis=0)
    return loud - quiet
